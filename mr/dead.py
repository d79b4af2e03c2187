"""What becomes of a message that cannot be processed: an operator finds it on `mr.dead`."""

from mr.ports import Broker, Delivery, OutgoingMessage
from mr.protocol.codec import MAX_MESSAGE_BYTES
from mr.protocol.names import DEAD_QUEUE

#: Longest reason in the header.
_REASON_CHARACTERS = 1000


async def bury(broker: Broker, delivery: Delivery, reason: str) -> None:
    """Put a delivery on `mr.dead`, with `reason` and its `queue` in the headers; the caller acknowledges it.

    Others may send what we would not: of a message over the limit the beginning is kept, and its size in the
    header `bytes`.
    """
    headers = {"reason": reason[:_REASON_CHARACTERS], "queue": delivery.routing_key}
    if len(delivery.body) > MAX_MESSAGE_BYTES:
        headers["bytes"] = str(len(delivery.body))
    await broker.publish(
        OutgoingMessage(
            routing_key=DEAD_QUEUE,
            body=delivery.body[:MAX_MESSAGE_BYTES],
            content_type=delivery.content_type or "application/octet-stream",
            headers=headers,
        )
    )
