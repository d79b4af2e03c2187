"""What becomes of a message that cannot be processed: an operator finds it on `mr.dead`."""

import logging

from mr.errors import BrokerUnavailable
from mr.ports import Broker, Delivery, OutgoingMessage
from mr.protocol.names import DEAD_QUEUE

log = logging.getLogger(__name__)

#: Longest reason in the header.
_REASON_CHARACTERS = 1000
#: Bytes of a message that are kept: enough to see whose it was.
DEAD_BODY_BYTES = 64 * 1024
#: Messages that are kept. Counted here and not by an argument of the queue: a queue that exists without it,
#: as older versions declare it, could not be declared any more.
MAX_DEAD_LETTERS = 1000


async def bury(broker: Broker, delivery: Delivery, reason: str) -> None:
    """Put a delivery on `mr.dead`, with `reason` and its `queue` in the headers; the caller acknowledges it.

    Others may send what we would not: of a large message the beginning is kept, and its size in the header
    `bytes`. When the queue is full the reason is logged alone, and the older messages stay.
    """
    reason = reason[:_REASON_CHARACTERS]
    if await _is_full(broker):
        log.error("%s is full; dropped a message of %s: %s", DEAD_QUEUE, delivery.routing_key, reason)
        return
    headers = {"reason": reason, "queue": delivery.routing_key}
    if len(delivery.body) > DEAD_BODY_BYTES:
        headers["bytes"] = str(len(delivery.body))
    await broker.publish(
        OutgoingMessage(
            routing_key=DEAD_QUEUE,
            body=delivery.body[:DEAD_BODY_BYTES],
            content_type=delivery.content_type or "application/octet-stream",
            headers=headers,
        )
    )


async def _is_full(broker: Broker) -> bool:
    try:
        return (await broker.depth(DEAD_QUEUE)).ready >= MAX_DEAD_LETTERS
    except BrokerUnavailable:  # somebody deleted it: publishing declares it again; or raises, as all does now
        return False
