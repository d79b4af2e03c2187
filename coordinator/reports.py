"""Reports are hints: adds to each what the store says of its task or worker, which is what counts."""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

import msgspec

from mr.coordinator.core.events import Event, JobBroken, ReportReceived
from mr.errors import BadMessage
from mr.ports.scheduling import SchedulingStore
from mr.ports.workers import WorkerStore
from mr.protocol.ids import Incarnation, JobId, TaskId, is_task_id
from mr.protocol.messages import TaskCommitted, TaskFailed, WorkerStopped
from mr.protocol.records import Outcome


class ReportStore(SchedulingStore, WorkerStore, Protocol):
    """The stores that reports are checked against."""


async def with_outcomes(
    store: ReportStore, events: Sequence[Event], active: Collection[JobId]
) -> tuple[Event, ...]:
    """Add to each report of an active job what the store says, with one read per job.

    If the records of a job cannot be read, a JobBroken replaces its reports. Raises StoreUnavailable.
    """
    asked: dict[JobId, dict[TaskId, None]] = {}
    for event in events:
        if (name := _task_of(event)) is not None and name[0] in active:
            asked.setdefault(name[0], {})[name[1]] = None
    known = {job: await _read(store, job, tuple(tasks)) for job, tasks in asked.items()}
    stops = any(isinstance(e, ReportReceived) and isinstance(e.report, WorkerStopped) for e in events)
    beating = {view.beat.incarnation for view in await store.workers()} if stops else set()
    return tuple(_completed(event, known, beating) for event in events)


async def _read(
    store: SchedulingStore, job: JobId, tasks: Sequence[TaskId]
) -> Mapping[TaskId, Outcome] | BadMessage:
    try:
        return await store.outcomes(job, tasks)
    except BadMessage as error:
        return error


def _task_of(event: Event) -> tuple[JobId, TaskId] | None:
    """The task that a report is about; None for other events, and for a malformed task id."""
    report = event.report if isinstance(event, ReportReceived) else None
    if isinstance(report, TaskCommitted | TaskFailed) and is_task_id(report.attempt.task):
        return report.attempt.job, report.attempt.task
    return None


def _completed(
    event: Event,
    known: Mapping[JobId, Mapping[TaskId, Outcome] | BadMessage],
    beating: Collection[Incarnation],
) -> Event:
    if not isinstance(event, ReportReceived):
        return event
    report = event.report
    if isinstance(report, WorkerStopped):
        return msgspec.structs.replace(event, beats=report.incarnation in beating)
    answer = known.get(report.attempt.job, {})
    if isinstance(answer, BadMessage):
        return JobBroken(event.now, report.attempt.job, str(answer))
    return msgspec.structs.replace(event, outcome=answer.get(report.attempt.task, Outcome()))
