"""Reduce attempts: groups through user functions and built-ins, lost inputs, failures that name the key."""

import shlex
import textwrap
from pathlib import Path
from typing import Any

import pytest

from mr.protocol.failures import Failure, FailureKind, LostInput
from mr.protocol.ids import Incarnation, TaskId, WorkerId
from mr.protocol.records import MapOutput, PartOutput
from mr.workers.shuffle.group import GroupBatch
from mr.workers.shuffle.segment_index import find_segment
from mr.workers.task import reduce_task
from tests.support.attempts import Workbench, failure_of

MAP = "def map_fn(key, line):\n    word, number = line.split()\n    yield word, int(number)\n"
LINES = "b 1\na 2\nb 3\nc 4\na 5\n"


def run(directory: Path, reducer: str, text: str = LINES, **changes: Any) -> list[str]:
    """Run a job with one reducer over one file; returns its output lines."""
    bench = Workbench(directory, MAP + textwrap.dedent(reducer), **changes)
    bench.run([bench.write_input("in.txt", text)])
    return bench.lines()


def fail(directory: Path, reducer: str, text: str = LINES, **changes: Any) -> Failure:
    """Run a job whose only reducer must fail; returns how."""
    bench = Workbench(directory, MAP + textwrap.dedent(reducer), **changes)
    outputs = map_all(bench, text)
    failure = failure_of(lambda: bench.reduce(0, outputs))
    assert not list(bench.output.rglob("part-*")), "an unfinished part was left"
    return failure


def map_all(bench: Workbench, text: str, split_bytes: int = 1 << 20) -> list[MapOutput]:
    """Map one file; returns the outputs."""
    results = [bench.map(split) for split in bench.plan([bench.write_input("in.txt", text)], split_bytes)]
    return [result.output for result in results if isinstance(result.output, MapOutput)]


# --- shapes of reducers


@pytest.mark.parametrize(
    "reducer",
    [
        "def reduce_fn(key, values):\n    yield key, sum(values)\n",
        "def reduce_fn(key, values):\n    return [(key, sum(values))]\n",
        "reduce_fn = lambda key, values: {key: sum(values)}.items()\n",
        "import mr\nreduce_fn = mr.agg.sum\n",
        "import mr\nreduce_fn = combine_fn = mr.agg.sum\n",
        "def reduce_fn(key, values):\n    yield key, sum(values)\ncombine_fn = reduce_fn\n",
        "import mr\ncombine_fn = mr.agg.sum\ndef reduce_fn(key, values):\n    yield key, sum(values)\n",
    ],
)
def test_shapes_give_the_same(tmp_path: Path, reducer: str) -> None:
    assert run(tmp_path, reducer) == ["a\t7", "b\t4", "c\t4"]


def test_values_come_in_input_order_whatever_the_splits(tmp_path: Path) -> None:
    text = "".join(f"{'abc'[number % 3]} {number}\n" for number in range(60))
    reducer = "def reduce_fn(key, values):\n    yield key, list(values)\n"
    expected = [f"{key}\t{list(range(start, 60, 3))}" for start, key in enumerate("abc")]
    for split_bytes in (1, 13, 10_000):
        bench = Workbench(tmp_path / str(split_bytes), MAP + reducer)
        bench.run([bench.write_input("in.txt", text)], split_bytes)
        assert bench.lines() == expected


def test_values_may_be_left_unread(tmp_path: Path) -> None:
    reducer = "def reduce_fn(key, values):\n    yield key, next(values)\n"
    assert run(tmp_path, reducer) == ["a\t2", "b\t1", "c\t4"]


def test_none_gives_nothing(tmp_path: Path) -> None:
    assert run(tmp_path, "def reduce_fn(key, values):\n    return None\n") == []


def test_hooks_and_counters(tmp_path: Path) -> None:
    reducer = """
        import mr
        def reduce_init():
            global keys
            keys = []
        def reduce_fn(key, values):
            mr.counter("keys").add()
            keys.append(key)
        def reduce_final():
            yield "keys", keys
    """
    bench = Workbench(tmp_path, MAP + textwrap.dedent(reducer))
    result = bench.run([bench.write_input("in.txt", LINES)])[-1]
    assert bench.lines() == ["keys\t['a', 'b', 'c']"]
    assert result.stats.counters == {"keys": 3}


def test_hooks_run_beside_a_built_in(tmp_path: Path) -> None:
    reducer = "import mr\nreduce_fn = mr.agg.collect\ndef reduce_final():\n    yield 'end', 0\n"
    assert run(tmp_path, reducer) == ["a\t[2, 5]", "b\t[1, 3]", "c\t[4]", "end\t0"]


