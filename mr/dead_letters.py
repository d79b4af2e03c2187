"""`mr.dead`: what could not be processed, with the reason; read, sent again or removed by `mr dead`."""

import asyncio
import hashlib
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import msgspec

from mr.errors import BadMessage, BrokerUnavailable, Unroutable
from mr.ports.broker import Broker, Delivery, OutgoingMessage
from mr.protocol.queues import DEAD_QUEUE

log = logging.getLogger(__name__)

#: Longest reason in the header.
_REASON_CHARACTERS = 1000
#: Bytes of a message that are kept: enough to see whose it was.
DEAD_BODY_BYTES = 64 * 1024
#: Messages that are kept. Counted here and not by an argument of the queue: a queue that exists without it,
#: as older versions declare it, could not be declared any more.
MAX_DEAD_LETTERS = 1000
#: How long to wait for the next message of the queue: another reader may hold those that were counted.
_READ_SECONDS = 2.0


async def dead_letter(broker: Broker, delivery: Delivery, reason: str) -> None:
    """Put a delivery on `mr.dead`, with `reason`, its `queue` and the time in the headers.

    The caller acknowledges it. Of a large message the beginning is kept, and its size in the header `bytes`.
    When the queue is full the reason is only logged, and the older messages stay.
    """
    reason = reason[:_REASON_CHARACTERS].encode("utf-8", "backslashreplace").decode()
    if await _is_full(broker):
        log.error("%s is full; dropped a message of %s: %s", DEAD_QUEUE, delivery.routing_key, reason)
        return
    headers = {"reason": reason, "queue": delivery.routing_key, "at": str(int(time.time()))}
    if len(delivery.body) > DEAD_BODY_BYTES:
        headers["bytes"] = str(len(delivery.body))
    await broker.publish(
        OutgoingMessage(
            routing_key=DEAD_QUEUE,
            body=delivery.body[:DEAD_BODY_BYTES],
            content_type=delivery.content_type or "application/octet-stream",
            type=delivery.type or "",
            reply_to=delivery.reply_to,
            correlation_id=delivery.correlation_id,
            headers=headers,
        )
    )


async def _is_full(broker: Broker) -> bool:
    try:
        return (await broker.depth(DEAD_QUEUE)).ready >= MAX_DEAD_LETTERS
    except BrokerUnavailable:  # deleted: publishing declares it again, or raises if RabbitMQ is away
        return False


class DeadLetter(msgspec.Struct, frozen=True):
    """One message of `mr.dead`, as `mr dead` shows it."""

    #: Eight hex digits that follow from the message: equal messages that failed at once share it.
    id: str
    #: The queue that the message came from; empty if another system put it on `mr.dead`.
    queue: str
    reason: str
    #: Seconds since the epoch; 0 when unknown.
    at: int
    #: AMQP `type`; empty for a job request.
    type: str
    content_type: str
    body: bytes
    #: Size of the message as it was sent: `body` may be its beginning only.
    bytes: int

    @property
    def is_whole(self) -> bool:
        """Whether all of the message was kept."""
        return len(self.body) == self.bytes


class HeldLetter:
    """A dead letter that this reader holds; it goes back unless it is sent again or removed."""

    def __init__(self, broker: Broker, delivery: Delivery) -> None:
        self._broker = broker
        self._delivery = delivery
        headers = delivery.headers
        digest = hashlib.sha256(repr(sorted(headers.items())).encode() + delivery.body)
        self.letter = DeadLetter(
            id=digest.hexdigest()[:8],
            queue=headers.get("queue", ""),
            reason=headers.get("reason", ""),
            at=_whole(headers.get("at", "")),
            type=delivery.type or "",
            content_type=delivery.content_type or "",
            body=delivery.body,
            bytes=_whole(headers.get("bytes", "")) or len(delivery.body),
        )

    async def send_again(self) -> None:
        """Publish the message on its queue once more, then remove it here.

        Raises BadMessage for a message of which only the beginning was kept, or whose queue is gone.
        """
        letter, delivery = self.letter, self._delivery
        if not letter.is_whole:
            raise BadMessage(
                f"{letter.id} cannot be sent again: of its {letter.bytes} bytes {len(letter.body)} were kept"
            )
        again = OutgoingMessage(
            routing_key=letter.queue,
            body=letter.body,
            content_type=letter.content_type,
            type=letter.type,
            reply_to=delivery.reply_to,
            correlation_id=delivery.correlation_id,
            mandatory=True,
        )
        try:
            await self._broker.publish(again)
        except Unroutable as error:
            raise BadMessage(
                f"{letter.id} cannot be sent again: its queue {letter.queue!r} is gone; "
                f"remove it with: mr dead purge {letter.id}"
            ) from error
        await self.remove()

    async def remove(self) -> None:
        """Remove the message for good."""
        await self._delivery.ack()


@asynccontextmanager
async def hold_letters(broker: Broker) -> AsyncIterator[Sequence[HeldLetter]]:
    """Hold all messages of `mr.dead`, oldest first; at the end those still held go back to their places.

    At most MAX_DEAD_LETTERS, and none that another reader holds at the moment. Raises BrokerUnavailable.
    """
    count = min((await broker.depth(DEAD_QUEUE)).ready, MAX_DEAD_LETTERS)
    arrived: asyncio.Queue[Delivery] = asyncio.Queue()
    held: list[Delivery] = []
    consumer = await broker.consume(DEAD_QUEUE, arrived.put, prefetch=max(count, 1))
    try:
        while len(held) < count:
            try:
                async with asyncio.timeout(_READ_SECONDS):
                    held.append(await arrived.get())
            except TimeoutError:
                break
        yield [HeldLetter(broker, delivery) for delivery in held]
    finally:
        await consumer.cancel()
        while not arrived.empty():
            held.append(arrived.get_nowait())
        for delivery in held:
            await delivery.reject(requeue=True)


def _whole(text: str) -> int:
    """A header as a whole number; 0 for any other text, as anybody may put messages on the queue."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 11 else 0
