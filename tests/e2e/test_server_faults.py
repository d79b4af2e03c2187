"""RabbitMQ or Redis killed in the middle of a job: the same bytes come out."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.gate import GatedJob
from tests.e2e.references import same_parts
from tests.support.cluster import Cluster
from tests.support.servers import PrivateRabbitMQ, PrivateRedis

MAPS_AND_REDUCES = ("-m", "6", "-r", "4")


@dataclass
class Site:
    """A cluster on servers of its own, which a test may kill."""

    rabbitmq: PrivateRabbitMQ
    redis: PrivateRedis
    cluster: Cluster


@pytest.fixture
def site(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    if not (PrivateRabbitMQ.available() and PrivateRedis.available()):
        pytest.skip("only servers of Debian's packages can be killed and started again")
    rabbitmq = PrivateRabbitMQ(tmp_path / "rabbitmq")
    redis = PrivateRedis(tmp_path / "redis", persistent=request.param)
    with ExitStack() as stack:
        for server in (rabbitmq, redis):
            server.start()
            stack.callback(server.stop)
        cluster = stack.enter_context(Cluster(tmp_path / "cluster", rabbitmq.url, redis.url))
        yield Site(rabbitmq, redis, cluster)


def finish(job: GatedJob) -> None:
    """Let the job go on; its output must be the same bytes as embedded."""
    job.open()
    assert job.wait_state("COMPLETED", "FAILED", timeout=90) == "COMPLETED"
    same_parts(job.run_embedded(), job.output)
    job.wait_clean()


@pytest.mark.parametrize("site", [True], indirect=True)
@pytest.mark.parametrize("phase", ["map", "reduce"])
def test_broker_killed(site: Site, tmp_path: Path, phase: str) -> None:
    job = GatedJob(site.cluster, tmp_path, "broker", phase, *MAPS_AND_REDUCES).submit()
    job.wait_begun(3)
    site.rabbitmq.restart()
    finish(job)


@pytest.mark.parametrize("site", [True], indirect=True)
@pytest.mark.parametrize(("phase", "maps", "reduces"), [("map", 30, 4), ("reduce", 4, 30)])
def test_store_comes_back_older(site: Site, tmp_path: Path, phase: str, maps: int, reduces: int) -> None:
    """What Redis acknowledged in the last one or two seconds is lost, while tasks begin and end."""
    flags = ("--param", "seconds=0.4", "-m", maps, "-r", reduces)
    job = GatedJob(site.cluster, tmp_path, "older", phase, *flags).submit()
    begun = len(job.wait_begun(5))
    site.redis.keep(tmp_path / "kept")
    job.wait_begun(begun + 9)
    site.redis.come_back(tmp_path / "kept")
    finish(job)
    for name, daemon in site.cluster.daemons.items():
        assert daemon.poll() is None, f"{name} has ended: {site.cluster.log(name)}"


@pytest.mark.parametrize("site", [True], indirect=True)
def test_store_comes_back_older_as_the_coordinator_dies(site: Site, tmp_path: Path) -> None:
    """Nobody remembers what Redis has lost, and workers still run what it gives again."""
    flags = ("--param", "seconds=0.4", "-m", 30, "-r", 4)
    job = GatedJob(site.cluster, tmp_path, "orphaned", "map", *flags).submit()
    begun = len(job.wait_begun(5))
    site.redis.keep(tmp_path / "kept")
    job.wait_begun(begun + 9)
    site.cluster.kill("coordinator")
    site.redis.come_back(tmp_path / "kept")
    site.cluster.ensure()
    finish(job)


@pytest.mark.parametrize("site", [True], indirect=True)
def test_store_forgets_a_job(site: Site, tmp_path: Path) -> None:
    """Redis comes back as it was before the job was accepted."""
    site.redis.keep(tmp_path / "kept")
    job = GatedJob(site.cluster, tmp_path, "forgotten", "map", *MAPS_AND_REDUCES).submit()
    job.wait_begun(3)
    site.redis.come_back(tmp_path / "kept")
    finish(job)


@pytest.mark.parametrize("site", [True, False], indirect=True, ids=["kept", "emptied"])
@pytest.mark.parametrize("phase", ["map", "reduce"])
def test_store_killed(site: Site, tmp_path: Path, phase: str) -> None:
    job = GatedJob(site.cluster, tmp_path, "store", phase, *MAPS_AND_REDUCES).submit()
    job.wait_begun(3)
    site.redis.restart()
    finish(job)
