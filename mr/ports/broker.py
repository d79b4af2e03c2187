"""RabbitMQ as the engine sees it."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

import msgspec


class OutgoingMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A message to publish. `exchange` empty = the default one: `routing_key` names a queue."""

    routing_key: str
    body: bytes
    exchange: str = ""
    content_type: str = "application/msgpack"
    #: AMQP `type` property: what the body is, where a queue carries several kinds.
    type: str = ""
    priority: int = 0
    #: False: sent once, and lost with the connection or the broker. For answers, which can be asked again.
    persistent: bool = True
    #: True: publishing it raises Unroutable when no queue takes it.
    mandatory: bool = False
    reply_to: str | None = None
    correlation_id: str | None = None
    headers: Mapping[str, str] = {}


class Delivery(Protocol):
    """A message handed to a consumer, until it is settled once."""

    body: bytes
    content_type: str | None
    type: str | None
    routing_key: str
    reply_to: str | None
    correlation_id: str | None
    #: Who published it, vouched for by the broker; None where the publisher did not say.
    user_id: str | None
    redelivered: bool

    async def ack(self) -> None:
        """Settle: done with. No effect when the connection it came by is gone (it comes again)."""

    async def reject(self, *, requeue: bool) -> None:
        """Settle: hand back to the queue, or drop. No effect when the connection is gone."""


OnDelivery = Callable[[Delivery], Awaitable[None]]


class Consumer(Protocol):
    """A subscription that survives reconnects until it is cancelled."""

    @property
    def queue_name(self) -> str:
        """The queue it consumes. A private one that was given no name has another after a reconnect."""

    async def set_prefetch(self, prefetch: int) -> None:
        """Change how many unsettled deliveries it may hold; 0 pauses it, unsettled ones stay its own."""

    async def cancel(self) -> None:
        """End the subscription. Deliveries not yet settled can still be settled."""


class QueueDepth(msgspec.Struct, frozen=True):
    """What a queue holds right now."""

    ready: int
    consumers: int


class Broker(Protocol):
    """RabbitMQ, or its like inside one process."""

    async def connect(self) -> None:
        """Connect and declare the topology (idempotent). Raises BrokerUnavailable with the reason.

        May be called again after `close`: subscriptions and failures of before are forgotten.
        """

    async def close(self) -> None:
        """Disconnect. Unsettled deliveries go back to their queues."""

    async def publish(self, message: OutgoingMessage) -> None:
        """Return once the broker confirmed. Retries over reconnects; raises BrokerUnavailable after that.

        Raises Unroutable for a `mandatory` message that no queue takes. Many publishes may be awaited
        together: their confirms come in batches.
        """

    async def consume(self, queue: str, on_delivery: OnDelivery, *, prefetch: int) -> Consumer:
        """Call `on_delivery` in a task of its own for each message; it settles the delivery.

        An exception out of `on_delivery` ends the subscription and is raised by `failed()`.
        """

    async def subscribe(
        self, exchange: str, binding_key: str, on_delivery: OnDelivery, *, name: str = ""
    ) -> Consumer:
        """Consume a private, exclusive queue; made again after a reconnect, and gone with the connection.

        It is bound to `exchange` unless that is empty. The broker chooses its name unless `name` does.
        """

    async def request(self, message: OutgoingMessage, *, timeout_seconds: float) -> bytes:
        """Publish with a private `reply_to`; return the answer. Raises BrokerUnavailable on time-out."""

    async def depth(self, queue: str) -> QueueDepth:
        """Ready messages and consumers of a queue."""

    async def failed(self) -> BaseException:
        """Wait for, and return, what ends this broker for good: refused credentials, a consumer's error."""