def test_partition_fn_decides_the_part(tmp_path: Path) -> None:
    reducer = "import mr\nreduce_fn = mr.agg.sum\ndef partition_fn(key, n):\n    return ord(key) % n\n"
    bench = Workbench(tmp_path, MAP + reducer, reduces=2)
    bench.run([bench.write_input("in.txt", LINES)])
    assert bench.parts() == {"part-00000": b"b\t4\n", "part-00001": b"a\t7\nc\t4\n"}


def test_partition_without_records(tmp_path: Path) -> None:
    assert run(tmp_path, "def reduce_fn(key, values):\n    yield key, 1\n", "") == []


def test_key_too_large_for_memory_streams(tmp_path: Path) -> None:
    text = "".join(f"{'a' if number % 100 else 'b'} {number}\n" for number in range(5000))
    reducer = """
        def reduce_fn(key, values):
            first = next(values)
            yield key, (type(values).__name__, first, sum(1 for _ in values))
    """
    lines = run(tmp_path, reducer, text, settings={"group_bytes": 1000, "spill_rows": 300})
    assert [line.split("\t")[0] for line in lines] == ["a", "b"]
    assert lines[0].endswith(", 1, 4949)") and lines[1].endswith(", 0, 49)")


# --- what an attempt reports


def test_stats_and_progress(tmp_path: Path) -> None:
    bench = Workbench(tmp_path, MAP + "def reduce_fn(key, values):\n    yield key, sum(values)\n")
    outputs = map_all(bench, LINES)
    result = bench.reduce(0, outputs)
    assert isinstance(result.output, PartOutput)
    stats = result.stats
    assert (stats.records_in, stats.records_out) == (5, 3)
    assert stats.bytes_in == find_segment(Path(outputs[0].path), 0).bytes
    assert stats.fetched_bytes == 0
    assert stats.bytes_out == result.output.bytes == len("a\t7\nb\t4\nc\t4\n")
    assert result.output.rows == 3
    assert (bench.look().phase, bench.look().share, bench.look().records) == ("write", 1.0, 5)
    assert bench.look().bytes_in == stats.bytes_in


def test_progress_is_by_value(tmp_path: Path) -> None:
    source = MAP + (
        "from tests.support.attempts import look\n"
        "def reduce_fn(key, values):\n    for value in values:\n        look()\n    yield key, 1\n"
    )
    bench = Workbench(tmp_path, source)
    bench.reduce(0, map_all(bench, LINES))
    seen = [(seen.phase, seen.share, seen.records, seen.record) for seen in bench.seen]
    keys = ["'a'", "'a'", "'b'", "'b'", "'c'"]
    assert seen == [("reduce", n / 5, n, f"key {key}") for n, key in enumerate(keys, start=1)]


# --- failures


def test_exception_names_the_key(tmp_path: Path) -> None:
    reducer = """
        def reduce_fn(key, values):
            for value in values:
                if key == "b":
                    raise ValueError("bad luck")
                yield key, value
    """
    failure = fail(tmp_path, reducer)
    assert (failure.kind, failure.function) == (FailureKind.USER_ERROR, "reduce_fn")
    assert failure.record == "key 'b'"
    assert failure.message == "reduce_fn raised ValueError: bad luck (job.py, line 8)"
    assert 'File "job.py", line 8, in reduce_fn' in failure.traceback
    path = str(tmp_path / "in" / "in.txt")
    words = ["mr", "run", "job.py", path, "-o", "reproduce-reduce-00000", "--reduces", "1"]
    assert shlex.split(failure.reproduce) == words


def test_long_key_is_cut(tmp_path: Path) -> None:
    failure = fail(tmp_path, "def reduce_fn(key, values):\n    1 / 0\n", f"{'x' * 10_000} 1\n")
    assert failure.record.startswith("key 'xxx")
    assert len(failure.record) < 300


@pytest.mark.parametrize(
    ("statement", "parts"),
    [
        ("yield key", ("gave 'b'", "no (key, value) pair")),
        ("yield key, object()", ("value", "object")),
        ("yield {1: 2}, 1", ("key", "dict")),
        ("raise MemoryError", ("ran out of memory",)),
        ("sys.exit()", ("sys.exit()",)),
    ],
)
def test_wrong_results_name_the_key(tmp_path: Path, statement: str, parts: tuple[str, ...]) -> None:
    reducer = f"""
        import sys
        def reduce_fn(key, values):
            if key == "b":
                {statement}
            yield key, 1
    """
    failure = fail(tmp_path, reducer)
    assert failure.record == "key 'b'"
    for part in parts:
        assert part in failure.message


@pytest.mark.parametrize(
    ("hook", "function"),
    [
        ("def reduce_init():\n    raise OSError('no model')\n", "reduce_init"),
        ("def reduce_final():\n    raise OSError('no model')\n", "reduce_final"),
    ],
)
def test_hooks_that_fail(tmp_path: Path, hook: str, function: str) -> None:
    failure = fail(tmp_path, "import mr\nreduce_fn = mr.agg.sum\n" + hook)
    assert (failure.kind, failure.function) == (FailureKind.USER_ERROR, function)
    assert f"{function} raised OSError: no model" in failure.message


