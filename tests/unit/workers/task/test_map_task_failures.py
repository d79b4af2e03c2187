"""Map attempts that fail: each failure names its function, its record and what to do."""

import errno
import shlex
import textwrap
from pathlib import Path
from typing import IO, Any

import msgspec
import pytest

from mr.formats import storage
from mr.protocol.failures import Failure, FailureKind
from mr.protocol.formats import OUTPUT_FORMATS
from mr.protocol.options import JobOptions
from tests.support.attempts import Workbench

LINES = "first\nsecond\nthird\n"  # at bytes 0, 6 and 13


def fail_map(directory: Path, source: str, text: str = LINES, **changes: Any) -> Failure:
    """Run a map task that must fail over one file, `DIRECTORY/in/in.txt`; returns how."""
    bench = Workbench(directory, textwrap.dedent(source), **{"reduces": 0, **changes})
    (split,) = bench.plan([bench.write_input("in.txt", text)])
    failure = bench.map_failure(split)
    assert not list(bench.output.rglob("part-*")), "an unfinished part was left"
    return failure


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
        ("raise KeyboardInterrupt", ("map_fn raised KeyboardInterrupt (job.py, line 5)",)),
        ("raise GeneratorExit", ("map_fn raised GeneratorExit (job.py, line 5)",)),
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


def test_stop_iteration_in_a_generator_names_the_users_line(tmp_path: Path) -> None:
    failure = fail_map(tmp_path, "def map_fn(key, line):\n    yield next(iter(())), 1\n")
    assert failure.message.endswith("(job.py, line 2)")
    assert 'File "job.py", line 2, in map_fn' in failure.traceback


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


OFFSETS = "bytes([0] * 4 + [1, 0, 0, 0])"
NO_TEXT = f"pa.Array.from_buffers(pa.string(), 1, [None, *map(pa.py_buffer, ({OFFSETS}, b'\\xff'))])"


@pytest.mark.parametrize(
    ("result", "parts"),
    [
        ("[1, 2]", ("a int", "columns key and value")),
        ("[None, batch]", ("a NoneType",)),
        ("{'key': [1], 'value': [2]}", ("a str",)),
        ("7", ("not iterable",)),
        ("batch.rename_columns(['a', 'b'])", ("columns ['a', 'b']",)),
        ("pa.table([[1], [2], [3]], ['key', 'value', 'key'])", ("columns ['key', 'value', 'key']",)),
        ("pa.table({'key': [1], 'value': [1, 2]})", ("map_batch raised", "length")),
        (f"pa.table({{'key': [1], 'value': {NO_TEXT}}})", ("not valid", "UTF8")),
        ("pa.table({'key': [1], 'value': pa.array([1], pa.timestamp('ns'))})", ("Nanosecond",)),
        ("1 / 0", ("ZeroDivisionError",)),
        ("(1 / 0 for _ in 'a')", ("ZeroDivisionError",)),
    ],
)
@pytest.mark.parametrize("changes", [{"output_format": "jsonl"}, {"output_format": "csv"}, {"reduces": 2}])
def test_map_batch_that_fails(
    tmp_path: Path, result: str, parts: tuple[str, ...], changes: dict[str, Any]
) -> None:
    source = (
        f"import mr, pyarrow as pa\ndef map_batch(batch):\n    return {result}\nreduce_fn = mr.agg.count\n"
    )
    failure = fail_map(tmp_path, source, **changes)
    assert (failure.kind, failure.function) == (FailureKind.USER_ERROR, "map_batch")
    for part in parts:
        assert part in failure.message
    assert failure.record.endswith("in.txt:0 (to 13, a batch of 3 records)")


@pytest.mark.parametrize("output_format", [*OUTPUT_FORMATS])
def test_a_batch_that_a_format_cannot_hold_is_the_jobs_fault(tmp_path: Path, output_format: str) -> None:
    source = """
        import pyarrow as pa
        def map_batch(batch):
            kinds, places = pa.array([0, 1], pa.int8()), pa.array([0, 0], pa.int32())
            union = pa.UnionArray.from_dense(kinds, places, [pa.array([b"\\xff"]), pa.array([2])])
            return pa.table({"key": pa.array([1, 2]), "value": union})
    """
    bench = Workbench(tmp_path, textwrap.dedent(source), reduces=0, output_format=output_format)
    (split,) = bench.plan([bench.write_input("in.txt", LINES)])
    if output_format in ("text", "csv"):
        assert bench.map(split).stats.records_out == 2
        return
    failure = bench.map_failure(split)
    assert (failure.kind, failure.function) == (FailureKind.USER_ERROR, "map_batch")
    # whether Parquet has a type for a column is known only when its first row group is written
    assert ("in.txt:0" in failure.record) is (output_format == "jsonl")


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
        ("yield numpy.array([1, 2]), 1", ("combine_fn", "ValueError")),
        ("yield Odd(), 1", ("combine_fn raised LookupError",)),
    ],
)
def test_combine_fn_that_fails(tmp_path: Path, body: str, parts: tuple[str, ...]) -> None:
    source = f"""
        import numpy
        class Odd:
            def __eq__(self, other): raise LookupError
        def map_fn(k, v): yield v, 1
        def reduce_fn(key, values): yield key, sum(values)
        def combine_fn(key, values):
            {body}
    """
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
    assert failure.kind is FailureKind.BAD_INPUT
    assert f"{split.ranges[0].path}:5: byte 0xff" in failure.message
    assert "--skip-bad-records" in failure.message and "worker" not in failure.message


