"""RabbitMQ as the engine sees it."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

import msgspec


class OutgoingMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A message to publish. With an empty `exchange`, the default one, `routing_key` names a queue."""

    routing_key: str
    body: bytes
    exchange: str = ""
    content_type: str = "application/msgpack"
    #: AMQP `type` property: the kind of message, on a queue that carries several.
    type: str = ""
    priority: int = 0
    #: False: sent once, and lost with the connection or the broker. For answers: one can ask again.
    persistent: bool = True
    #: Whether publishing raises Unroutable when no queue takes it.
    mandatory: bool = False
    reply_to: str | None = None
    correlation_id: str | None = None
    headers: Mapping[str, str] = {}


class Delivery(Protocol):
    """A message at its consumer. It is settled once; a second time has no effect."""

    body: bytes
    content_type: str | None
    type: str | None
    routing_key: str
    reply_to: str | None
    correlation_id: str | None
    #: The user who published it, verified by the broker; None if the publisher did not give one.
    user_id: str | None
    #: Those whose value is text.
    headers: Mapping[str, str]
    redelivered: bool

    async def ack(self) -> None:
        """Settle as done. No effect when its connection is lost: the message is delivered again."""

    async def reject(self, *, requeue: bool) -> None:
        """Settle by requeueing or dropping it. No effect when its connection is lost."""


OnDelivery = Callable[[Delivery], Awaitable[None]]


class Consumer(Protocol):
    """A subscription that survives reconnects until it is cancelled."""

    @property
    def queue_name(self) -> str:
        """The queue it consumes. If the broker chose the name, it is another one after a reconnect."""

    async def set_prefetch(self, prefetch: int) -> None:
        """Change how many unsettled deliveries it may hold. 0 pauses it; it keeps what is unsettled."""

    async def cancel(self) -> None:
        """End the subscription. Its deliveries can still be settled."""


class QueueDepth(msgspec.Struct, frozen=True):
    """The size of a queue at one moment."""

    ready: int
    consumers: int


class Broker(Protocol):
    """RabbitMQ, or an equivalent inside one process."""

    async def connect(self) -> None:
        """Connect and declare the topology (idempotent). Raises BrokerUnavailable with the reason.

        May be called again after `close`: earlier subscriptions and failures are forgotten.
        """

    async def close(self) -> None:
        """Disconnect. Unsettled deliveries go back to their queues."""

    async def publish(self, message: OutgoingMessage) -> None:
        """Return once the broker has confirmed. Tries again after reconnects, then raises BrokerUnavailable.

        Raises Unroutable for a `mandatory` message that no queue takes. Await many publishes
        together: their confirms come in batches.
        """

    async def consume(self, queue: str, on_delivery: OnDelivery, *, prefetch: int) -> Consumer:
        """Call `on_delivery` for each message, in its own task; it settles the delivery.

        An exception from `on_delivery` ends the subscription, and `failed()` returns it.
        """

    async def subscribe(
        self, exchange: str, binding_key: str, on_delivery: OnDelivery, *, name: str = ""
    ) -> Consumer:
        """Consume a private, exclusive queue: deleted with the connection, made again after a reconnect.

        It is bound to `exchange`, unless that is empty. The broker chooses a name if `name` is empty.
        """

    async def request(self, message: OutgoingMessage, *, timeout_seconds: float) -> bytes:
        """Publish with a private `reply_to`; return the answer. Raises BrokerUnavailable on time-out."""

    async def depth(self, queue: str) -> QueueDepth:
        """How many messages are ready in a queue, and how many consumers it has."""

    async def failed(self) -> BaseException:
        """Wait for the error that ends this broker for good: refused credentials, or a consumer's own."""
