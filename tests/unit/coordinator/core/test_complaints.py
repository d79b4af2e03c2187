"""Who is paused, and with which words, when workers cannot reach each other."""

import pytest

from mr.coordinator.core.complaints import Complaints
from mr.coordinator.core.membership import Membership
from mr.protocol.ids import Incarnation, WorkerId
from mr.protocol.messages import PauseWorker
from mr.settings import Settings
from tests.unit.coordinator.core.test_membership import view

MISSED = {WorkerId("w1"): Incarnation("w1.1")}


@pytest.mark.parametrize("lease_seconds", [10.0, 60.0])
def test_a_worker_that_misses_itself_is_told_of_the_others_who_miss_it(lease_seconds: float) -> None:
    """Whatever is left of the pause for its own complaint: the reason shown is the one that counts."""
    settings = Settings(lease_seconds=lease_seconds)
    membership = Membership(settings)
    membership.observe(1.0, tuple(view(f"w{n}.1", number=1) for n in (1, 2, 3)))
    reachability = Complaints(settings, membership)
    (own,) = reachability.judge(WorkerId("w1"), MISSED, 1.1).pauses
    assert own.worker == "w1" and own.reason == "cannot reach worker w1"
    reachability.judge(WorkerId("w2"), MISSED, 1.2)
    judgement = reachability.judge(WorkerId("w3"), MISSED, 1.3)
    assert judgement.lost == {"w1"}
    assert PauseWorker(WorkerId("w1"), 300.0, "workers w2, w3 cannot reach it") in judgement.pauses
