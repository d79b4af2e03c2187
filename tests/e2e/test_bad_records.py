"""Bad records of every kind among a thousand: skipped, listed, run again; embedded and on real servers."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster import Cluster
from tests.support.commands import Commands, write_job
from tests.support.waiting import until

#: Row -> what the line does to its task.
BAD = {100: "raise", 300: "segfault", 420: "exit", 580: "memory", 700: "hang", 900: "\udcff malformed"}
FLAGS = ("-m", 3, "-r", 2, "--task-timeout", "6s", "--task-memory", "300MiB")
FIXED = (
    "def map_fn(offset, line):",
    "    yield line[:6], 1",
    "def reduce_fn(key, values):",
    "    yield key, sum(values)",
    "combine_fn = reduce_fn",
)
BROKEN = (
    "import ctypes, os, time",
    "def map_fn(offset, line):",
    "    yield line[:6], 1",
    "    if line == 'raise':",
    "        raise ValueError(line)",
    "    if line == 'segfault':",
    "        ctypes.string_at(0)",
    "    if line == 'exit':",
    "        os._exit(3)",
    "    if line == 'memory':",
    "        held = bytearray(b'x') * (1 << 30)",
    "        time.sleep(60)",
    "    if line == 'hang':",
    "        time.sleep(1000)",
    *FIXED[2:],
)
KINDS = ["user_error", "killed", "killed", "killed", "timed_out", "bad_input"]


@pytest.fixture(params=["embedded", "cluster"])
def run(request: pytest.FixtureRequest, mr: Commands) -> Callable[..., Any]:
    """Runs a job to its end, here or on a cluster."""
    if request.param == "embedded":
        return lambda *arguments: mr.run("run", *arguments)
    cluster: Cluster = request.getfixturevalue("cluster")
    return lambda *arguments: cluster.run("submit", *arguments, "--wait")


def lines_of(rows: range) -> list[str]:
    return [BAD.get(row, f"line {row % 7}") for row in rows]


def write(path: Path, lines: list[str]) -> Path:
    path.write_bytes("".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape"))
    return path


def parts(output: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(output.glob("part-*"))}


@pytest.mark.fault(
    fault="a record crashes, hangs or overfills the task's process, with --skip-bad-records",
    phase="mid-map",
    outcome="just that record is skipped and listed; the output is that of the input without it",
)
def test_each_kind_is_skipped_listed_and_run_again(
    run: Callable[..., Any], mr: Commands, tmp_path: Path
) -> None:
    lines = lines_of(range(1000))
    source = write(tmp_path / "in", lines)
    clean = write(tmp_path / "clean", [line for row, line in enumerate(lines) if row not in BAD])
    job, fixed = write_job(tmp_path / "job.py", *BROKEN), write_job(tmp_path / "fixed.py", *FIXED)
    out = tmp_path / "out"
    done = run(job, source, "-o", out, *FLAGS, "--skip-bad-records", 6)
    assert done.returncode == 0, done.stderr.decode()
    assert b"6 bad records were skipped and listed in" in done.stderr
    mr.succeed("run", fixed, clean, "-o", tmp_path / "expected", *FLAGS)
    assert parts(out) == parts(tmp_path / "expected")

    lists = sorted((out / "_bad_records").iterdir())
    found = [json.loads(line) for path in lists for line in path.read_bytes().splitlines()]
    offsets = [len("".join(f"{line}\n" for line in lines[:row])) for row in BAD]
    assert [record["position"] for record in found] == offsets
    assert [record["kind"] for record in found] == KINDS
    assert [record["record"] for record in found] == [*list(BAD.values())[:-1], "\\xff malformed"]
    assert (found[1]["signal"], found[2].get("signal", 0)) == (11, 0)
    manifest = json.loads((out / "_SUCCESS").read_bytes())
    assert [Path(listed["path"]).name for listed in manifest["bad_records"]] == [path.name for path in lists]
    assert sum(listed["records"] for listed in manifest["bad_records"]) == 6

    again = tmp_path / "again"
    mr.succeed("retry-bad", out, fixed, "-o", again, "-r", 1, "--encoding", "latin-1")
    assert parts(again)["part-00000"].decode() == "".join(
        f"{key}\t1\n" for key in sorted(["raise", "segfau", "exit", "memory", "hang", "ÿ malf"])
    )
    source.touch()
    refused = mr.run("retry-bad", out, fixed, "-o", tmp_path / "third")
    assert refused.returncode == 2
    assert f"{source} has changed since".encode() in refused.stderr


def test_one_more_than_the_limit_fails_the_job_with_its_cause(
    run: Callable[..., Any], tmp_path: Path
) -> None:
    source = write(tmp_path / "in", ["good"] * 20 + ["raise"] + ["good"] * 20 + ["raise"])
    job = write_job(tmp_path / "job.py", *BROKEN)
    done = run(job, source, "-o", tmp_path / "out", *FLAGS, "--skip-bad-records", 1)
    assert done.returncode == 1
    assert b"--skip-bad-records 1" in done.stderr or b"more than 1 bad records" in done.stderr
    assert f"{source}:100: map_fn raised ValueError".encode() in done.stderr
    assert not (tmp_path / "out").exists()


def test_without_the_option_a_malformed_line_fails_the_job_and_no_worker(
    run: Callable[..., Any], tmp_path: Path
) -> None:
    source = write(tmp_path / "in", ["good", "\udcff"])
    job = write_job(tmp_path / "job.py", *FIXED)
    done = run(job, source, "-o", tmp_path / "out", "-r", 1)
    assert done.returncode == 1
    assert f"{source}:5: byte 0xff is not utf-8".encode() in done.stderr
    assert b"bad_input (1 attempt: map-00000)" in done.stderr
    assert b"worker" not in done.stderr


def test_retry_bad_on_the_cluster_by_the_job_s_id(cluster: Cluster, tmp_path: Path) -> None:
    source = write(tmp_path / "in", ["good", "raise", "good"])
    job, fixed = write_job(tmp_path / "job.py", *BROKEN), write_job(tmp_path / "fixed.py", *FIXED)
    mr, name = cluster, f"bad-{time.time_ns()}"
    mr.succeed(
        "submit", job, source, "-o", tmp_path / "out", "--job-id", name, "--skip-bad-records", "50%", "--wait"
    )
    assert b"1 bad record was skipped" in mr.succeed("status", name).stdout
    mr.succeed("retry-bad", name, fixed, "-o", tmp_path / "again", "--submit", "-r", 1)
    assert parts(tmp_path / "again") == {"part-00000": b"raise\t1\n"}


def test_a_cancel_while_a_record_is_searched_leaves_nothing(cluster: Cluster, tmp_path: Path) -> None:
    """The line fails at full speed, then hangs in the search."""
    mark = tmp_path / "searching"
    job = write_job(
        tmp_path / "job.py",
        "import os, time, pathlib",
        f"MARK = pathlib.Path({str(mark)!r})",
        "def map_fn(offset, line):",
        "    if line == 'bad':",
        "        if MARK.exists():",
        "            MARK.with_name('found').touch()",
        "            time.sleep(1000)",
        "        MARK.touch()",
        "        os._exit(3)",
        "    yield line, 1",
        *FIXED[2:],
    )
    source = write(tmp_path / "in", ["good", "bad", "good"])
    mr, name = cluster, f"search-{time.time_ns()}"
    mr.succeed("submit", job, source, "-o", tmp_path / "out", "--job-id", name, "--skip-bad-records", 1)
    until((tmp_path / "found").exists, "the search")
    mr.succeed("cancel", name)
    assert cluster.state(name) == "CANCELLED"
    until(lambda: not cluster.job_files(name), "the worker's files to go")
    assert not (tmp_path / "out").exists()
