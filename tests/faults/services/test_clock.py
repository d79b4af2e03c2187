"""A clock jumps by hours: leases run by other clocks, so nothing happens but wrong times in records."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import need
from tests.support.servers import NoServer, PrivateRabbitMQ, PrivateRedis
from tests.support.site import FAKETIME, Site

pytestmark = pytest.mark.skipif(not FAKETIME.exists(), reason="faketime is not installed")

#: Back and forth, further than any lease or patience.
JUMP_SECONDS = 3 * 3600


@pytest.fixture(scope="module")
def clocks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site whose processes have clocks that can be set."""
    need(PrivateRabbitMQ.available() and PrivateRedis.available(), NoServer(NoServer.__doc__))
    with Site(tmp_path_factory.mktemp("clocks"), clocks=True) as site:
        yield site


CASES = [
    pytest.param(
        whose,
        seconds,
        phase,
        marks=pytest.mark.fault(
            fault=f"clock of a {whose} set 3 h {way}",
            phase=phase,
            outcome="same bytes; no attempt fails",
        ),
        id=f"{whose}-{way}-{phase}",
    )
    for whose in ("worker",)
    for way, seconds in (("ahead", JUMP_SECONDS), ("back", -JUMP_SECONDS))
    for phase in ("map", "reduce")
]


@pytest.mark.parametrize(("whose", "seconds", "phase"), CASES)
def test_clock(clocks: Site, tmp_path: Path, reference: Path, whose: str, seconds: int, phase: str) -> None:
    clocks.set_clocks(0)
    clocks.cluster.ensure()
    job = clocks.reach(tmp_path, f"clock-{whose}-{'ahead' if seconds > 0 else 'back'}-{phase}", phase)
    clocks.set_clocks(seconds, "w1" if whose == "worker" else whose)
    clocks.thaw()
    job.open()
    for command in (("workers",), ("status", job.job_id), ("tasks", job.job_id)):
        told = clocks.cluster.succeed(*command).stdout.decode()
        assert not re.search(r"(?<![\w-])-\d", told), told
    clocks.prove(job, reference)
    assert job.status()["attempts_failed"] == 0
