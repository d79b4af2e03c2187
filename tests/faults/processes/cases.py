"""How a fault at a list of points becomes the cases of one test, each with its line in the fault matrix."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import pytest

from tests.faults.processes.cluster import REDUCES

#: A case waits for several leases and starts of processes.
CASE_SECONDS = 400


@dataclass(frozen=True)
class At:
    """A point on the way of a job through the cluster."""

    point: str
    #: As the matrix calls it.
    phase: str
    reduces: int = REDUCES


def cases(
    fault: str, points: Sequence[At], outcome: Callable[[At], str], selected: Collection[str] = ()
) -> pytest.MarkDecorator:
    """Every point as a case of a fault; `selected` names the phases that `make test` runs."""
    found = []
    for at in points:
        marks = [
            pytest.mark.fault(fault=fault, phase=at.phase, outcome=outcome(at)),
            pytest.mark.timeout(CASE_SECONDS),
        ]
        if at.phase in selected:
            marks.append(pytest.mark.selected)
        found.append(pytest.param(at, id=at.phase.replace(" ", "-").replace(",", ""), marks=marks))
    return pytest.mark.parametrize("at", found)


#: The way of a map and of a reduce through a worker, and of the map of a job without reduces.
WORKER_POINTS = (
    At("map-before-claim", "before claim"),
    At("map-after-claim", "after claim"),
    At("map-mid-work", "mid-map"),
    At("map-after-write", "after data write"),
    At("map-while-keeping", "while keeping"),
    At("map-before-record", "kept, before the Redis record"),
    At("map-after-record", "after the Redis record"),
    At("map-after-report", "after report"),
    At("map-before-ack", "before ack"),
    At("reduce-before-claim", "before claim of a reduce"),
    At("reduce-after-claim", "after claim of a reduce"),
    At("reduce-mid-fetch", "mid-fetch"),
    At("reduce-mid-work", "mid-reduce"),
    At("reduce-after-write", "after data write of a reduce"),
    At("reduce-before-record", "before the Redis record of a reduce"),
    At("reduce-after-record", "after commit, before rename"),
    At("part-before-rename", "part marked, before rename"),
    At("part-after-rename", "after rename"),
    At("reduce-after-report", "after report of a reduce"),
    At("reduce-before-ack", "before ack of a reduce"),
    At("map-before-record", "before the Redis record of a map-only job", reduces=0),
    At("part-after-rename", "after rename in a map-only job", reduces=0),
)
#: From here on a reduce, or the map of a map-only job, counts: it is not run again.
RECORDED = {
    "reduce-after-record",
    "part-before-rename",
    "part-after-rename",
    "reduce-after-report",
    "reduce-before-ack",
}
#: From here on a map's output counts until its worker is taken for dead; then it is made again elsewhere.
SUPERSEDED = {"map-after-record", "map-after-report", "map-before-ack"}
#: A drained worker hands on what it has not begun.
NOT_BEGUN = {"map-before-claim", "map-after-claim", "reduce-before-claim", "reduce-after-claim"}
