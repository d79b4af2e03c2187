"""Events for the scheduler, and what it answers to them."""

from collections.abc import Iterable
from typing import Any, TypeVar

from mr.coordinator.core import commands as c
from mr.coordinator.core import events as e
from mr.coordinator.core.invariants import check
from mr.coordinator.core.scheduler import Scheduler
from mr.protocol.claims import Claim, Holder
from mr.protocol.failures import Failure
from mr.protocol.ids import AttemptId, Incarnation, JobId, TaskId, TaskKind, WorkerId, task_id
from mr.protocol.messages import TaskCommitted, TaskFailed
from mr.protocol.records import (
    MapOutput,
    Outcome,
    PartOutput,
    RunningTask,
    TaskResult,
    TaskStats,
    WorkerBeat,
    WorkerView,
)
from mr.settings import Settings
from tests.support.specs import make_spec, make_splits

T = TypeVar("T")
JOB, WORKER, LIFE = JobId("a"), WorkerId("w1"), Incarnation("w1.1")
MAP = [task_id(TaskKind.MAP, index) for index in range(100)]
REDUCE = [task_id(TaskKind.REDUCE, index) for index in range(8)]


def accepted(maps: int, reduces: int, job: str = "a", **options: int | str) -> e.JobAccepted:
    return e.JobAccepted(0.0, make_spec(job, maps, reduces, **options), make_splits(maps))  # type: ignore[arg-type]


def committed(
    task: TaskId, attempt: int = 1, stats: TaskStats | None = None, job: JobId = JOB
) -> e.ReportReceived:
    stats = stats or TaskStats()
    output: MapOutput | PartOutput = PartOutput(AttemptId(JOB, task, attempt), WORKER, LIFE, 5, 50, "0")
    if task.startswith("map"):
        output = MapOutput(AttemptId(JOB, task, attempt), WORKER, LIFE, "", "", "/spool")
    return recorded(output, stats, job)


def recorded(
    output: MapOutput | PartOutput, stats: TaskStats | None = None, job: JobId = JOB
) -> e.ReportReceived:
    """A report of an attempt that the store shows as committed."""
    outcome = Outcome(
        Claim(output.attempt.number, 0, output.attempt.number), TaskResult(output, stats or TaskStats())
    )
    return e.ReportReceived(
        1.0, TaskCommitted(AttemptId(job, output.attempt.task, output.attempt.number), WORKER, LIFE), outcome
    )


def failed(task: TaskId, attempt: int, failure: Failure) -> e.ReportReceived:
    outcome = Outcome(Claim(attempt, holders=(Holder(WORKER, LIFE, attempt, 0),)))
    return e.ReportReceived(1.0, TaskFailed(AttemptId(JOB, task, attempt), WORKER, LIFE, failure), outcome)


def workers(now: float, slots: int, *running: RunningTask) -> e.WorkersObserved:
    beat = WorkerBeat(
        worker=WORKER,
        incarnation=Incarnation("w1.1"),
        host="",
        address="",
        version="0",
        started_at=0.0,
        slots=slots,
        open_slots=slots,
        running=running,
    )
    return e.WorkersObserved(now, (WorkerView(beat, 0.0, True),))


def only(commands: Iterable[c.Command], kind: type[T]) -> T:
    (found,) = [command for command in commands if isinstance(command, kind)]
    return found


def fed(*events: e.Event, **settings: Any) -> tuple[Scheduler, list[c.Command]]:
    """A scheduler after some events, and the commands of the last one."""
    scheduler = Scheduler(Settings(**settings), seed=1)
    commands: list[c.Command] = []
    for event in events:
        commands = scheduler.handle(event)
        check(scheduler.state)
    return scheduler, commands
