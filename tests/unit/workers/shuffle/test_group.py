"""Groups of a partition: in memory, by merging in several passes, giant keys, mixed kinds, damage."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import pytest

import mr.agg
from mr.agg import Aggregation
from mr.errors import SegmentCorrupt
from mr.workers.shuffle import merge, segment
from mr.workers.shuffle.aggregate import KERNELS
from mr.workers.shuffle.buffer import MapBuffer
from mr.workers.shuffle.combine import Combiner
from mr.workers.shuffle.group import Grouped
from mr.workers.shuffle.result_table import is_native, to_pairs
from mr.workers.shuffle.segment import SegmentSource
from mr.workers.shuffle.segment_index import SegmentRef

Pairs = list[tuple[Any, Any]]

AGGREGATIONS = [
    mr.agg.sum,
    mr.agg.count,
    mr.agg.min,
    mr.agg.max,
    mr.agg.mean,
    mr.agg.collect,
    mr.agg.count_distinct,
    mr.agg.first,
    mr.agg.last,
    mr.agg.top_k(40),
    mr.agg.quantiles(0.1, 0.77),
    mr.agg.each(mr.agg.sum, mr.agg.top_k(3)),
    mr.agg.each(mr.agg.mean, mr.agg.collect),
]


def write(directory: Path, name: str, pairs: Pairs, combiner: Combiner | None = None) -> SegmentRef:
    buffer = MapBuffer(
        partitions=1, work_dir=directory, spill_rows=10_000, spill_bytes=1 << 20, combiner=combiner
    )
    buffer.add([key for key, _ in pairs], [value for _, value in pairs])
    return buffer.finish(directory / name).segment(0)


class Watched:
    """A segment that remembers the streams it gave out."""

    def __init__(self, source: SegmentSource) -> None:
        self._source = source
        self.bytes = source.bytes
        self.streams: list[BinaryIO] = []

    def open(self) -> BinaryIO:
        self.streams.append(self._source.open())
        return self.streams[-1]


def grouped(directory: Path, maps: list[Pairs], group_bytes: int = 1 << 20, **options: Any) -> Grouped:
    combiner = options.pop("combiner", None)
    sources = [write(directory, f"map-{index}", pairs, combiner) for index, pairs in enumerate(maps)]
    work = directory / "work"
    work.mkdir()
    return Grouped(sources, group_bytes=group_bytes, work_dir=work, **options)


def listed(groups: Grouped) -> list[tuple[Any, list[Any]]]:
    return [
        (key, list(values))
        for batch in groups.batches()
        for key, values in zip(batch.keys, batch.values, strict=True)
    ]


def test_values_come_by_map_then_by_record(tmp_path: Path) -> None:
    groups = grouped(tmp_path, [[("b", 1), ("a", 2), ("b", 3)], [("b", 4)], [], [("a", 5)]])
    assert listed(groups) == [("a", [2, 5]), ("b", [1, 3, 4])]
    assert listed(groups) == [("a", [2, 5]), ("b", [1, 3, 4])]


def test_kinds_of_different_maps_meet(tmp_path: Path) -> None:
    maps: list[Pairs] = [[(1, 1), (2, 2)], [(2, "x"), (None, 1)], [(2.0, 1.5)], [(True, False), (2, 1 << 70)]]
    expected = [(None, [1]), (True, [False]), (1, [1]), (2, [2, "x", 1 << 70]), (2.0, [1.5])]
    found = listed(grouped(tmp_path, maps))
    assert found == expected
    assert [type(key) for key, _ in found] == [type(key) for key, _ in expected]


@pytest.fixture
def tiny_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three values a batch, two runs open at a time, so that small data takes the paths of large."""
    monkeypatch.setattr(segment, "BATCH_VALUES", 3)
    monkeypatch.setattr(merge, "MAX_OPEN_RUNS", 2)


MANY: list[Pairs] = [[((m * n) % 7, m * 100 + n) for n in range(20)] for m in range(9)]


@pytest.mark.usefixtures("tiny_batches")
@pytest.mark.parametrize("group_bytes", [1, 300, 1 << 20])
@pytest.mark.parametrize("combiner", [None, mr.agg.max], ids=repr)
def test_merging_in_passes(tmp_path: Path, group_bytes: int, combiner: Aggregation | None) -> None:
    expected: dict[int, list[int]] = {}
    for pairs in MANY:
        best: dict[int, list[int]] = {}
        for key, value in pairs:
            best.setdefault(key, []).append(value)
        for key, values in best.items():
            expected.setdefault(key, []).extend([max(values)] if combiner else values)
    groups = grouped(tmp_path, MANY, group_bytes, combiner=combiner)
    results = [pair for table in groups.aggregate(mr.agg.max) for pair in zip(*to_pairs(table), strict=True)]
    assert results == [(key, max(expected[key])) for key in sorted(expected)]
    if combiner is None:
        assert listed(groups) == sorted(expected.items())
    assert list((tmp_path / "work").iterdir()) == []


