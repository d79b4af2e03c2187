"""Declares the queues and exchanges of the control plane."""

from typing import Any

from mr.adapters.rabbitmq.connection import Channel
from mr.adapters.topology import EXCHANGES, QUEUES, QueueDeclaration


def queue_arguments(queue: QueueDeclaration) -> dict[str, Any]:
    """The arguments of a declaration. Policies set everything else: arguments cannot be changed later.

    The type is named because a virtual host may have another default, and only classic queues take a
    priority. The broker takes it for equal to a declaration without type, which older versions made.
    """
    arguments: dict[str, Any] = {"x-queue-type": "classic"}
    if queue.max_priority:
        arguments["x-max-priority"] = queue.max_priority
    if queue.single_active:
        arguments["x-single-active-consumer"] = True
    return arguments


async def declare_topology(channel: Channel) -> None:
    """Declare all durable queues and exchanges; existing ones stay. Raises ChannelEnded."""
    for name, kind in EXCHANGES.items():
        await channel.call(channel.raw.exchange_declare, name, exchange_type=kind, durable=True)
    for queue in QUEUES:
        await channel.call(
            channel.raw.queue_declare, queue.name, durable=True, arguments=queue_arguments(queue)
        )