def test_input_that_is_gone_is_named(tmp_path: Path) -> None:
    bench = Workbench(tmp_path, MAP + "def reduce_fn(key, values):\n    yield key, 1\n")
    outputs = map_all(bench, LINES, split_bytes=8)
    Path(outputs[1].path).unlink()
    failure = failure_of(lambda: bench.reduce(0, outputs))
    assert failure.kind is FailureKind.INPUT_LOST
    life = (WorkerId("w1"), Incarnation("i1"))
    assert failure.lost == (LostInput(TaskId("map-00001"), outputs[1].attempt.number, *life),)


@pytest.mark.parametrize("reducer", ["def reduce_fn(key, values):\n    yield key, 1\n", "sum"])
def test_input_that_is_damaged_is_named(tmp_path: Path, reducer: str) -> None:
    source = "import mr\nreduce_fn = mr.agg.sum\n" if reducer == "sum" else reducer
    bench = Workbench(tmp_path, MAP + source)
    outputs = map_all(bench, LINES, split_bytes=8)
    path = Path(outputs[1].path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    failure = failure_of(lambda: bench.reduce(0, outputs))
    assert failure.kind is FailureKind.INPUT_LOST
    assert [lost.task_id for lost in failure.lost] == ["map-00001"]
    assert not list(bench.output.rglob("part-*"))


@pytest.mark.parametrize("swallow", ["except Exception:\n        yield key, 0", "finally:\n        1 / 0"])
def test_failed_read_is_not_taken_for_the_users(
    tmp_path: Path, swallow: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large group's values break off on disk; user code swallows the failure, or raises its own."""

    def broken() -> Any:
        yield 1
        raise OSError(5, "Input/output error")

    class Broken(reduce_task.Grouped):
        def batches(self) -> Any:
            yield GroupBatch(["a"], [broken()])

    monkeypatch.setattr(reduce_task, "Grouped", Broken)
    reducer = f"def reduce_fn(key, values):\n    try:\n        yield key, sum(values)\n    {swallow}\n"
    failure = fail(tmp_path, reducer)
    assert failure.kind is FailureKind.INFRASTRUCTURE
    assert "Input/output error" in failure.message


# --- values are read once, in small and in large groups alike

TWICE = """
def reduce_fn(key, values):
    total = sum(values)
    yield key, [value / total for value in values]
"""
BIG_GROUPS = "".join(f"{'ab'[number % 2]} {number}\n" for number in range(4000))
MERGED = {"group_bytes": 1000, "spill_rows": 300}


@pytest.mark.parametrize(("text", "settings"), [(LINES, {}), (BIG_GROUPS, MERGED)])
def test_values_read_twice_are_refused_with_the_remedy(
    tmp_path: Path, text: str, settings: dict[str, Any]
) -> None:
    failure = fail(tmp_path, TWICE, text, settings=settings)
    assert (failure.kind, failure.record) == (FailureKind.USER_ERROR, "key 'a'")
    assert "values = list(values)" in failure.message
    assert "(job.py, line 7)" in failure.message


@pytest.mark.parametrize(("text", "settings"), [(LINES, {}), (BIG_GROUPS, MERGED)])
def test_the_remedy_and_next_work(tmp_path: Path, text: str, settings: dict[str, Any]) -> None:
    reducer = """
        def reduce_fn(key, values):
            first = next(values)
            values = list(values)
            yield key, (first, len(values), sum(values) - sum(values))
        """
    lines = run(tmp_path, reducer, text, settings=settings)
    assert lines[0] == ("a\t(2, 1, 0)" if text == LINES else "a\t(0, 1999, 0)")


def test_next_after_the_values_were_read_is_refused(tmp_path: Path) -> None:
    reducer = "def reduce_fn(key, values):\n    list(values)\n    yield key, next(values)\n"
    assert "values = list(values)" in fail(tmp_path, reducer).message


def test_values_read_twice_by_combine_fn_are_refused(tmp_path: Path) -> None:
    source = MAP + TWICE + "combine_fn = reduce_fn\n"
    bench = Workbench(tmp_path, source)
    (split,) = bench.plan([bench.write_input("in.txt", LINES)])
    failure = bench.map_failure(split)
    assert (failure.function, failure.record) == ("combine_fn", "key 'a'")
    assert "values = list(values)" in failure.message


def test_a_pair_that_cannot_be_stored_still_names_its_key(tmp_path: Path) -> None:
    reducer = "def reduce_fn(key, values):\n    yield key, sum(values) if key != 'b' else object()\n"
    assert fail(tmp_path, reducer).record == "key 'b'"