def test_output_that_cannot_be_written_is_no_fault_of_the_job(tmp_path: Path) -> None:
    bench = Workbench(tmp_path, "def map_fn(k, v):\n    yield v, 1\n", reduces=0)
    (split,) = bench.plan([bench.write_input("in.txt", LINES)])
    (bench.output / "_temporary" / "job-1").rmdir()
    (bench.output / "_temporary" / "job-1").write_text("in the way")
    failure = bench.map_failure(split)
    assert failure.kind is FailureKind.OUTPUT_UNWRITABLE and failure.rule.counts
    assert f"worker w1 cannot write into the output {bench.output}: Not a directory" in failure.message
    assert bench.map_failure(split).signature == failure.signature


def test_a_full_disk_below_the_output_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Workbench(tmp_path, "def map_fn(k, v):\n    yield v, 1\n", reduces=0)
    (split,) = bench.plan([bench.write_input("in.txt", LINES)])

    def refuse(path: str) -> IO[bytes]:
        raise OSError(errno.ENOSPC, "No space left on device", path)

    monkeypatch.setattr(storage, "open_write", refuse)
    failure = bench.map_failure(split)
    assert failure.kind is FailureKind.INFRASTRUCTURE and not failure.rule.counts


def test_code_that_cannot_be_loaded(tmp_path: Path) -> None:
    bench = Workbench(tmp_path, "def map_fn(k, v):\n    yield v, 1\n", reduces=0)
    (split,) = bench.plan([bench.write_input("in.txt", LINES)])
    (bench.code_dir / "job.py").write_text("import no_such_module\n")
    failure = bench.map_failure(split)
    assert failure.kind is FailureKind.BAD_JOB
    assert "worker w1" in failure.message and "no_such_module" in failure.message


def test_another_aggregation_than_the_submitted_one(tmp_path: Path) -> None:
    source = "import mr\ndef map_fn(k, v):\n    yield v, 1\nreduce_fn = mr.agg."
    bench = Workbench(tmp_path, f"{source}sum\n")
    (split,) = bench.plan([bench.write_input("in.txt", LINES)])
    (bench.code_dir / "job.py").write_text(f"{source}max\n")
    failure = bench.map_failure(split)
    assert failure.kind is FailureKind.BAD_JOB
    assert "reduce_fn is mr.agg.max here, and was mr.agg.sum when the job was submitted" in failure.message


def test_code_that_was_deleted_is_the_workers_matter_and_tried_again(tmp_path: Path) -> None:
    bench = Workbench(tmp_path, "def map_fn(k, v):\n    yield v, 1\n", reduces=0)
    (split,) = bench.plan([bench.write_input("in.txt", LINES)])
    (bench.code_dir / "job.py").unlink()
    failure = bench.map_failure(split)
    assert failure.kind is FailureKind.INFRASTRUCTURE
    assert "worker w1" in failure.message and str(bench.code_dir) in failure.message


def test_reduces_without_reduce_fn_are_refused(tmp_path: Path) -> None:
    failure = fail_map(tmp_path, "def map_fn(k, v):\n    yield v, 1\n", reduces=2)
    assert failure.kind is FailureKind.BAD_JOB
    assert "no reduce_fn" in failure.message


def test_a_secret_reaches_the_task_and_not_the_command(tmp_path: Path) -> None:
    source = "import mr\ndef map_fn(k, v):\n    assert mr.param('key') == 'sesame'\n    1 / 0\n"
    bench = Workbench(tmp_path, source, reduces=0, secret_params={"key": "sesame"})
    (split,) = bench.plan([bench.write_input("in.txt", LINES)])
    failure = bench.map_failure(split)
    assert "ZeroDivisionError" in failure.message
    assert failure.reproduce.endswith("--secret-param key=env:key")
    assert "sesame" not in str(msgspec.structs.replace(failure, traceback=""))


def test_command_carries_every_option_that_decides_what_a_function_meets(tmp_path: Path) -> None:
    source = "import mr\nJOB = mr.Job(task_timeout='1m')\ndef map_fn(k, v):\n    1 / 0\n"
    bench = Workbench(
        tmp_path,
        source,
        reduces=0,
        output_format="jsonl",
        encoding_errors="replace",
        split_size=4096,
        task_memory=1 << 28,
        task_timeout=60.0,
    )
    (split,) = bench.plan([bench.write_input("in.txt", LINES)])
    assert shlex.split(bench.map_failure(split).reproduce)[6:] == [
        *("--split-size", "4096", "--output-format", "jsonl"),
        *("--encoding-errors", "replace", "--task-memory", str(1 << 28)),
    ]


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
