"""The queues and exchanges of the control plane, as every broker adapter declares them."""

from collections.abc import Mapping
from typing import Literal

import msgspec

from mr.protocol import queues


class QueueDeclaration(msgspec.Struct, frozen=True):
    """One durable queue. The operator's policies set everything else."""

    name: str
    #: Highest message priority; 0 = the queue ignores priorities.
    max_priority: int = 0
    #: Only the oldest consumer is served; the others stand by.
    single_active: bool = False


QUEUES = (
    QueueDeclaration(queues.JOBS_QUEUE, single_active=True),
    QueueDeclaration(queues.TASKS_QUEUE, max_priority=queues.MAX_TASK_PRIORITY),
    QueueDeclaration(queues.REPORTS_QUEUE, single_active=True),
    QueueDeclaration(queues.DEAD_QUEUE),
)

QUEUE_NAMES = frozenset(queue.name for queue in QUEUES)
SINGLE_ACTIVE_QUEUES = frozenset(queue.name for queue in QUEUES if queue.single_active)

#: Durable exchanges and their kind.
EXCHANGES: Mapping[str, Literal["topic", "fanout"]] = {
    queues.EVENTS_EXCHANGE: "topic",
    queues.CONTROL_EXCHANGE: "fanout",
}

#: Unsettled messages a private subscription may hold.
PRIVATE_PREFETCH = 100
