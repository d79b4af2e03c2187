"""Deaths are noticed by what the kernel closes. The leases here are longer than any wait of these tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import own_cluster
from tests.e2e.gate import GatedJob
from tests.e2e.references import same_parts
from tests.support.cluster import Cluster
from tests.support.commands import one_line
from tests.support.waiting import until

#: No test here may need this long.
LEASE_SECONDS = 300
#: Far below the lease, far above what a slow machine takes.
PATIENCE_SECONDS = 90.0
MAPS_AND_REDUCES = ("-m", "6", "-r", "4")


@pytest.fixture(scope="module")
def slow_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster on servers of its own, in which a lease never runs out."""
    settings = {name: str(LEASE_SECONDS) for name in ("MR_LEASE_SECONDS", "MR_REPUBLISH_SECONDS")}
    with own_cluster(tmp_path_factory.mktemp("deaths"), settings=settings) as cluster:
        yield cluster


@pytest.fixture
def cluster(slow_cluster: Cluster) -> Cluster:
    """That cluster, with all its daemons running again."""
    slow_cluster.ensure()
    return slow_cluster


def finish(job: GatedJob) -> None:
    """Let the job go on; its output must be the same bytes as embedded."""
    job.open()
    assert job.wait_state("COMPLETED", "FAILED", timeout=PATIENCE_SECONDS) == "COMPLETED"
    same_parts(job.run_embedded(), job.output)


@pytest.mark.fault(
    fault="worker killed",
    phase="while its tasks run, leases of 300 s",
    outcome="its closed connection tells; its tasks run elsewhere long before the lease ends",
)
@pytest.mark.parametrize("phase", ["map", "reduce"])
def test_a_killed_worker_is_missed_before_its_lease_ends(
    cluster: Cluster, tmp_path: Path, phase: str
) -> None:
    job = GatedJob(cluster, tmp_path, f"death-in-{phase}", phase, *MAPS_AND_REDUCES).submit()
    job.wait_begun(3)
    victim = sorted(job.workers_of_begun())[0]
    cluster.kill(victim)
    finish(job)
    (died,) = [i for i in job.status()["incidents"] if i["kind"] == "worker_died"]
    assert (died["subject"], died["attempts"]) == (victim, 1)
    assert died["outputs"] == 0 or phase == "reduce"
    assert f"worker {victim} died: 1 running task" in cluster.succeed("status", job.job_id).stdout.decode()


@pytest.mark.fault(
    fault="worker killed",
    phase="idle, with map outputs that a reduce needs",
    outcome="the outputs are made again long before its lease ends",
)
def test_an_idle_worker_that_held_outputs_is_missed_before_its_lease_ends(
    cluster: Cluster, tmp_path: Path
) -> None:
    flags = ("-m", "6", "-r", "1")
    job = GatedJob(cluster, tmp_path, "death-while-idle", "reduce", *flags).submit()
    job.wait_begun(1)
    (busy,) = job.workers_of_begun()
    for idle in sorted(set(cluster.names) - {busy}):
        cluster.kill(idle)
    until(lambda: job.status()["maps_committed"] < 6, "outputs taken for lost", PATIENCE_SECONDS)
    finish(job)


@pytest.mark.fault(
    fault="worker killed and restarted",
    phase="while its tasks run, leases of 300 s",
    outcome="it takes part again at once under its name",
)
def test_a_worker_that_was_killed_and_restarted_does_not_wait_for_its_ghost(
    cluster: Cluster, tmp_path: Path
) -> None:
    job = GatedJob(cluster, tmp_path, "death-and-restart", "map", *MAPS_AND_REDUCES).submit()
    job.wait_begun(3)
    cluster.kill(sorted(job.workers_of_begun())[0])
    cluster.ensure()
    finish(job)


@pytest.mark.fault(
    fault="coordinator killed, a standby takes over",
    phase="while tasks run, leases of 300 s",
    outcome="the standby leads long before the lease ends",
)
def test_a_standby_leads_before_the_lease_of_the_dead_ends(cluster: Cluster, tmp_path: Path) -> None:
    job = GatedJob(cluster, tmp_path, "death-of-the-leader", "map", *MAPS_AND_REDUCES).submit()
    job.wait_begun(3)
    cluster.daemons["coordinator-2"] = cluster.start_daemon("coordinator-2")
    until(lambda: "coordinator started" in cluster.log("coordinator-2"), "a standby")
    cluster.kill("coordinator")
    leader = cluster.daemons["coordinator"] = cluster.daemons.pop("coordinator-2")
    finish(job)
    assert leader.poll() is None
    assert "coordinating" in cluster.log("coordinator-2")


@pytest.mark.fault(
    fault="coordinator killed and restarted",
    phase="while tasks run, leases of 300 s",
    outcome="it leads again long before the lease ends",
)
def test_a_coordinator_that_was_killed_and_restarted_does_not_wait_for_its_ghost(
    cluster: Cluster, tmp_path: Path
) -> None:
    job = GatedJob(cluster, tmp_path, "death-of-the-only-one", "map", *MAPS_AND_REDUCES).submit()
    job.wait_begun(3)
    cluster.kill("coordinator")
    cluster.ensure()
    finish(job)


def test_a_second_worker_of_one_name_is_refused(cluster: Cluster, tmp_path: Path) -> None:
    done = cluster.run("worker", "--id", "w1", "--spool", tmp_path / "spool", "--log-level", "error")
    assert done.returncode == 2
    one_line(done.stderr, "worker w1 already runs on host", "choose another --id")
    assert cluster.daemons["w1"].poll() is None
