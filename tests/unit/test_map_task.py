"""Map attempts: pairs out of user functions of every shape, and failures that name their record."""

import gc
import shlex
import textwrap
from pathlib import Path
from typing import Any

import pytest

import mr
from mr.protocol.failures import Failure, FailureKind
from mr.protocol.jobs import JobOptions
from mr.protocol.records import MapOutput, PartOutput
from tests.support.attempts import Workbench
from workers import pairs
from workers.pairs import all_pairs, next_rows

LINES = "first\nsecond\nthird\n"  # at bytes 0, 6 and 13


def run_map(directory: Path, source: str, text: str = LINES, **changes: Any) -> list[str]:
    """Run a map-only job over one file; returns its output lines."""
    bench = Workbench(directory, textwrap.dedent(source), reduces=0, **changes)
    bench.run([bench.write_input("in.txt", text)])
    return bench.lines()


def fail_map(directory: Path, source: str, text: str = LINES, **changes: Any) -> Failure:
    """Run a map task that must fail over one file, `DIRECTORY/in/in.txt`; returns how."""
    bench = Workbench(directory, textwrap.dedent(source), **{"reduces": 0, **changes})
    (split,) = bench.plan([bench.write_input("in.txt", text)])
    failure = bench.map_failure(split)
    assert not list(bench.output.rglob("part-*")), "an unfinished part was left"
    return failure


# --- shapes of map functions


@pytest.mark.parametrize(
    "source",
    [
        "def map_fn(key, line):\n    yield key, line\n",
        "def map_fn(key, line):\n    return [(key, line)]\n",
        "def map_fn(key, line):\n    return ((key, line),)\n",
        "def map_fn(key, line):\n    return iter([[key, line]])\n",
        "def map_fn(key, line):\n    return {key: line}.items()\n",
        "map_fn = lambda key, line: zip([key], [line])\n",
        "class Mapper:\n    def __call__(self, key, line):\n        yield key, line\nmap_fn = Mapper()\n",
        "from collections import namedtuple\nPair = namedtuple('Pair', 'a b')\n"
        "def map_fn(key, line):\n    yield Pair(key, line)\n",
    ],
)
def test_shapes(tmp_path: Path, source: str) -> None:
    assert run_map(tmp_path, source) == ["0\tfirst", "6\tsecond", "13\tthird"]


def test_none_and_nothing_are_no_pairs(tmp_path: Path) -> None:
    assert run_map(tmp_path, "def map_fn(key, line):\n    return [(line, 1)] if key else None\n") == [
        "second\t1",
        "third\t1",
    ]


def test_many_pairs_of_one_record_come_in_batches(tmp_path: Path) -> None:
    source = "def map_fn(key, line):\n    for number in range(10_000):\n        yield number, line\n"
    lines = run_map(tmp_path, source, "a\n", settings={"chunk_rows": 1000})
    assert lines == [f"{number}\ta" for number in range(10_000)]


def test_map_batch(tmp_path: Path) -> None:
    source = """
        import pyarrow as pa, pyarrow.compute as pc
        def map_batch(batch):
            upper = pc.utf8_upper(batch.column("value"))
            one = pa.RecordBatch.from_arrays([batch.column("key"), upper], names=["key", "value"])
            yield one
            yield pa.Table.from_batches([one.slice(0, 1)])
            yield pa.table({"key": pa.chunked_array([[1], [2]]), "value": pa.chunked_array([["x"], ["y"]])})
            yield one.slice(0, 0)
    """
    assert run_map(tmp_path, source) == ["0\tFIRST", "6\tSECOND", "13\tTHIRD", "0\tFIRST", "1\tx", "2\ty"]


def test_map_batch_that_gives_nothing(tmp_path: Path) -> None:
    assert run_map(tmp_path, "def map_batch(batch):\n    return None\n") == []


