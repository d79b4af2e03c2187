"""Keeps daemons running: a message that fails goes to `mr.dead`, a failed round of a loop is logged."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from mr.error_text import fault
from mr.errors import BrokerUnavailable, ClusterUnreachable, Deposed
from mr.ports.broker import Broker, Delivery, OnDelivery, OutgoingMessage
from mr.protocol.queues import DEAD_QUEUE

log = logging.getLogger(__name__)

#: Longest reason in the header.
_REASON_CHARACTERS = 1000
#: Bytes of a message that are kept: enough to see whose it was.
DEAD_BODY_BYTES = 64 * 1024
#: Messages that are kept. Counted here and not by an argument of the queue: a queue that exists without it,
#: as older versions declare it, could not be declared any more.
MAX_DEAD_LETTERS = 1000
#: Errors that end a daemon or its leadership: a server that stays away, a successor.
FATAL = (ClusterUnreachable, Deposed)


@contextmanager
def surviving(what: str, *passing: type[Exception]) -> Iterator[None]:
    """Log with its traceback what goes wrong inside, and go on: for the outermost loops of a daemon.

    FATAL errors pass, and those of the classes given.
    """
    try:
        yield
    except (*FATAL, *passing):  # type: ignore[misc]
        raise
    except Exception:
        log.exception("%s failed; going on", what)


def guarded(broker: Broker, on_delivery: OnDelivery) -> OnDelivery:
    """Make a consumer that goes on whatever `on_delivery` raises.

    The exception is logged. The message is delivered once more; if that fails
    as well, or if it had been delivered before, it goes to `mr.dead` with the reason.
    """

    async def take(delivery: Delivery) -> None:
        try:
            await on_delivery(delivery)
        except FATAL:
            raise
        except Exception as error:
            log.exception("a message of %s cannot be handled", delivery.routing_key)
            if not delivery.redelivered:
                await delivery.reject(requeue=True)
                return
            await dead_letter(broker, delivery, fault(error))
            await delivery.ack()

    return take


async def dead_letter(broker: Broker, delivery: Delivery, reason: str) -> None:
    """Put a delivery on `mr.dead`, with `reason` and its `queue` in the headers; the caller acknowledges it.

    Of a large message the beginning is kept, and its size in the header `bytes`. When the queue is full the
    reason is only logged, and the older messages stay.
    """
    reason = reason[:_REASON_CHARACTERS].encode("utf-8", "backslashreplace").decode()
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
    except BrokerUnavailable:  # deleted: publishing declares it again, or raises if RabbitMQ is away
        return False