def is_lazy(values: Iterable[Any]) -> bool:
    return not isinstance(values, list)


@pytest.mark.usefixtures("tiny_batches")
@pytest.mark.parametrize(("group_bytes", "lazy_weight"), [(1, 1 << 20), (1 << 20, 500)])
@pytest.mark.parametrize("used", [0, 1, 100])
def test_a_giant_key_streams(tmp_path: Path, group_bytes: int, lazy_weight: int, used: int) -> None:
    """Whether it outgrows the budget or only a list, and however much of it is consumed."""
    maps: list[Pairs] = [
        [("a", 0)] + [("big", n) for n in range(m * 50, m * 50 + 50)] + [("c", 1)] for m in range(2)
    ]
    found = []
    for batch in grouped(tmp_path, maps, group_bytes, lazy_weight=lazy_weight).batches():
        for key, values in zip(batch.keys, batch.values, strict=True):
            if key == "big":
                assert is_lazy(values)
                assert len(batch.keys) == 1
            found.append((key, [value for value, _ in zip(values, range(used), strict=False)]))
    assert found == [("a", [0, 0][:used]), ("big", list(range(100))[:used]), ("c", [1, 1][:used])]


@pytest.mark.usefixtures("tiny_batches")
@pytest.mark.parametrize("aggregation", AGGREGATIONS, ids=repr)
@pytest.mark.parametrize("combine", [False, True])
def test_a_giant_key_aggregates(tmp_path: Path, aggregation: Aggregation, combine: bool) -> None:
    wrap = (lambda n: (n, -n)) if aggregation.spec.name == "each" else (lambda n: n)
    maps: list[Pairs] = [[("big", wrap(n % 30)) for n in range(m * 50, m * 50 + 50)] for m in range(3)]
    groups = grouped(tmp_path, maps, 1, combiner=aggregation if combine else None)
    (table,) = groups.aggregate(aggregation)
    keys, values = to_pairs(table)
    assert {one.spec.name for one in AGGREGATIONS} == set(KERNELS)
    assert keys == ["big"]
    assert values == [aggregation.reduce_values([value for pairs in maps for _, value in pairs])]


@pytest.mark.usefixtures("tiny_batches")
def test_a_reducer_that_stops_leaves_nothing_open(tmp_path: Path) -> None:
    groups = grouped(tmp_path, MANY, 300)
    opened = [Watched(source) for source in groups._sources]
    groups._sources = opened
    batches = groups.batches()
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert any(source.streams for source in opened)
    assert all(stream.closed for source in opened for stream in source.streams)
    assert list((tmp_path / "work").iterdir()) == []


def test_results_are_native_where_they_can_be(tmp_path: Path) -> None:
    native = grouped(tmp_path, [[("a", 1)]])
    assert all(is_native(table) for table in native.aggregate(mr.agg.sum))
    assert not any(is_native(table) for table in native.aggregate(mr.agg.collect))
    (tmp_path / "other").mkdir()
    encoded = grouped(tmp_path / "other", [[(("a", 1), 1)]])
    (table,) = encoded.aggregate(mr.agg.sum)
    assert not is_native(table)
    assert to_pairs(table) == ([("a", 1)], [1])


def test_partial_states_come_as_results_to_another_reducer(tmp_path: Path) -> None:
    """A built-in `combine_fn` beside a Python `reduce_fn`; another built-in refuses them."""
    groups = grouped(tmp_path, [[("a", 1), ("a", 2)], [("a", 5)]], combiner=mr.agg.mean)
    assert listed(groups) == [("a", [1.5, 5.0])]
    assert [to_pairs(table) for table in groups.aggregate(mr.agg.mean)] == [(["a"], [8 / 3])]
    for other in (mr.agg.max, mr.agg.collect):
        with pytest.raises(SegmentCorrupt, match=f"partial results of mr.agg.mean, not of {other}"):
            list(groups.aggregate(other))


def test_damage_is_told(tmp_path: Path) -> None:
    source = write(tmp_path, "map", [("a", 1)])
    data = bytearray(source.path.read_bytes())
    data[len(data) // 2] ^= 1
    source.path.write_bytes(data)
    for group_bytes in (1, 1 << 20):
        with pytest.raises(SegmentCorrupt):
            listed(Grouped([source], group_bytes=group_bytes, work_dir=tmp_path))


def test_maps_of_two_layouts_do_not_mix(tmp_path: Path) -> None:
    sources = [write(tmp_path, "raw", [("a", 1)]), write(tmp_path, "state", [("a", 1)], mr.agg.sum)]
    with pytest.raises(SegmentCorrupt, match="differ in layout"):
        listed(Grouped(sources, group_bytes=1 << 20, work_dir=tmp_path))
