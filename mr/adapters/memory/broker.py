"""The Broker port inside one process and one event loop."""

import asyncio
import uuid

import msgspec

from mr.adapters.memory.exchange import MemoryBrokerServer, MemoryQueue, Message
from mr.adapters.topology import PRIVATE_PREFETCH
from mr.errors import BadMessage, BrokerUnavailable, Unroutable
from mr.ports.broker import Broker, Consumer, Delivery, OnDelivery, OutgoingMessage, QueueDepth
from mr.protocol.codec import check_size

#: As in AMQP.
_MAX_KEY_BYTES = 255


class MemoryDelivery(Delivery):
    """A message handed to a consumer; settling it a second time has no effect."""

    def __init__(self, message: Message, consumer: "MemoryConsumer") -> None:
        self._message = message
        self._consumer = consumer
        self.body: bytes = message.outgoing.body
        self.content_type: str | None = message.outgoing.content_type
        self.type: str | None = message.outgoing.type or None
        self.routing_key: str = message.outgoing.routing_key
        self.reply_to: str | None = message.outgoing.reply_to
        self.correlation_id: str | None = message.outgoing.correlation_id
        self.user_id: str | None = None  # there is one user in one process
        self.headers = message.outgoing.headers
        self.redelivered: bool = message.redelivered

    async def ack(self) -> None:
        self._consumer.settle(self._message, requeue=False)

    async def reject(self, *, requeue: bool) -> None:
        self._consumer.settle(self._message, requeue=requeue)


class MemoryConsumer(Consumer):
    """A subscription to one queue."""

    def __init__(
        self, broker: "MemoryBroker", queue: MemoryQueue, on_delivery: OnDelivery, prefetch: int
    ) -> None:
        self._broker = broker
        self.queue = queue
        self._on_delivery = on_delivery
        self._prefetch = prefetch
        self._unsettled: dict[int, Message] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._cancelled = False

    @property
    def queue_name(self) -> str:
        return self.queue.name

    def start(self) -> None:
        """Start to receive messages, unless paused."""
        if self._prefetch > 0:
            self.queue.attach(self)

    def has_room(self) -> bool:
        """Whether it holds fewer unsettled deliveries than its prefetch."""
        return len(self._unsettled) < self._prefetch

    def take(self, message: Message) -> None:
        """Run `on_delivery` for the message in a task of its own."""
        self._unsettled[message.number] = message
        task = asyncio.get_running_loop().create_task(self._run(MemoryDelivery(message, self)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, delivery: MemoryDelivery) -> None:
        try:
            await self._on_delivery(delivery)
        except Exception as error:  # noqa: BLE001 (the consumer's own code: handed over to failed())
            self.stop()
            self._broker.fail(error)

    def settle(self, message: Message, *, requeue: bool) -> None:
        """Settle a delivery: this consumer no longer holds it."""
        if self._unsettled.pop(message.number, None) is None:
            return
        if requeue:
            self.queue.put_back(message)
        self.queue.dispatch()

    async def set_prefetch(self, prefetch: int) -> None:
        self._prefetch = prefetch
        if self._cancelled:
            return
        if prefetch > 0:
            self.queue.attach(self)
        else:
            self.queue.detach(self)

    async def cancel(self) -> None:
        self.stop()

    def stop(self) -> None:
        """Receive no more messages; a private queue is deleted with its consumer."""
        self._cancelled = True
        self.queue.detach(self)
        self._broker.retire(self)

    async def abandon(self) -> None:
        """Stop, cancel the running `on_delivery` tasks, and requeue the unsettled messages."""
        self._prefetch = 0
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        unsettled, self._unsettled = self._unsettled, {}
        self.queue.put_back(*unsettled.values())
        self.stop()


class MemoryBroker(Broker):
    """One client's connection to a `MemoryBrokerServer`; it makes its own if none is given."""

    def __init__(self, server: MemoryBrokerServer | None = None) -> None:
        self.server = server or MemoryBrokerServer()
        self._consumers: list[MemoryConsumer] = []
        self._private: dict[MemoryConsumer, MemoryQueue] = {}
        self._connected = False
        self._failure: BaseException | None = None
        self._has_failed = asyncio.Event()

    async def connect(self) -> None:
        """Connect; cannot fail."""
        self._failure = None
        self._has_failed.clear()
        self._connected = True

    async def close(self) -> None:
        self._connected = False
        for consumer in tuple(self._consumers):
            await consumer.abandon()
        self._consumers.clear()

    def fail(self, error: BaseException) -> None:
        """Note what ends this broker for good; only the first error counts."""
        if self._failure is None:
            self._failure = error
            self._has_failed.set()

    def retire(self, consumer: MemoryConsumer) -> None:
        """Remove the private queue of a consumer that stopped."""
        queue = self._private.pop(consumer, None)
        if queue is not None:
            self.server.remove_private(queue)

    def _check_connected(self) -> None:
        if not self._connected:
            raise BrokerUnavailable("the broker connection is closed")

    async def publish(self, message: OutgoingMessage) -> None:
        """Hand a message to the server, which routes it at once. Raises BadMessage above the size limits."""
        self._check_connected()
        check_size(message.body)
        if len(message.routing_key.encode()) > _MAX_KEY_BYTES:
            raise BadMessage("a message cannot be sent: its routing key is too long")
        if not self.server.route(message) and message.mandatory:
            raise Unroutable(f"there is no queue {message.routing_key}")

    async def consume(self, queue: str, on_delivery: OnDelivery, *, prefetch: int) -> MemoryConsumer:
        self._check_connected()
        if queue not in self.server.queues:
            raise BrokerUnavailable(f"there is no queue {queue}")
        return self._start(MemoryConsumer(self, self.server.queues[queue], on_delivery, prefetch))

    def _start(self, consumer: MemoryConsumer) -> MemoryConsumer:
        self._consumers.append(consumer)
        consumer.start()
        return consumer

    async def subscribe(
        self, exchange: str, binding_key: str, on_delivery: OnDelivery, *, name: str = ""
    ) -> MemoryConsumer:
        self._check_connected()
        queue = self.server.add_private(exchange, binding_key, name)
        consumer = MemoryConsumer(self, queue, on_delivery, PRIVATE_PREFETCH)
        self._private[consumer] = queue
        return self._start(consumer)

    async def request(self, message: OutgoingMessage, *, timeout_seconds: float) -> bytes:
        self._check_connected()
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        correlation_id = message.correlation_id or uuid.uuid4().hex

        def receive(reply: OutgoingMessage) -> None:
            if reply.correlation_id == correlation_id and not answer.done():
                answer.set_result(reply.body)

        name = self.server.new_name("reply")
        self.server.add_reply(name, receive)
        try:
            await self.publish(msgspec.structs.replace(message, reply_to=name, correlation_id=correlation_id))
            async with asyncio.timeout(timeout_seconds):
                return await answer
        except TimeoutError as error:
            raise BrokerUnavailable(
                f"no answer on {message.routing_key} within {timeout_seconds:g} s; is a coordinator running?"
            ) from error
        finally:
            self.server.remove_reply(name)

    async def depth(self, queue: str) -> QueueDepth:
        self._check_connected()
        if queue not in self.server.queues:
            raise BrokerUnavailable(f"there is no queue {queue}")
        found = self.server.queues[queue]
        return QueueDepth(found.ready, found.consumers)

    async def failed(self) -> BaseException:
        await self._has_failed.wait()
        assert self._failure is not None
        return self._failure
