"""What reducers fetch is damaged or does not come: it is fetched again, or its maps run elsewhere."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.proxy import Spoil
from tests.support.site import Site

#: An answer's head has more than 100 bytes and fewer than 300, and all its segments more than 600.
HEAD, SEGMENTS = 5, 600

ONCE = {
    "reset": Spoil("reset", SEGMENTS, times=1),
    "cut short": Spoil("truncate", SEGMENTS, times=1),
    "damaged": Spoil("flip", SEGMENTS, times=1),
    "damaged in its head": Spoil("flip", HEAD, times=1),
    "silent in the middle": Spoil("stall", SEGMENTS, times=1),
}


def case(key: str, fault: str, phase: str, outcome: str, *further: pytest.MarkDecorator) -> object:
    """One test."""
    return pytest.param(key, marks=[pytest.mark.fault(fault=fault, phase=phase, outcome=outcome), *further])


@pytest.mark.parametrize(
    "how",
    [
        case(
            how,
            f"shuffle: an answer is {how}",
            "mid-fetch",
            "what is missing is fetched again",
            *([pytest.mark.selected] if how == "damaged" else ()),
        )
        for how in ONCE
    ],
)
def test_one_transfer_fails(site: Site, tmp_path: Path, reference: Path, how: str) -> None:
    """Of each worker. No attempt fails."""
    job = site.reach(tmp_path, f"once-{how.replace(' ', '-')}", "map")
    links = site.cluster.shuffle.values()
    spoils = [replace(ONCE[how]) for _ in links]
    for link, spoil in zip(links, spoils, strict=True):
        link.spoil(spoil)
    site.prove(job, reference)
    assert [spoil.times for spoil in spoils] == [0, 0, 0]
    assert job.status()["attempts_failed"] == 0


def wrong_token(request: bytes) -> bytes:
    """The same request with another token."""
    return re.sub(rb"(Bearer )\S\S", rb"\1..", request)


ALWAYS = {
    "reset": Spoil("reset", 0),
    "cut short": Spoil("truncate", 0),
    "damaged": Spoil("flip", SEGMENTS),
    "silent in the middle": Spoil("stall", SEGMENTS),
    "refused, as the token is wrong": wrong_token,
}


@pytest.mark.parametrize(
    "how",
    [
        case(how, f"shuffle: all answers of a worker are {how}", "mid-fetch", "its maps run elsewhere")
        for how in ALWAYS
    ],
)
def test_a_worker_sends_nothing_of_use(site: Site, tmp_path: Path, reference: Path, how: str) -> None:
    job = site.reach(tmp_path, f"always-{how.replace(' ', '-').replace(',', '')}", "map")
    link, fault = site.cluster.shuffle["w1"], ALWAYS[how]
    if isinstance(fault, Spoil):
        link.spoil(fault)
    else:
        link.proxy.change_request = fault
    site.prove(job, reference)
    told = site.cluster.succeed("status", job.job_id).stdout.decode()
    assert "w1" in told, told


@pytest.mark.fault(fault="shuffle: slow", phase="mid-fetch", outcome="the reducer waits; no attempt fails")
def test_slow(site: Site, tmp_path: Path, reference: Path) -> None:
    job = site.reach(tmp_path, "slow-shuffle", "map")
    for link in site.cluster.shuffle.values():
        link.slow(bytes_per_second=2000)
    site.prove(job, reference)
    assert job.status()["attempts_failed"] == 0