def test_hooks_run_once_and_the_last_may_give_pairs(tmp_path: Path) -> None:
    source = """
        import mr
        def map_init():
            global total
            total = int(mr.param("start"))
        def map_fn(key, line):
            global total
            total += len(line)
            mr.counter("lines").add()
        def map_final():
            yield "total", total
    """
    bench = Workbench(tmp_path, textwrap.dedent(source), reduces=0, params={"start": "100"})
    splits = bench.plan([bench.write_input("a.txt", LINES), bench.write_input("b.txt", LINES)])
    results = [bench.map(split) for split in splits] + [bench.map(splits[0])]
    for result in results:
        assert isinstance(result.output, PartOutput)
        expected = "total\t116\n" if len(splits) == 2 else "total\t132\n"
        assert Path(result.output.temporary).read_text() == expected
        assert result.stats.counters == {"lines": 3 if len(splits) == 2 else 6}


def test_final_hook_without_pairs(tmp_path: Path) -> None:
    assert run_map(
        tmp_path, "def map_fn(k, v):\n    yield k, v\ndef map_final():\n    print('done')\n", "a\n"
    )


def test_input_path_is_that_of_the_record(tmp_path: Path) -> None:
    source = (
        "import mr\nfrom pathlib import Path\ndef map_fn(k, v):\n    yield Path(mr.input_path()).name, v\n"
    )
    bench = Workbench(tmp_path, source, reduces=0)
    bench.run([bench.write_input(f"{name}.txt", f"{name}1\n{name}2\n") for name in "ab"])
    assert bench.lines() == ["a.txt\ta1", "a.txt\ta2", "b.txt\tb1", "b.txt\tb2"]


def test_module_state_lives_between_tasks_of_one_job(tmp_path: Path) -> None:
    source = "import mr\nimport random\nTOKEN = random.random()\ndef map_fn(k, v):\n    yield TOKEN, v\n"
    bench = Workbench(tmp_path, source, reduces=0)
    bench.run([bench.write_input("a.txt", "1\n2\n")], split_bytes=2)
    assert len({line.split("\t")[0] for line in bench.lines()}) == 1


# --- what an attempt reports


def test_stats_and_progress(tmp_path: Path) -> None:
    bench = Workbench(tmp_path, "def map_fn(k, v):\n    yield v, 1\n    yield v, 2\n", reduces=0)
    (result,) = bench.run([bench.write_input("in.txt", LINES)])
    stats = result.stats
    assert (stats.records_in, stats.records_out, stats.bytes_in) == (3, 6, len(LINES))
    assert stats.bytes_out == len(bench.parts()["part-00000"])
    assert stats.wall_seconds > 0 and stats.cpu_seconds > 0 and stats.peak_memory_bytes > 1 << 20
    assert bench.progress[-1].share == 1.0
    assert bench.progress[-1].records == 3


def test_segments_of_a_job_with_reducers(tmp_path: Path) -> None:
    source = "def map_fn(k, v):\n    yield v, k\ndef reduce_fn(k, vs):\n    yield k, list(vs)\n"
    bench = Workbench(tmp_path, source, reduces=3, settings={"spill_rows": 2})
    (split,) = bench.plan([bench.write_input("in.txt", LINES * 5)])
    result = bench.map(split)
    assert isinstance(result.output, MapOutput)
    assert (result.output.worker, result.output.host, result.output.attempt) == ("w1", "here", 1)
    assert sum(result.output.partition_bytes) == Path(result.output.path).stat().st_size
    assert result.stats.records_out == 15
    assert result.stats.bytes_out == sum(result.output.partition_bytes)


def test_garbage_collector_is_left_as_it_was(tmp_path: Path) -> None:
    before = gc.get_threshold(), gc.isenabled(), gc.get_freeze_count()
    run_map(tmp_path, "def map_fn(k, v):\n    yield v, 1\n")
    assert (gc.get_threshold(), gc.isenabled(), gc.get_freeze_count()) == before


# --- failures of user functions


