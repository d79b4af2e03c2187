"""A failure of the scheduler over one job ends that job, and nothing else."""

from collections.abc import Sequence
from typing import Any

import pytest

from mr.coordinator.core import commands as c
from mr.coordinator.core import events as e
from mr.coordinator.core import scheduler as scheduler_module
from mr.coordinator.core.job_records import submitted_record
from mr.coordinator.core.scheduler import Scheduler
from mr.coordinator.core.state import ActiveJob
from mr.coordinator.core.transitions import JobCause
from mr.errors import IllegalTransition
from mr.protocol.codec import pack, unpack
from mr.protocol.ids import AttemptId, JobId, TaskId
from mr.protocol.messages import TaskCommitted
from mr.protocol.records import JobRecord, JobState, RestoredJob
from mr.settings import Settings
from tests.contract import samples
from tests.support.specs import make_spec, make_splits


def accepted(job: str) -> e.JobAccepted:
    return e.JobAccepted(0.0, make_spec(job, 1, 0), make_splits(1))


def ends(commands: Sequence[c.Command]) -> list[c.CloseJob]:
    return [command for command in commands if isinstance(command, c.CloseJob)]


def failing_for(job: str, method: Any) -> Any:
    """`method`, which raises for one job."""

    def call(*arguments: Any, **options: Any) -> Any:
        if any(getattr(value, "job_id", None) == job for value in arguments):
            raise RuntimeError("no such state")
        return method(*arguments, **options)

    return call


def broken(commands: Sequence[c.Command]) -> None:
    """Job one failed with the cause, all of its files are cleared, the log has its last events."""
    (end,) = ends(commands)
    assert (end.record.job_id, end.record.state) == ("one", JobState.FAILED)
    assert end.record.cause == "RuntimeError: no such state"
    assert end.record.history[-1].cause == "it cannot be handled: RuntimeError: no such state"
    assert unpack(pack(end.record), JobRecord) == end.record
    assert c.AbandonOutput(JobId("one"), "/out/one", cause=JobCause.BROKEN) in commands
    (fault,) = [command.text for command in commands if isinstance(command, c.LogFault)]
    assert "Traceback" in fault and "job one cannot be handled" in fault


@pytest.mark.parametrize(
    ("owner", "step"),
    [(scheduler_module, "advance"), (scheduler_module, "note_waiting"), (ActiveJob, "current_record")],
)
def test_what_fails_over_one_job_on_a_tick_fails_that_job(
    monkeypatch: pytest.MonkeyPatch, owner: Any, step: str
) -> None:
    scheduler = Scheduler(Settings(), seed=1)
    scheduler.handle_all((accepted("one"), accepted("two")))
    monkeypatch.setattr(owner, step, failing_for("one", getattr(owner, step)))
    broken(scheduler.handle(e.WorkersObserved(100.0, ())))
    assert scheduler.active_jobs() == ("two",)
    assert not ends(scheduler.handle(e.WorkersObserved(101.0, ())))


def test_an_illegal_transition_fails_its_job_and_is_logged_with_its_last_events(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def illegal(*_: Any) -> None:
        raise IllegalTransition("a task in state X takes no step")

    scheduler = Scheduler(Settings(), seed=1)
    scheduler.handle_all((accepted("one"), accepted("two")))
    monkeypatch.setattr(scheduler_module, "record_outcome", illegal)
    report = TaskCommitted(AttemptId(JobId("one"), TaskId("map-00000"), 3), samples.ANN, samples.FIRST_RUN)
    commands = scheduler.handle(e.ReportReceived(5.0, report))
    (end,) = ends(commands)
    assert end.record.cause == "a task in state X takes no step"
    (fault,) = [command.text for command in commands if isinstance(command, c.LogFault)]
    assert "5.000 TaskCommitted map-00000/3" in fault
    assert scheduler.active_jobs() == ("two",)


def test_a_stored_job_that_makes_no_sense_fails_at_the_takeover(monkeypatch: pytest.MonkeyPatch) -> None:
    def confused(*_: Any) -> None:
        raise RuntimeError("no such state")

    spec = make_spec("one", 1, 0)
    stored = RestoredJob(submitted_record(spec), spec, accepted("one").splits, {}, {}, {})
    scheduler = Scheduler(Settings(), seed=1)
    monkeypatch.setattr(scheduler_module, "restored_job", confused)
    broken(scheduler.handle(e.JobRestored(1.0, stored)))
    assert scheduler.active_jobs() == ()


# --- messages


# --- texts and numbers that no message holds
