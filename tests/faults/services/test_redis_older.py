"""Redis comes back as it was a while ago, as after a failover: what it had acknowledged since is lost."""

from pathlib import Path

import pytest

from tests.e2e.gate import GatedJob
from tests.support.site import MAPS, REDUCES, Site

older = pytest.mark.fault(
    fault="Redis back to an older state",
    phase="while tasks begin and end",
    outcome="the coordinator gives it back what it lost; same bytes",
)


def begin(site: Site, directory: Path, job_id: str, phase: str, maps: int, reduces: int) -> GatedJob:
    """Bring a job to where tasks have begun and ended since the state that is kept in `kept`."""
    flags = ("--param", "seconds=0.4", "-m", maps, "-r", reduces)
    job = GatedJob(site.cluster, directory, job_id, phase, *flags).submit()
    begun = len(job.wait_begun(5))
    site.redis.keep(directory / "kept")
    job.wait_begun(begun + 9)
    return job


@older
@pytest.mark.parametrize(
    ("phase", "maps", "reduces"),
    [pytest.param("map", 30, 4, marks=pytest.mark.selected), ("reduce", 4, 30)],
)
def test_while_tasks_run(site: Site, tmp_path: Path, phase: str, maps: int, reduces: int) -> None:
    job = begin(site, tmp_path, f"older-{phase}", phase, maps, reduces)
    site.redis.come_back(tmp_path / "kept")
    site.finish(job)
    site.prove(job, job.run_embedded())


@pytest.mark.fault(
    fault="Redis back to an older state",
    phase="while the coordinator is killed and restarted",
    outcome="nobody remembers what was lost, so it is done again; same bytes",
)
def test_as_the_coordinator_dies(site: Site, tmp_path: Path) -> None:
    """Workers still run what Redis gives again."""
    job = begin(site, tmp_path, "orphaned", "map", 30, 4)
    site.cluster.kill("coordinator")
    site.redis.come_back(tmp_path / "kept")
    site.cluster.ensure()
    site.finish(job)
    site.prove(job, job.run_embedded())


@pytest.mark.fault(
    fault="Redis back to an older state",
    phase="from before the job",
    outcome="the coordinator writes the job again; same bytes",
)
def test_before_the_job(site: Site, tmp_path: Path, reference: Path) -> None:
    site.redis.keep(tmp_path / "kept")
    job = site.reach(tmp_path, "forgotten", "map")
    site.redis.come_back(tmp_path / "kept")
    site.prove(job, reference)


@pytest.mark.fault(
    fault="Redis back to an older state",
    phase="finish",
    outcome="reports come for tasks that Redis does not know as done; same bytes",
)
def test_before_the_last_commits(site: Site, tmp_path: Path) -> None:
    job = GatedJob(site.cluster, tmp_path, "older-finish", "reduce", "-m", MAPS, "-r", REDUCES).submit()
    job.wait_begun(3)
    site.redis.keep(tmp_path / "kept")
    site.pass_to_finish(job)
    site.redis.come_back(tmp_path / "kept")
    site.finish(job)
    site.prove(job, job.run_embedded())