def test_exception_names_the_record_and_shows_only_the_users_frames(tmp_path: Path) -> None:
    failure = fail_map(
        tmp_path,
        """
        def check(line):
            if line == "second":
                raise ValueError("bad luck")
        def map_fn(key, line):
            yield line, 0
            check(line)
        """,
    )
    path = tmp_path / "in" / "in.txt"
    assert failure.kind is FailureKind.USER_ERROR
    assert failure.function == "map_fn"
    assert failure.record == f"{path}:6"
    assert failure.message == "map_fn raised ValueError: bad luck (job.py, line 4)"
    assert failure.traceback.splitlines()[0] == "Traceback (most recent call last):"
    assert 'File "job.py", line 7, in map_fn' in failure.traceback
    assert 'File "job.py", line 4, in check' in failure.traceback
    assert failure.traceback.endswith("ValueError: bad luck")
    assert "workers" not in failure.traceback and str(tmp_path) not in failure.traceback
    assert shlex.split(failure.reproduce) == ["mr", "run", "job.py", str(path), "-o", "reproduce-map-00000"]


@pytest.mark.parametrize("chunk_rows", [1, 2, 4096])
@pytest.mark.parametrize("shape", ["yield line, 1", "return [(line, 1)] * 5"])
def test_position_is_exact_whatever_the_chunks(tmp_path: Path, chunk_rows: int, shape: str) -> None:
    source = f"def map_fn(key, line):\n    if line == '77':\n        raise KeyError(line)\n    {shape}\n"
    text = "".join(f"{number}\n" for number in range(100))
    failure = fail_map(tmp_path, source, text, settings={"chunk_rows": chunk_rows})
    assert failure.record.endswith(f"in.txt:{text.index('77')}")


@pytest.mark.parametrize(
    ("statement", "parts"),
    [
        ("yield line", ("gave 'second' (of type str)", "no (key, value) pair")),
        ("yield line, 1, 2", ("gave ('second', 1, 2)", "pair")),
        ("return line, 1", ("gave 'second' (of type str)", "return a list of pairs")),
        ("return 5", ("map_fn", "'int' object is not iterable", "yield (key, value) pairs")),
        ("yield {line: 1}, 1", ("key", "dict")),
        ("yield object(), 1", ("key", "object")),
        ("yield line, object()", ("value", "object")),
        ("yield (line, [1]), 1", ("key", "list")),
        ("next(iter(()))", ("StopIteration",)),
        ("sys.exit(3)", ("sys.exit()", "job.py, line 5")),
        ("raise MemoryError", ("ran out of memory", "--task-memory")),
        ("raise Odd", ("map_fn raised Odd: <its __str__ raised ZeroDivisionError>",)),
        ("raise asyncio.CancelledError", ("CancelledError",)),
        ("return len(line) / 0", ("ZeroDivisionError",)),
        ("mr.param('absent')", ("mr.param('absent')", "--param absent=VALUE")),
        ("mr.counter('x').add('y')", ("mr.counter('x')", "int")),
    ],
)
@pytest.mark.parametrize("reduces", [0, 2])
def test_wrong_records_are_named(
    tmp_path: Path, statement: str, parts: tuple[str, ...], reduces: int
) -> None:
    rest = "yield line, 1; yield line, 2" if "yield" in statement else "return [(line, 1), (line, 2)]"
    source = f"""
        import asyncio, sys, mr
        def map_fn(key, line):
            if line == "second":
                {statement}
            {rest}
        class Odd(Exception):
            def __str__(self): return 1 / 0
        reduce_fn = mr.agg.count
    """
    failure = fail_map(tmp_path, source, reduces=reduces)
    for part in parts:
        assert part in failure.message
    assert "\n" not in failure.message
    assert failure.record.endswith("in.txt:6")
    assert failure.function == "map_fn"
    expected = FailureKind.KILLED if "Memory" in statement else FailureKind.USER_ERROR
    assert failure.kind is expected


def test_stop_iteration_at_the_last_record_loses_nothing_silently(tmp_path: Path) -> None:
    source = "def map_fn(key, line):\n    return [next(iter(())) if line == 'third' else (line, 1)]\n"
    failure = fail_map(tmp_path, source)
    assert "StopIteration" in failure.message
    assert failure.record.endswith("in.txt:13")


def test_second_failure_while_explaining_the_first_changes_nothing(tmp_path: Path) -> None:
    source = """
        calls = []
        def map_fn(key, line):
            calls.append(line)
            if len(calls) > 3:
                raise RuntimeError("only once")
            return ["no pair"] if line == "second" else []
    """
    failure = fail_map(tmp_path, source)
    assert "gave 'no pair'" in failure.message
    assert "in.txt:" in failure.record


