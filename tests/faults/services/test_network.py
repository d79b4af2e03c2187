"""A daemon is cut off: others do what it does not, or wait for it, and the same bytes come out."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.links import Link
from tests.support.site import Site
from tests.support.waiting import until

#: What happens to a link.
HOW: dict[str, Callable[[Link], None]] = {
    "cut": Link.cut,
    "losing all packets": Link.hold,
    "losing packets to the server": lambda link: link.hold(answers=False),
    "losing packets from the server": lambda link: link.hold(requests=False),
}
BOTH_WAYS = ("cut", "losing all packets")
#: Over what a worker is cut off, and what that does not reach any more.
WORKER_LINKS = {
    "RabbitMQ": ("broker",),
    "Redis": ("store",),
    "the other workers": ("shuffle",),
    "everything": ("broker", "store", "shuffle"),
}


def links_of(site: Site, name: str, kinds: tuple[str, ...]) -> list[Link]:
    """The links of a daemon."""
    by_kind = {"broker": site.cluster.broker, "store": site.cluster.store, "shuffle": site.cluster.shuffle}
    return [by_kind[kind][name] for kind in kinds]


def case(who: str, place: str, how: str, phase: str, outcome: str) -> object:
    """One test."""
    mark = pytest.mark.fault(fault=f"{who}'s link to {place} {how}", phase=phase, outcome=outcome)
    return pytest.param(place, how, phase, marks=mark)


WORKER_CASES = [
    case("worker", place, how, phase, "the job completes without it, and it comes back")
    for place in WORKER_LINKS
    for how in HOW
    for phase in ("map", "reduce")
    if how in BOTH_WAYS or (place in ("RabbitMQ", "Redis") and phase == "map")
]


@pytest.mark.parametrize(("place", "how", "phase"), WORKER_CASES)
def test_worker(site: Site, tmp_path: Path, reference: Path, place: str, how: str, phase: str) -> None:
    """The job needs nobody to repair the network."""
    job = site.reach(tmp_path, "-".join(["w1", *place.split(), *how.split(), phase]), phase)
    for link in links_of(site, "w1", WORKER_LINKS[place]):
        HOW[how](link)
    site.finish(job)
    site.links.heal()
    site.prove(job, reference)


COORDINATOR_LINKS = {"RabbitMQ": ("broker",), "Redis": ("store",), "everything": ("broker", "store")}
COORDINATOR_CASES = [
    case("coordinator", place, how, phase, "it goes on when the network does")
    for place in COORDINATOR_LINKS
    for how in HOW
    for phase in ("map", "finish")
    if how in BOTH_WAYS or (place != "everything" and phase == "map")
]


@pytest.mark.parametrize(("place", "how", "phase"), COORDINATOR_CASES)
def test_coordinator(site: Site, tmp_path: Path, reference: Path, place: str, how: str, phase: str) -> None:
    """Its lead runs out meanwhile."""
    job = site.reach(tmp_path, "-".join(["lead", *place.split(), *how.split(), phase]), phase)
    for link in links_of(site, "coordinator", COORDINATOR_LINKS[place]):
        HOW[how](link)
    site.thaw()
    job.open()
    with site.store as store:
        if place == "RabbitMQ":
            site.wait_logged("coordinator", "RabbitMQ at", "connecting again")
        else:
            until(lambda: not store.exists("mr:leader"), "the end of its lead")
    site.links.heal()
    site.prove(job, reference)
