"""An error of the engine about one job fails that job; the others go on. Pure."""

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec

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
from mr.coordinator.core.job_records import failed_record, submitted_record
from mr.coordinator.core.state import OPEN_STATES, ActiveJob, SchedulerState
from mr.coordinator.core.transitions import JobCause
from mr.error_text import fault
from mr.protocol.ids import JobId
from mr.protocol.messages import WorkerStopped
from mr.protocol.records import JobRecord, TaskRecord, TaskState


def job_of(event: Event) -> JobId | None:
    """The job that an event is about; None if it is about no job or several."""
    match event:
        case JobAccepted():
            return event.spec.job_id
        case JobRestored():
            return event.job.spec.job_id
        case ReportReceived():
            return None if isinstance(event.report, WorkerStopped) else event.report.attempt.job
        case CancelRequested() | ClaimsObserved() | JobWrittenBack() | JobBroken():
            return event.job_id
        case OutputFinished() | OutputFailed():
            return event.job_id
        case _:
            return None


def note_event(state: SchedulerState, event: Event) -> None:
    """Remember the last events of a job, for the log if it cannot be handled."""
    job = state.jobs.get(job_of(event) or JobId(""))
    if job is not None:
        what = type(event).__name__
        if isinstance(event, ReportReceived) and not isinstance(event.report, WorkerStopped):
            report = event.report
            what = f"{type(report).__name__} {report.attempt.task}/{report.attempt.number}"
        job.recent.append(f"{event.now:.3f} {what}")


@contextmanager
def isolated(decisions: Decisions, job: ActiveJob) -> Iterator[None]:
    """Handle one job. An exception inside fails this job, and is logged with its last events."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - the outermost frame around one job: it fails, and is logged
        break_job(decisions, job, error)


def each_job(decisions: Decisions, act: Callable[[ActiveJob], object]) -> None:
    """Do something for every active job; an exception fails only the job that caused it."""
    for job in list(decisions.state.jobs.values()):
        with isolated(decisions, job):
            act(job)


@contextmanager
def logged(decisions: Decisions, what: str) -> Iterator[None]:
    """Do something that concerns no single job. An exception inside is logged."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - the outermost frame around one step: it is logged
        decisions.log_fault(f"{what} failed\n{_traceback(error)}", f"{what} failed")


def break_job(decisions: Decisions, job: ActiveJob, error: Exception) -> None:
    """Fail a job whose state cannot be trusted any more; only its records are used."""
    decisions.state.jobs.pop(job.job_id, None)
    tasks = tuple(_closed(task.record, decisions.time_of_day) for task in job.tasks.values())
    _break(decisions, job.record, tasks, job.spec.output, error, "\n".join(job.recent))


def break_event(decisions: Decisions, event: Event, error: Exception) -> None:
    """Fail the job of an event that could not be handled. An event about no job is logged and ignored."""
    job = decisions.state.jobs.get(job_of(event) or JobId(""))
    if job is not None:
        break_job(decisions, job, error)
    elif isinstance(event, JobAccepted):
        _break(decisions, submitted_record(event.spec), (), event.spec.output, error)
    elif isinstance(event, JobRestored):
        tasks = tuple(_closed(task, decisions.time_of_day) for task in event.job.tasks.values())
        _break(decisions, event.job.record, tasks, event.job.spec.output, error)
    else:
        cause = f"{type(event).__name__} is ignored"
        decisions.log_fault(f"{cause}\n{_traceback(error)}", cause)


def _break(
    decisions: Decisions,
    record: JobRecord,
    tasks: tuple[TaskRecord, ...],
    output: str,
    error: Exception,
    recent: str = "",
) -> None:
    text = f"job {record.job_id} cannot be handled, so it fails\n{_traceback(error)}\n{recent}"
    decisions.log_fault(text, JobCause.BROKEN)
    decisions.close_broken(failed_record(record, fault(error), decisions.time_of_day), tasks, output)


def _traceback(error: Exception) -> str:
    return "".join(traceback.format_exception(error)).rstrip()


def _closed(record: TaskRecord, at: float) -> TaskRecord:
    if record.state not in OPEN_STATES:
        return record
    return msgspec.structs.replace(record, state=TaskState.CANCELLED, ended_at=at)