def test_interrupt_goes_through(tmp_path: Path) -> None:
    bench = Workbench(tmp_path, "def map_fn(k, v):\n    raise KeyboardInterrupt\n", reduces=0)
    (split,) = bench.plan([bench.write_input("in.txt", LINES)])
    with pytest.raises(KeyboardInterrupt):
        bench.map(split)


@pytest.mark.parametrize(
    ("source", "function", "parts"),
    [
        (
            "def map_init():\n    raise OSError('no model')\n",
            "map_init",
            ("map_init raised OSError: no model",),
        ),
        ("def map_final():\n    yield 1\n", "map_final", ("gave 1 (of type int)",)),
        ("def map_final():\n    yield 1, 2\n    1 / 0\n", "map_final", ("ZeroDivisionError",)),
        ("def map_final():\n    return 5\n", "map_final", ("not iterable",)),
    ],
)
def test_hooks_that_fail(tmp_path: Path, source: str, function: str, parts: tuple[str, ...]) -> None:
    failure = fail_map(tmp_path, "def map_fn(k, v):\n    yield k, v\n" + source)
    assert failure.function == function
    assert failure.record == ""
    for part in parts:
        assert part in failure.message


@pytest.mark.parametrize(
    ("result", "parts"),
    [
        ("[1, 2]", ("a int", "columns key and value")),
        ("7", ("not iterable",)),
        ("batch.rename_columns(['a', 'b'])", ("columns ['a', 'b']",)),
        ("1 / 0", ("ZeroDivisionError",)),
    ],
)
def test_map_batch_that_fails(tmp_path: Path, result: str, parts: tuple[str, ...]) -> None:
    failure = fail_map(tmp_path, f"def map_batch(batch):\n    return {result}\n")
    for part in parts:
        assert part in failure.message
    assert failure.record.endswith("in.txt:0 (first of 3 records)")


@pytest.mark.parametrize(
    ("body", "parts"),
    [
        ("raise LookupError(key)", ("partition_fn raised LookupError: ",)),
        ("return 2", ("partition_fn('", "returned 2", "from 0 to 1")),
        ("return -1", ("returned -1",)),
        ("return 'x'", ("returned 'x'",)),
        ("return None", ("returned None",)),
    ],
)
def test_partition_fn_that_fails(tmp_path: Path, body: str, parts: tuple[str, ...]) -> None:
    source = (
        "import mr\ndef map_fn(k, v):\n    yield v, 1\nreduce_fn = mr.agg.sum\n"
        f"def partition_fn(key, partitions):\n    {body}\n"
    )
    failure = fail_map(tmp_path, source, reduces=2)
    assert (failure.kind, failure.function) == (FailureKind.USER_ERROR, "partition_fn")
    for part in parts:
        assert part in failure.message


@pytest.mark.parametrize(
    ("body", "parts"),
    [
        ("raise LookupError(key)", ("combine_fn raised LookupError",)),
        ("yield key", ("no (key, value) pair",)),
        ("yield key + '!', 1", ("'first!'", "under the key")),
        ("yield key, object()", ("combine_fn", "object")),
    ],
)
def test_combine_fn_that_fails(tmp_path: Path, body: str, parts: tuple[str, ...]) -> None:
    source = (
        "def map_fn(k, v):\n    yield v, 1\ndef reduce_fn(key, values):\n    yield key, sum(values)\n"
        f"def combine_fn(key, values):\n    {body}\n"
    )
    failure = fail_map(tmp_path, source, reduces=2)
    assert (failure.kind, failure.function) == (FailureKind.USER_ERROR, "combine_fn")
    for part in parts:
        assert part in failure.message


def test_aggregation_that_meets_the_wrong_values(tmp_path: Path) -> None:
    source = "import mr\ndef map_fn(k, v):\n    yield v, v\nreduce_fn = mr.agg.sum\n"
    failure = fail_map(tmp_path, source, reduces=1)
    assert (failure.kind, failure.function) == (FailureKind.USER_ERROR, "reduce_fn")
    assert "mr.agg.sum adds numbers" in failure.message


# --- failures of everything else


