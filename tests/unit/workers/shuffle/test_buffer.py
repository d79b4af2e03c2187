"""Map buffers: where they spill, what they combine, what they leave on disk."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import mr.agg
from mr.errors import BadAggregate, MrError, UnencodableKey, UnencodableValue
from mr.workers.shuffle import buffer as buffer_module
from mr.workers.shuffle.buffer import MapBuffer, SegmentFile
from mr.workers.shuffle.combine import PythonCombiner
from mr.workers.shuffle.group import Grouped
from mr.workers.shuffle.segment_index import find_segment


def make(work_dir: Path, **options: Any) -> MapBuffer:
    defaults = {"partitions": 1, "work_dir": work_dir, "spill_rows": 1000, "spill_bytes": 1 << 20}
    return MapBuffer(**(defaults | options))


def groups(file: SegmentFile, partition: int = 0) -> list[tuple[Any, list[Any]]]:
    grouped = Grouped([file.segment(partition)], group_bytes=1 << 20, work_dir=file.path.parent)
    return [
        (key, list(values))
        for batch in grouped.batches()
        for key, values in zip(batch.keys, batch.values, strict=True)
    ]


def test_nothing_added_leaves_a_file_without_segments(tmp_path: Path) -> None:
    for combiner in (None, mr.agg.sum, PythonCombiner(lambda keys, values: (keys, values))):
        file = make(tmp_path, partitions=3, combiner=combiner).finish(tmp_path / "out")
        assert file.partition_bytes == (0, 0, 0)
        assert file.rows == 0
        assert [find_segment(file.path, partition).bytes for partition in range(3)] == [0, 0, 0]


def test_spills_fall_at_counted_rows(tmp_path: Path) -> None:
    buffer = make(tmp_path, spill_rows=4)
    for start in range(0, 10, 2):
        buffer.add(["k", "l"], [start, start + 1])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["spill-00000", "spill-00001"]
    file = buffer.finish(tmp_path / "out")
    assert (file.spills, file.rows) == (3, 10)
    assert file.spilled_bytes > 0
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert groups(file) == [("k", [0, 2, 4, 6, 8]), ("l", [1, 3, 5, 7, 9])]


def test_spills_fall_at_counted_bytes(tmp_path: Path) -> None:
    buffer = make(tmp_path, spill_bytes=200)
    for _ in range(3):
        buffer.add(["k"], ["x" * 60])
    file = buffer.finish(tmp_path / "out")
    assert file.spills == 2


def test_small_rows_count_with_what_it_takes_to_sort_them(tmp_path: Path) -> None:
    buffer = make(tmp_path, spill_rows=1 << 30, spill_bytes=64_000)
    for start in range(0, 2000, 100):
        buffer.add(list(range(start, start + 100)), [1] * 100)  # 32 kB in all
    assert buffer.finish(tmp_path / "out").spills > 3


def test_combined_small_rows_count_with_what_it_takes_to_merge_them(tmp_path: Path) -> None:
    buffer = make(tmp_path, spill_rows=100, spill_bytes=64_000, combiner=mr.agg.sum)
    for start in range(0, 1000, 100):
        buffer.add(list(range(start, start + 100)), [1] * 100)
    assert buffer.finish(tmp_path / "out").spills > 1


def test_a_buffer_never_outgrows_a_column(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buffer_module, "MAX_BUFFER_BYTES", 100)
    buffer = make(tmp_path)
    buffer.add(["k"], ["x" * 30])
    buffer.add(["k"], ["y" * 99])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["spill-00000", "spill-00001"]
    assert groups(buffer.finish(tmp_path / "out")) == [("k", ["x" * 30, "y" * 99])]


def test_combined_rows_stay_in_memory(tmp_path: Path) -> None:
    buffer = make(tmp_path, spill_rows=2, combiner=mr.agg.sum)
    for n in range(10):
        buffer.add(["a", "b"], [n, 1])
    file = buffer.finish(tmp_path / "out")
    assert (file.spills, file.rows) == (0, 2)
    assert groups(file) == [("a", [45]), ("b", [10])]


def test_combined_rows_spill_when_they_do_not_shrink(tmp_path: Path) -> None:
    buffer = make(tmp_path, spill_rows=10, spill_bytes=2500, combiner=mr.agg.sum)
    for start in range(0, 100, 10):
        buffer.add([f"key {n % 50}" for n in range(start, start + 10)], [1] * 10)
    file = buffer.finish(tmp_path / "out")
    assert file.spills > 1
    assert groups(file) == [(key, [2]) for key in sorted(f"key {n}" for n in range(50))]


def test_python_combiner_sees_keys_in_order_with_lists(tmp_path: Path) -> None:
    calls: list[tuple[list[Any], list[list[Any]]]] = []

    def call(keys: list[Any], values: list[list[Any]]) -> tuple[list[Any], list[Any]]:
        calls.append((keys, values))
        return keys, [sum(items) for items in values]

    buffer = make(tmp_path, combiner=PythonCombiner(call))
    buffer.add(["b", "a", "b"], [1, 2, 3])
    file = buffer.finish(tmp_path / "out")
    assert calls == [(["a", "b"], [[2], [1, 3]])]
    assert groups(file) == [("a", [2]), ("b", [4])]


def test_a_combiner_may_drop_everything(tmp_path: Path) -> None:
    buffer = make(tmp_path, combiner=PythonCombiner(lambda keys, values: ([], [])), spill_rows=2)
    for _ in range(3):
        buffer.add(["a", "b"], [1, 2])
    assert buffer.finish(tmp_path / "out").rows == 0


def test_other_keys_of_a_combiner_go_where_they_belong(tmp_path: Path) -> None:
    def call(keys: list[Any], values: list[list[Any]]) -> tuple[list[Any], list[Any]]:
        return [key.lower() for key in keys], [sum(items) for items in values]

    buffer = make(
        tmp_path,
        partitions=2,
        spill_rows=2,
        spill_bytes=1,
        combiner=PythonCombiner(call),
        partitioner=lambda key, partitions: int(key.islower()),
    )
    for _ in range(3):
        buffer.add(["A", "b", "C"], [1, 2, 3])
    file = buffer.finish(tmp_path / "out")
    assert file.partition_bytes[0] == 0
    assert [(key, sum(values)) for key, values in groups(file, 1)] == [("a", 3), ("b", 6), ("c", 9)]


def test_a_partitioner_is_asked_once_a_key(tmp_path: Path) -> None:
    asked: list[Any] = []

    def partitioner(key: Any, partitions: int) -> int:
        asked.append((key, partitions))
        return key % partitions

    buffer = make(tmp_path, partitions=2, partitioner=partitioner)
    buffer.add([1, 2, 1, 4], ["a", "b", "c", "d"])
    file = buffer.finish(tmp_path / "out")
    assert asked == [(1, 2), (2, 2), (4, 2)]
    assert groups(file, 0) == [(2, ["b"]), (4, ["d"])]
    assert groups(file, 1) == [(1, ["a", "c"])]


def test_record_batches(tmp_path: Path) -> None:
    buffer = make(tmp_path)
    batch = pa.record_batch(
        {"key": pa.array(["a", "b"]).dictionary_encode(), "value": pa.array([1, 2], pa.int8())}
    )
    buffer.add_batch(batch)
    buffer.add_batch(batch.slice(1))
    buffer.add_batch(batch.slice(2))
    assert groups(buffer.finish(tmp_path / "out")) == [("a", [1]), ("b", [2, 2])]


def test_mistakes_are_told(tmp_path: Path) -> None:
    buffer = make(tmp_path, combiner=mr.agg.sum)
    with pytest.raises(MrError, match="2 keys and 1 values"):
        buffer.add(["a", "b"], [1])
    with pytest.raises(UnencodableKey) as key_error:
        buffer.add(["a", []], [1, 1])
    with pytest.raises(UnencodableValue) as value_error:
        buffer.add(["a"], [object()])
    assert (key_error.value.row, value_error.value.row) == (1, 0)
    buffer.add(["a"], ["x"])
    with pytest.raises(BadAggregate):
        buffer.finish(tmp_path / "out")
