"""Somebody sets the machine's clock back: nothing is decided by the time of day."""

import time

import pytest

from mr.adapters.system_clock import SystemClock
from mr.coordinator.core import commands as c
from mr.coordinator.core import events as e
from mr.coordinator.core.scheduler import Scheduler
from mr.protocol.claims import Claim, Holder
from mr.protocol.failures import Failure, FailureKind
from mr.protocol.ids import AttemptId, Incarnation, JobId, TaskId, WorkerId
from mr.protocol.messages import TaskFailed
from mr.protocol.records import Outcome, WorkerBeat, WorkerView
from mr.settings import Settings
from tests.support.specs import make_spec, make_splits

NOON = 1_900_000_000.0
MAP = TaskId("map-00000")
LIFE = Incarnation("w1.1")
VIEW = WorkerView(
    WorkerBeat(
        worker=WorkerId("w1"),
        incarnation=LIFE,
        host="w1",
        address="",
        version="",
        started_at=NOON,
        slots=1,
        open_slots=1,
    ),
    0.0,
    True,
)


def test_decisions_go_by_a_clock_that_nobody_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SystemClock()
    before = clock.now()
    monkeypatch.setattr(time, "time", lambda: NOON - 1e9)
    assert clock.now() >= before
    assert clock.wall() == NOON - 1e9


def published(commands: list[c.Command]) -> list[TaskId]:
    batches = [command for command in commands if isinstance(command, c.PublishTasks)]
    return [task.message.task_id for batch in batches for task in batch.tasks]


def records(commands: list[c.Command]) -> dict[TaskId, float]:
    saves = [command for command in commands if isinstance(command, c.SaveJob)]
    return {task.task_id: task.queued_at for save in saves for task in save.tasks}


def test_retries_and_lost_messages_are_noticed_while_records_show_the_time_of_day() -> None:
    settings = Settings()
    scheduler = Scheduler(settings, seed=1)
    scheduler.handle(e.WorkersObserved(0.0, (VIEW,)), NOON)
    splits = make_splits(1)
    accepted = scheduler.handle(e.JobAccepted(0.0, make_spec("a", 1, 0), splits), NOON)
    assert published(accepted) == [MAP]
    assert records(accepted)[MAP] == NOON
    failure = Failure(FailureKind.USER_ERROR, "it raised")
    report = TaskFailed(AttemptId(JobId("a"), MAP, 1), WorkerId("w1"), LIFE, failure)
    released = Outcome(Claim(1, 0, 0, False, (Holder(WorkerId("w1"), LIFE, 1, 0),)))
    an_hour_before = NOON - 3600.0
    scheduler.handle(e.ReportReceived(1.0, report, released), an_hour_before)
    retried = scheduler.handle(e.WorkersObserved(5.0, (VIEW,)), an_hour_before + 4.0)
    assert published(retried) == [MAP]
    assert records(retried)[MAP] == an_hour_before + 4.0
    later = 6.0 + settings.republish_seconds
    overdue = scheduler.handle(e.WorkersObserved(later, (VIEW,)), an_hour_before)
    assert [command.job_id for command in overdue if isinstance(command, c.InspectClaims)] == ["a"]


def test_a_job_taken_over_from_a_host_with_another_clock_goes_on() -> None:
    old, new = Scheduler(Settings(), seed=1), Scheduler(Settings(), seed=2)
    splits = make_splits(1)
    old.handle(e.JobAccepted(9000.0, make_spec("a", 1, 0), splits), NOON)
    job = old.snapshot(JobId("a"))
    assert job is not None
    assert published(new.handle(e.JobRestored(1.0, job), NOON - 1e6)) == [MAP]
