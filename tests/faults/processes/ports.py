"""Broker and store with points around the calls of a worker and of the coordinator.

Each class passes everything on to the adapter that it wraps, and waits at a point before or after some calls.
"""

from collections.abc import Iterable
from typing import Any

from mr.errors import BadMessage
from mr.ports.broker import Broker, Consumer, Delivery, OnDelivery, OutgoingMessage
from mr.ports.claims import ClaimReply
from mr.ports.store import StateStore
from mr.protocol.claims import Verdict
from mr.protocol.codec import decode
from mr.protocol.ids import AttemptId, JobId, TaskId, task_kind
from mr.protocol.messages import Report, TaskCommitted, TaskMessage
from mr.protocol.queues import JOBS_QUEUE, REPORTS_QUEUE, TASKS_QUEUE
from mr.protocol.records import JobRecord, TaskRecord, TaskResult, TaskState
from tests.faults.processes.points import Points


class _Around:
    """Passes on what the class does not define itself."""

    def __init__(self, inner: Any, points: Points) -> None:
        self.inner = inner
        self.points = points

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class WorkerStore(_Around):
    """The points of a claim and of a commit."""

    inner: StateStore

    async def claim(self, job: JobId, task: TaskId, *others: Any) -> ClaimReply:
        kind = task_kind(task)
        await self.points.reach(f"{kind}-before-claim", task)
        reply = await self.inner.claim(job, task, *others)
        if reply.verdict is Verdict.GRANTED:
            await self.points.reach(f"{kind}-after-claim", task)
        return reply

    async def commit(self, attempt: AttemptId, result: TaskResult, resumed: int = 0) -> bool:
        kind = task_kind(attempt.task)
        await self.points.reach(f"{kind}-before-record", attempt.task)
        won = await self.inner.commit(attempt, result, resumed)
        await self.points.reach(f"{kind}-after-record", attempt.task)
        return won


class WorkerBroker(_Around):
    """The points of a report and of an acknowledgement."""

    inner: Broker

    async def publish(self, message: OutgoingMessage) -> None:
        await self.inner.publish(message)
        task = _committed(message)
        if task is not None:
            await self.points.reach(f"{task_kind(task)}-after-report", task)

    async def consume(self, queue: str, on_delivery: OnDelivery, *, prefetch: int) -> Consumer:
        async def with_points(delivery: Delivery) -> None:
            await on_delivery(_TaskDelivery(delivery, self.points))

        around = with_points if queue == TASKS_QUEUE else on_delivery
        return await self.inner.consume(queue, around, prefetch=prefetch)


def _committed(message: OutgoingMessage) -> TaskId | None:
    """The task whose commit a message reports."""
    if message.routing_key != REPORTS_QUEUE:
        return None
    report = decode(message.body, Report, message.content_type)  # type: ignore[arg-type]
    return report.attempt.task if isinstance(report, TaskCommitted) else None


class _TaskDelivery(_Around):
    """A task message that waits before it is acknowledged."""

    async def ack(self) -> None:
        try:
            message = decode(self.inner.body, TaskMessage, self.inner.content_type)
        except BadMessage:
            await self.inner.ack()
            return
        await self.points.reach(f"{task_kind(message.task_id)}-before-ack", message.task_id)
        await self.inner.ack()


class CoordinatorStore(_Around):
    """The points of a request, of a report and of a job's end."""

    inner: StateStore

    async def create_job(self, *arguments: Any) -> bool:
        await self.points.reach("request-planned")
        created = await self.inner.create_job(*arguments)
        await self.points.reach("request-stored")
        return created

    async def save_job(self, record: JobRecord, tasks: Iterable[TaskRecord], epoch: int) -> None:
        tasks = tuple(tasks)
        await self.inner.save_job(record, tasks, epoch)
        for kind in {task_kind(task.task_id) for task in tasks if task.state is TaskState.QUEUED}:
            await self.points.reach(f"{kind}-persisted")

    async def outcomes(self, *arguments: Any) -> Any:
        await self.points.reach("report-received")
        return await self.inner.outcomes(*arguments)

    async def end_job(self, *arguments: Any) -> None:
        await self.points.reach("end-not-stored")
        await self.inner.end_job(*arguments)
        await self.points.reach("end-stored")


class CoordinatorBroker(_Around):
    """The points of publishing, answering and acknowledging."""

    inner: Broker

    async def publish(self, message: OutgoingMessage) -> None:
        if message.correlation_id is not None:
            await self.points.reach("request-not-answered")
        await self.inner.publish(message)
        if message.routing_key == TASKS_QUEUE:
            await self.points.reach("task-published")

    async def consume(self, queue: str, on_delivery: OnDelivery, *, prefetch: int) -> Consumer:
        point = {REPORTS_QUEUE: "report-not-acknowledged", JOBS_QUEUE: "request-not-acknowledged"}[queue]

        async def with_points(delivery: Delivery) -> None:
            await on_delivery(_HeldDelivery(delivery, self.points, point))

        return await self.inner.consume(queue, with_points, prefetch=prefetch)


class _HeldDelivery(_Around):
    """A delivery that waits before it is acknowledged."""

    def __init__(self, inner: Delivery, points: Points, point: str) -> None:
        super().__init__(inner, points)
        self._point = point

    async def ack(self) -> None:
        await self.points.reach(self._point)
        await self.inner.ack()
