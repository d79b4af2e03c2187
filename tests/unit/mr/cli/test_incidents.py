"""What happened to a job, in words."""

from typing import Any

import pytest

from mr.cli.incidents import describe_incident
from mr.protocol.records import Incident, IncidentKind


@pytest.mark.parametrize(
    ("kind", "fields", "told"),
    [
        (
            IncidentKind.WORKER_DIED,
            {"subject": "w2", "attempts": 3, "outputs": 5},
            "worker w2 died: 3 running tasks and 5 map outputs were run again",
        ),
        (IncidentKind.WORKER_DIED, {"subject": "w2"}, "worker w2 died: nothing had to run again"),
        (
            IncidentKind.WORKER_LEFT,
            {"subject": "w2", "outputs": 1},
            "worker w2 was drained or stopped: 1 map output was run again",
        ),
        (
            IncidentKind.WORKER_EXCLUDED,
            {"subject": "w2", "reason": "no tasks for 300 s: it is odd", "times": 2},
            "worker w2 was excluded 2 times: no tasks for 300 s: it is odd",
        ),
        (IncidentKind.ATTEMPT_FAILED, {"subject": "killed", "attempts": 2}, "2 attempts failed: killed"),
        (
            IncidentKind.OUTPUT_LOST,
            {"subject": "w2", "outputs": 2, "reason": "its worker cannot be reached"},
            "worker w2 lives, but 2 map outputs were run again: its worker cannot be reached",
        ),
        (IncidentKind.BACKUP, {"attempts": 1, "reason": "slow"}, "1 task got a backup: slow"),
        (
            IncidentKind.MESSAGE_LOST,
            {"times": 1200},
            "1,200 task messages came to nobody and had to be published again",
        ),
        (IncidentKind.TAKEN_OVER, {}, "another coordinator took the job over"),
    ],
)
def test_an_incident_is_one_line(kind: IncidentKind, fields: dict[str, Any], told: str) -> None:
    assert describe_incident(Incident(kind=kind, at=1.0, **fields)) == told


def test_every_kind_has_words() -> None:
    assert all(describe_incident(Incident(kind=kind, at=1.0, subject="w1")) for kind in IncidentKind)
