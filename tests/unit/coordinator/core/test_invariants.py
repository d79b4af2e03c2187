"""The invariants notice a state that cannot be."""

import pytest

from mr.coordinator.core.invariants import InvariantBroken, check
from mr.protocol.records import (
    TaskState,
)
from tests.support.scheduling import (
    JOB,
    MAP,
    accepted,
    fed,
)


def test_the_invariants_notice_a_wrong_book() -> None:
    scheduler, _ = fed(accepted(2, 1))
    scheduler.state.jobs[JOB].tasks[MAP[0]].write({"state": TaskState.COMMITTED})
    with pytest.raises(InvariantBroken, match="COMMITTED with result None"):
        check(scheduler.state)
