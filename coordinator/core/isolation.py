"""When the engine fails over one job, that job ends and the others go on. Pure."""

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec

from mr.coordinator.core.attempts import SchedulerState
from mr.coordinator.core.decisions import Decisions
from mr.coordinator.core.events import (
    CancelRequested,
    ClaimsObserved,
    Event,
    JobAccepted,
    JobBroken,
    JobRestored,
    JobWrittenBack,
    OutputFailed,
    OutputFinished,
    ReportReceived,
)
from mr.coordinator.core.state import OPEN_STATES, ActiveJob, failed_record, submitted_record
from mr.error_text import fault
from mr.protocol.ids import JobId
from mr.protocol.messages import WorkerStopped
from mr.protocol.records import JobRecord, TaskRecord, TaskState


def job_of(event: Event) -> JobId | None:
    """The job that an event is about; None when it is about none, or about several."""
    match event:
        case JobAccepted():
            return event.spec.job_id
        case JobRestored():
            return event.job.spec.job_id
        case ReportReceived():
            return None if isinstance(event.report, WorkerStopped) else event.report.job_id
        case CancelRequested() | ClaimsObserved() | JobWrittenBack() | JobBroken():
            return event.job_id
        case OutputFinished() | OutputFailed():
            return event.job_id
        case _:
            return None


def note_event(core: SchedulerState, event: Event) -> None:
    """Keep the last few events of a job, for the log if the engine fails over it."""
    job = core.jobs.get(job_of(event) or JobId(""))
    if job is not None:
        what = type(event).__name__
        if isinstance(event, ReportReceived) and not isinstance(event.report, WorkerStopped):
            report = event.report
            what = f"{type(report).__name__} {report.task_id}/{report.attempt}"
        job.recent.append(f"{event.now:.3f} {what}")


@contextmanager
def isolated(core: SchedulerState, turn: Decisions, job: ActiveJob) -> Iterator[None]:
    """Handle one job: an exception inside fails this job, and is logged with its last events."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - the outermost frame around one job: it fails, and is logged
        break_job(core, turn, job, error)


def each_job(core: SchedulerState, turn: Decisions, act: Callable[[ActiveJob], object]) -> None:
    """Do something for every active job, each on its own."""
    for job in list(core.jobs.values()):
        with isolated(core, turn, job):
            act(job)


@contextmanager
def logged(turn: Decisions, what: str) -> Iterator[None]:
    """Do something that concerns no single job: an exception inside is logged, and the rest goes on."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - the outermost frame around one step: it is logged
        turn.log_fault(f"{what} failed\n{_told(error)}")


def break_job(core: SchedulerState, turn: Decisions, job: ActiveJob, error: Exception) -> None:
    """Fail a job whose state can no longer be trusted; only its records are used."""
    core.jobs.pop(job.job_id, None)
    tasks = tuple(_closed(task.record, turn.wall) for task in job.tasks.values())
    _break(turn, job.record, tasks, job.spec.output, error, "\n".join(job.recent))


def break_event(core: SchedulerState, turn: Decisions, event: Event, error: Exception) -> None:
    """Fail the job of an event that could not be handled; an event of no job is logged and dropped."""
    job = core.jobs.get(job_of(event) or JobId(""))
    if job is not None:
        break_job(core, turn, job, error)
    elif isinstance(event, JobAccepted):
        _break(turn, submitted_record(event.spec), (), event.spec.output, error)
    elif isinstance(event, JobRestored):
        tasks = tuple(_closed(task, turn.wall) for task in event.job.tasks.values())
        _break(turn, event.job.record, tasks, event.job.spec.output, error)
    else:
        turn.log_fault(f"{type(event).__name__} is left out\n{_told(error)}")


def _break(
    turn: Decisions,
    record: JobRecord,
    tasks: tuple[TaskRecord, ...],
    output: str,
    error: Exception,
    recent: str = "",
) -> None:
    cause = fault(error)
    turn.log_fault(f"job {record.job_id} cannot be handled, so it fails\n{_told(error)}\n{recent}")
    turn.end_broken(failed_record(record, cause, turn.wall), tasks, output)


def _told(error: Exception) -> str:
    return "".join(traceback.format_exception(error)).rstrip()


def _closed(record: TaskRecord, wall: float) -> TaskRecord:
    if record.state not in OPEN_STATES:
        return record
    return msgspec.structs.replace(record, state=TaskState.CANCELLED, ended_at=wall)