def test_input_that_is_gone_names_worker_and_path(tmp_path: Path) -> None:
    bench = Workbench(tmp_path, "def map_fn(k, v):\n    yield v, 1\n", reduces=0)
    (split,) = bench.plan([bench.write_input("in.txt", LINES)])
    (tmp_path / "in" / "in.txt").unlink()
    failure = bench.map_failure(split)
    assert failure.kind is FailureKind.INPUT_UNREADABLE
    assert "worker w1" in failure.message and str(tmp_path / "in" / "in.txt") in failure.message


def test_input_that_is_no_utf8_names_the_offset(tmp_path: Path) -> None:
    bench = Workbench(tmp_path, "def map_fn(k, v):\n    yield v, 1\n", reduces=0)
    (split,) = bench.plan([bench.write_input("in.txt", b"good\n\xff\xfe\n")])
    failure = bench.map_failure(split)
    assert failure.kind is FailureKind.INPUT_UNREADABLE
    assert "in.txt" in failure.message and "5" in failure.message


def test_output_that_cannot_be_written_is_no_fault_of_the_job(tmp_path: Path) -> None:
    bench = Workbench(tmp_path, "def map_fn(k, v):\n    yield v, 1\n", reduces=0)
    (split,) = bench.plan([bench.write_input("in.txt", LINES)])
    (bench.output / "_temporary" / "job-1").rmdir()
    (bench.output / "_temporary" / "job-1").write_text("in the way")
    failure = bench.map_failure(split)
    assert failure.kind is FailureKind.INFRASTRUCTURE
    assert "worker w1" in failure.message


def test_code_that_cannot_be_loaded(tmp_path: Path) -> None:
    bench = Workbench(tmp_path, "def map_fn(k, v):\n    yield v, 1\n", reduces=0)
    (split,) = bench.plan([bench.write_input("in.txt", LINES)])
    (bench.code_dir / "job.py").write_text("import no_such_module\n")
    failure = bench.map_failure(split)
    assert failure.kind is FailureKind.BAD_JOB
    assert "worker w1" in failure.message and "no_such_module" in failure.message


def test_reduces_without_reduce_fn_are_refused(tmp_path: Path) -> None:
    failure = fail_map(tmp_path, "def map_fn(k, v):\n    yield v, 1\n", reduces=2)
    assert failure.kind is FailureKind.BAD_JOB
    assert "no reduce_fn" in failure.message


def test_command_carries_what_the_record_depends_on(tmp_path: Path) -> None:
    source = "import mr\nJOB = mr.Job(params={'a': '1'})\ndef map_fn(k, v):\n    1 / 0\n"
    bench = Workbench(
        tmp_path, source, reduces=0, encoding="latin-1", params={"a": "1", "b": "x y"}, input_format="text"
    )
    (bench.code_dir / "helpers.py").write_text("")
    (split,) = bench.plan([bench.write_input("in put.txt", LINES)])
    words = shlex.split(bench.map_failure(split).reproduce)
    assert words[3] == str(tmp_path / "in" / "in put.txt")
    assert words[6:] == ["--include", "helpers.py", "--encoding", "latin-1", "--param", "b=x y"]
    assert bench.spec.code.options == JobOptions(params={"a": "1"})


# --- batches


def test_all_pairs() -> None:
    assert all_pairs([("a", 1), ["b", 2]])
    assert not all_pairs([("a", 1), "ab"])
    assert not all_pairs([("a", 1), ("a", 1, 2)])
    assert not all_pairs([("a", 1), None])
    assert not all_pairs([{"a": 1, "b": 2}])


def test_batches_shrink_with_large_values_and_grow_with_small_ones() -> None:
    small, large = ["x"] * 256, ["x" * 1_000_000] * 256
    assert next_rows(256, small, small, 4096) == 1024
    assert next_rows(4096, small, small, 4096) == 4096
    assert next_rows(256, large, large, 4096) == pairs.BATCH_BYTES // 2_000_032
    assert next_rows(1, ["k"], [b"x" * (1 << 24)], 4096) == 1


def test_counter_outside_a_task_does_nothing() -> None:
    mr.counter("nowhere").add()
