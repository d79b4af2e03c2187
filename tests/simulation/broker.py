"""A broker that delays, doubles, reorders and, where the healing loops allow it, drops."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from mr.protocol.messages import Control, Report, TaskMessage
from tests.simulation.world import World


@dataclass(eq=False)
class TaskDelivery:
    """A task message, from publication to acknowledgement."""

    message: TaskMessage
    priority: int
    order: int = 0
    #: Whoever has it unsettled.
    consumer: "TaskConsumer | None" = None


class TaskConsumer(Protocol):
    """A worker, as the broker sees it."""

    unsettled: list[TaskDelivery]

    def prefetch(self) -> int:
        """How many unsettled deliveries it takes."""

    def deliver(self, delivery: TaskDelivery) -> None:
        """Hand a message over."""

    def control(self, control: Control) -> None:
        """Hand a broadcast over."""


@dataclass(eq=False)
class ReportDelivery:
    """A report, until the coordinator acknowledges it."""

    report: Report
    #: The incarnation of the coordinator that has it unsettled; 0 for none.
    holder: int = 0


@dataclass
class SimulatedBroker:
    """`mr.tasks`, `mr.reports` and `mr.control`."""

    world: World
    drop: float
    double: float
    consumers: list[TaskConsumer] = field(default_factory=list)
    tasks: list[TaskDelivery] = field(default_factory=list)
    reports: list[ReportDelivery] = field(default_factory=list)
    on_report: Callable[[], None] = lambda: None
    _published: int = 0

    def publish_task(self, message: TaskMessage, priority: int) -> None:
        """Queue a task message; seldom it comes twice, or never (an operator purged the queue)."""
        if self.world.strikes(self.drop):
            self.world.say(f"broker drops {message.job_id} {message.task_id}")
            return
        for _ in range(2 if self.world.strikes(self.double) else 1):
            self._published += 1
            self._queue(TaskDelivery(message, priority, self._published))
        self.pump()

    def _queue(self, delivery: TaskDelivery) -> None:
        delivery.consumer = None
        self.tasks.append(delivery)
        self.tasks.sort(key=lambda d: (-d.priority, d.order))

    def pump(self) -> None:
        """Hand ready messages to workers with room, in no particular order of workers."""
        open_consumers = [c for c in self.consumers if len(c.unsettled) < c.prefetch()]
        while self.tasks and open_consumers:
            consumer = self.world.chance.choice(open_consumers)
            delivery = self.tasks.pop(0)
            delivery.consumer = consumer
            consumer.unsettled.append(delivery)
            self.world.after(self.world.delay(), lambda c=consumer, d=delivery: self._arrive(c, d))  # type: ignore[misc]
            open_consumers = [c for c in open_consumers if len(c.unsettled) < c.prefetch()]

    def _arrive(self, consumer: TaskConsumer, delivery: TaskDelivery) -> None:
        if delivery.consumer is consumer and delivery in consumer.unsettled:
            consumer.deliver(delivery)

    def ack(self, consumer: TaskConsumer, delivery: TaskDelivery) -> None:
        """Settle; without effect when the connection it came by is gone."""
        if delivery in consumer.unsettled:
            consumer.unsettled.remove(delivery)
        self.pump()

    def disconnect(self, consumer: TaskConsumer) -> None:
        """A connection is gone: what was unsettled is delivered again."""
        for delivery in consumer.unsettled:
            self._queue(TaskDelivery(delivery.message, delivery.priority, delivery.order))
        consumer.unsettled.clear()
        self.pump()

    def publish_report(self, report: Report) -> None:
        """Queue a report: never dropped, sometimes doubled, often overtaken."""
        for _ in range(2 if self.world.strikes(self.double) else 1):
            self.world.after(self.world.delay(), lambda: self._queue_report(report))

    def _queue_report(self, report: Report) -> None:
        self.reports.append(ReportDelivery(report))
        self.on_report()

    def broadcast(self, control: Control) -> None:
        """Tell every connected worker; one that is just reconnecting misses it."""
        for consumer in list(self.consumers):
            if not self.world.strikes(self.drop):
                self.world.after(self.world.delay(), lambda c=consumer: c.control(control))  # type: ignore[misc]
