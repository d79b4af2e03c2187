"""Map attempts over bad records: what is skipped, listed and counted, and what fails."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
import xxhash

from mr.protocol.bad_records import BadRecord
from mr.protocol.failures import Failure, FailureKind
from mr.protocol.records import PartOutput, TaskResult
from tests.support.attempts import Workbench
from tests.support.searching import listed, search_map

SOURCE = """
import sys
import mr
def map_fn(key, line):
    mr.counter("lines").add(1)
    if line == "raise":
        raise ValueError("a bad line")
    if line == "late":
        yield line, 0
        raise KeyError("late")
    if line == "memory":
        raise MemoryError
    if line == "no pair":
        yield 7
    if line == "no key":
        yield [object()], 1
    if line == "exit":
        sys.exit(3)
    yield line, 1
"""
REDUCE = "def reduce_fn(key, values):\n    yield key, sum(values)\n"
BAD = ("raise", "late", "memory", "no pair", "no key", "exit")


def attempt(directory: Path, lines: bytes, source: str = SOURCE, **changes: Any) -> tuple[Workbench, Any]:
    """Run the one map task of a job, with its searches."""
    bench = Workbench(directory, source, **{"reduces": 0, "skip_bad_records": 10, **changes})
    (split,) = bench.plan([bench.write_input("in", lines)])
    return bench, search_map(bench, split)


def records_of(bench: Workbench) -> list[BadRecord]:
    (path,) = listed(bench)
    return [msgspec.json.decode(line, type=BadRecord) for line in path.read_bytes().splitlines()]


@pytest.mark.parametrize("reduces", [0, 2])
def test_each_kind_of_bad_record_is_skipped_and_listed(tmp_path: Path, reduces: int) -> None:
    lines = ["good", *BAD, "\udcff", "good"]
    data = "\n".join(lines).encode("utf-8", "surrogateescape")
    source = SOURCE + (REDUCE if reduces else "")
    bench, result = attempt(tmp_path, data, source, reduces=reduces)
    assert isinstance(result, TaskResult)
    found = records_of(bench)
    places = [sum(len(line) + 1 for line in lines[:row]) for row in range(len(lines))]
    assert [record.position for record in found] == places[1:-1]
    assert [record.record for record in found] == [*BAD, "\\xff"]
    causes = [record.kind for record in found]
    raised = FailureKind.USER_ERROR
    assert causes == [raised, raised, FailureKind.KILLED, raised, raised, raised, FailureKind.BAD_INPUT]
    assert "ValueError: a bad line (job.py, line 7)" in found[0].message
    assert 'raise ValueError("a bad line")' in found[0].traceback
    assert {record.function for record in found[:-1]} == {"map_fn"}
    stats = result.stats
    assert (stats.records_in, stats.records_out, stats.bad_records) == (2, 2, 7)
    assert stats.counters == {"lines": 2}
    (path,) = listed(bench)
    assert stats.bad_file is not None
    assert (stats.bad_file.records, stats.bad_file.bytes) == (7, path.stat().st_size)
    assert stats.bad_file.checksum == xxhash.xxh3_64(path.read_bytes()).hexdigest()
    assert stats.bad_file.first.startswith(f"{tmp_path}/in/in:5: map_fn raised ValueError")
    if isinstance(result.output, PartOutput):
        assert bench.part_text(result.output) == "good\t1\ngood\t1\n"


def test_without_bad_records_nothing_is_listed(tmp_path: Path) -> None:
    bench, result = attempt(tmp_path, b"good\n")
    assert isinstance(result, TaskResult)
    assert (result.stats.bad_records, result.stats.bad_file, listed(bench)) == (0, None, [])


def test_more_than_the_job_may_have_fail_the_task_at_once_and_name_the_first(tmp_path: Path) -> None:
    for name, line in (("raise", b"raise\n"), ("malformed", b"\xff\n")):
        directory = tmp_path / name
        directory.mkdir()
        bench, failure = attempt(directory, b"good\n" + line * 3, skip_bad_records=2)
        assert isinstance(failure, Failure)
        assert (failure.kind, failure.rule.retry) == (FailureKind.BAD_INPUT, False)
        assert f"more than 2 bad records; the first: {directory}/in/in:5: " in failure.message
        assert listed(bench) == []


def test_a_share_is_judged_by_the_job_not_by_a_task(tmp_path: Path) -> None:
    _, result = attempt(tmp_path, b"raise\nraise\ngood\n", skip_bad_records="1%")
    assert isinstance(result, TaskResult)
    assert result.stats.bad_records == 2


@pytest.mark.parametrize("function", ["map_init", "map_final", "combine_fn", "partition_fn"])
def test_other_functions_fail_the_task_as_ever(tmp_path: Path, function: str) -> None:
    parameters = {"combine_fn": "key, values", "partition_fn": "key, partitions"}.get(function, "")
    source = f"{SOURCE}{REDUCE}def {function}({parameters}):\n    raise ValueError\n"
    _, failure = attempt(tmp_path, b"good\ngood\n", source, reduces=1)
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.function) == (FailureKind.USER_ERROR, function)


def test_a_batch_is_no_record(tmp_path: Path) -> None:
    source = "def map_batch(batch):\n    raise ValueError\n"
    _, failure = attempt(tmp_path, b"\xff\ngood\n", source)
    assert isinstance(failure, Failure) and failure.function == "map_batch"
    good = "def map_batch(batch):\n    yield batch\n"
    (tmp_path / "2").mkdir()
    bench, result = attempt(tmp_path / "2", b"\xff\ngood\n", good)
    assert isinstance(result, TaskResult)
    assert [record.position for record in records_of(bench)] == [0]


def test_a_list_that_cannot_be_written_is_the_output_s_failure(tmp_path: Path) -> None:
    bench = Workbench(tmp_path, SOURCE + REDUCE, reduces=1, skip_bad_records=1)
    (split,) = bench.plan([bench.write_input("in", b"\xff\n")])
    (bench.output / "_temporary" / "job-1").rmdir()
    failure = search_map(bench, split)
    assert isinstance(failure, Failure) and failure.kind is FailureKind.OUTPUT_UNWRITABLE
