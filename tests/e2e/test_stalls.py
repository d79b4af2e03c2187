"""A record that hangs: it is shown, gets a backup, and is ended by `--task-timeout` if there is one."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import own_cluster
from tests.e2e.references import same_parts
from tests.support.cluster import Cluster
from tests.support.commands import write_job
from tests.support.waiting import until

STALL_SECONDS = 2
#: Parameters: `place`, a directory; `times`, how many attempts hang in the record `bad`. Others wait there
#: until the file `go` is made.
HANGING = """
import os, threading, time
from pathlib import Path
import mr

def map_fn(key, line):
    if line == "bad" and mr.param("place", ""):
        place = Path(mr.param("place"))
        begun = len(list(place.glob("begun-*")))
        (place / f"begun-{os.getpid()}").touch()
        if begun < int(mr.param("times")):
            threading.Event().wait()
        while not (place / "go").exists():
            time.sleep(0.01)
    yield line, 1

def reduce_fn(line, counts):
    yield line, sum(counts)
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two workers with one slot each; what has finished no record for STALL_SECONDS has stalled."""
    settings = {"MR_STALL_SECONDS": str(STALL_SECONDS)}
    with own_cluster(tmp_path_factory.mktemp("stalls"), workers=2, settings=settings) as cluster:
        yield cluster


@pytest.fixture
def job(tmp_path: Path) -> tuple[Path, Path]:
    """The job and its input, whose first record is `bad`."""
    source = tmp_path / "in.txt"
    source.write_text("bad\ngood\n")
    return write_job(tmp_path / "job.py", HANGING), source


def _known_stall(cluster: Cluster) -> dict[str, Any] | None:
    """What is said of the first attempt once its record is known."""
    stalled = cluster.json("status", "hangs-once")["stalled"]
    return next((stall for stall in stalled if stall["attempt"] == 1 and stall["record"]), None)


@pytest.mark.fault(
    fault="user code hangs",
    phase="mid-map, in the first record",
    outcome="shown as stalled; a backup on another worker ends it; same bytes",
)
def test_a_record_that_hangs_once_is_shown_and_ended_by_a_backup(
    cluster: Cluster, job: tuple[Path, Path], tmp_path: Path
) -> None:
    output, embedded = tmp_path / "out", tmp_path / "embedded"
    flags = ("--param", f"place={tmp_path}", "--param", "times=1", "-m", 1, "-r", 1, "--job-id", "hangs-once")
    with (tmp_path / "told").open("wb") as told:
        waiting = cluster.start("submit", *job, "-o", output, *flags, "--wait", stderr=told, stdout=told)
    until(lambda: len(list(tmp_path.glob("begun-*"))) == 2, "a backup in the record")
    stall = until(lambda: _known_stall(cluster), "a stalled attempt, and its record")
    assert (stall["task_id"], stall["record"]) == ("map-00000", f"{job[1]}:0")
    assert stall["seconds"] > STALL_SECONDS
    where = f"in map-00000 (worker {stall['worker']})"
    for command in ("status", "tasks", "workers"):
        asked = (command,) if command == "workers" else (command, "hangs-once")
        until(
            lambda asked=asked: b"no record finished for" in cluster.succeed(*asked).stdout,  # type: ignore[misc]
            f"mr {command} to tell of the stall",
        )
    until(lambda: where in (tmp_path / "told").read_text(), "the waiting command to tell of the stall")
    (tmp_path / "go").touch()
    assert waiting.wait(60) == 0, (tmp_path / "told").read_text()
    cluster.succeed("run", *job, "-o", embedded, "-m", 1, "-r", 1)
    same_parts(embedded, output)
    after = cluster.succeed("status", "hangs-once").stdout.decode()
    assert "1 task got a backup: the attempt has finished no record for too long" in after
    status = cluster.json("status", "hangs-once")
    assert [incident["kind"] for incident in status["incidents"]] == ["backup"]
    assert status["stalled"] == []


@pytest.mark.fault(
    fault="user code hangs in every attempt",
    phase="mid-map",
    outcome="--task-timeout ends each; the failure says for how long no record was finished, and in which",
)
def test_a_record_that_always_hangs_is_ended_by_the_time_limit(
    cluster: Cluster, job: tuple[Path, Path], tmp_path: Path
) -> None:
    flags = ("--param", f"place={tmp_path}", "--param", "times=99", "-m", 1, "-r", 1)
    limits = ("--task-timeout", "6s", "--max-attempts", 2, "--job-id", "hangs-always")
    done = cluster.run("submit", *job, "-o", tmp_path / "out", *flags, *limits, "--wait")
    assert done.returncode == 1
    told = done.stderr.decode()
    for part in ("timed_out", "no record had been finished for", f"record     {job[1]}:0", "time limit"):
        assert part in told, told
    (group,) = cluster.json("status", "hangs-always")["failures"]
    assert group["count"] == 2 and group["failure"]["stalled_seconds"] > 3
