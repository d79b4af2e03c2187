"""The declarations of our queues and exchanges."""

from typing import Any

from mr.adapters.rabbitmq.connection import Channel
from mr.adapters.topology import EXCHANGES, QUEUES, QueueDeclaration


def queue_arguments(queue: QueueDeclaration) -> dict[str, Any]:
    """What goes into a declaration. All else is the operator's policies': a changed argument would clash."""
    arguments: dict[str, Any] = {}
    if queue.max_priority:
        arguments["x-max-priority"] = queue.max_priority
    if queue.single_active:
        arguments["x-single-active-consumer"] = True
    return arguments


async def declare_topology(channel: Channel) -> None:
    """Declare everything durable that we use; what exists stays. Raises ChannelEnded."""
    for name, kind in EXCHANGES.items():
        await channel.call(channel.raw.exchange_declare, name, exchange_type=kind, durable=True)
    for queue in QUEUES:
        await channel.call(
            channel.raw.queue_declare, queue.name, durable=True, arguments=queue_arguments(queue)
        )
