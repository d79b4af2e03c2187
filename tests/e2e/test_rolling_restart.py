"""Workers stopped and restarted while a job reduces: no map runs again."""

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.gate import GatedJob
from tests.e2e.references import same_parts
from tests.support.cluster import Cluster
from tests.support.waiting import until

MAPS_AND_REDUCES = ("-m", "12", "-r", "6")


@pytest.fixture
def four(tmp_path: Path, clean_services: tuple[str, str]) -> Iterator[Cluster]:
    """Four workers, apart from others of these names; a restart fits into their lease on a busy machine."""
    settings = {"MR_LEASE_SECONDS": "60"}
    with Cluster(tmp_path / "four", *clean_services, workers=4, settings=settings) as cluster:
        yield cluster


def maps_run(cluster: Cluster, job: GatedJob) -> dict[str, int]:
    """How many attempts each map took."""
    records = [task["record"] for task in cluster.json("tasks", job.job_id)]
    return {record["task_id"]: record["attempt"] for record in records if record["task_id"].startswith("map")}


def worker_beat(cluster: Cluster, name: str) -> dict[str, Any]:
    """A worker's last heartbeat."""
    (beat,) = [view["beat"] for view in cluster.json("workers") if view["beat"]["worker"] == name]
    return {"draining": False, **beat}


@pytest.mark.fault(
    fault="worker stopped at once and restarted",
    phase="each worker in turn, while a job reduces",
    outcome="the next one in its spool adopts the map outputs; no map runs again",
)
def test_rolling_restart(four: Cluster, tmp_path: Path) -> None:
    job = GatedJob(four, tmp_path, "rolling", "reduce", *MAPS_AND_REDUCES).submit()
    job.wait_begun(4)
    for name in four.names:
        daemon = four.daemons[name]
        daemon.send_signal(signal.SIGTERM)
        until(lambda log=name: "draining" in four.log(log), f"{name} to drain")  # type: ignore[misc]
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(timeout=30) == 0
        four.ensure()
        until(lambda log=name: "adopted" in four.log(log), f"{name} to adopt")  # type: ignore[misc]
    job.open()
    assert job.wait_state("COMPLETED", "FAILED") == "COMPLETED"
    assert set(maps_run(four, job).values()) == {1}
    same_parts(job.run_embedded(), job.output)
    job.wait_clean()


@pytest.mark.fault(
    fault="worker drained",
    phase="while a job reduces",
    outcome="it serves its map outputs until no reduce needs them; no map runs again",
)
def test_one_drains(four: Cluster, tmp_path: Path) -> None:
    job = GatedJob(four, tmp_path, "one-drains", "reduce", *MAPS_AND_REDUCES).submit()
    job.wait_begun(4)
    victim = four.daemons["w1"]
    drain = four.start("drain", "--wait", "w1", stdout=subprocess.PIPE)
    until(lambda: worker_beat(four, "w1")["draining"], "w1 to drain")
    assert "draining" in four.succeed("workers").stdout.decode()
    job.open()
    assert job.wait_state("COMPLETED", "FAILED") == "COMPLETED"
    assert set(maps_run(four, job).values()) == {1}
    assert victim.wait(timeout=30) == 0
    assert drain.communicate(timeout=30) == (b"worker w1 has left\n", None)
    assert drain.returncode == 0
    same_parts(job.run_embedded(), job.output)
    job.wait_clean()
    # That was asked of one incarnation: the next one under the same id takes tasks.
    four.ensure()
    after = GatedJob(four, tmp_path, "after", "reduce", "-m", "4", "-r", "4").submit()
    after.wait_begun(4)
    assert not worker_beat(four, "w1")["draining"]
    after.open()
    assert after.wait_state("COMPLETED", "FAILED") == "COMPLETED"
    after.wait_clean()
