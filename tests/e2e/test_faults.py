"""Daemons killed in the middle of a job: the same bytes come out."""

import os
import signal
from pathlib import Path

import pytest

from tests.e2e.gate import GatedJob, gone
from tests.e2e.references import same_parts
from tests.support.cluster import Cluster
from tests.support.commands import one_line
from tests.support.waiting import until

MAPS_AND_REDUCES = ("-m", "6", "-r", "4")


@pytest.mark.fault(
    fault="worker killed",
    phase="while its tasks run",
    outcome="others run them; same bytes; its task processes end, its files go at its next start",
)
@pytest.mark.parametrize("phase", ["map", "reduce"])
def test_worker_killed(cluster: Cluster, tmp_path: Path, phase: str) -> None:
    job = GatedJob(cluster, tmp_path, f"kill-in-{phase}", phase, *MAPS_AND_REDUCES).submit()
    job.wait_begun(3)
    victim = sorted(job.workers_of_begun())[0]
    orphans = job.begun_on(victim)
    cluster.kill(victim)
    job.open()
    assert job.wait_state("COMPLETED", "FAILED") == "COMPLETED"
    same_parts(job.run_embedded(), job.output)
    until(lambda: all(map(gone, orphans)), "the killed worker's task processes to end")
    cluster.ensure()  # the dead worker's files are cleared when it starts again
    job.wait_clean()


@pytest.mark.fault(
    fault="task process killed", phase="mid-map", outcome="the task runs again; the failed attempt is counted"
)
def test_child_process_killed(cluster: Cluster, tmp_path: Path) -> None:
    job = GatedJob(cluster, tmp_path, "kill-a-child", "map", *MAPS_AND_REDUCES).submit()
    for pid in job.wait_begun(1):
        os.kill(pid, signal.SIGKILL)
    job.open()
    assert job.wait_state("COMPLETED", "FAILED") == "COMPLETED"
    same_parts(job.run_embedded(), job.output)
    assert job.status()["attempts_failed"] >= 1


@pytest.mark.fault(
    fault="coordinator killed and restarted", phase="while tasks run", outcome="the job goes on; same bytes"
)
@pytest.mark.parametrize("phase", ["map", "reduce"])
def test_coordinator_killed(cluster: Cluster, tmp_path: Path, phase: str) -> None:
    job = GatedJob(cluster, tmp_path, f"lead-in-{phase}", phase, *MAPS_AND_REDUCES).submit()
    job.wait_begun(3)
    cluster.kill("coordinator")
    job.open()
    cluster.ensure()
    assert job.wait_state("COMPLETED", "FAILED") == "COMPLETED"
    same_parts(job.run_embedded(), job.output)


@pytest.mark.fault(
    fault="coordinator killed and restarted",
    phase="before a request is taken",
    outcome="the sender hears that none answers; the next coordinator runs the job",
)
def test_request_waits_for_a_coordinator(cluster: Cluster, tmp_path: Path) -> None:
    cluster.kill("coordinator")
    job = GatedJob(cluster, tmp_path, "asked-early", "none", *MAPS_AND_REDUCES)
    done = cluster.run("submit", *job.command, "--job-id", job.job_id)
    assert done.returncode == 3
    one_line(done.stderr, "coordinator")
    cluster.ensure()
    until(lambda: job.output.joinpath("_SUCCESS").exists(), "the job that was asked for early")


@pytest.mark.fault(
    fault="worker drained",
    phase="while its tasks run",
    outcome="it finishes and serves them, and ends with 0",
)
def test_drained_worker_hands_over(cluster: Cluster, tmp_path: Path) -> None:
    job = GatedJob(cluster, tmp_path, "drain-one", "map", *MAPS_AND_REDUCES).submit()
    job.wait_begun(3)
    victim = sorted(job.workers_of_begun())[0]
    cluster.daemons[victim].send_signal(signal.SIGTERM)
    job.open()
    assert job.wait_state("COMPLETED", "FAILED") == "COMPLETED"
    assert cluster.daemons[victim].wait(timeout=30) == 0
    same_parts(job.run_embedded(), job.output)
