"""The broker: the queues of the memory adapter, and clients that lose their connection and get it back."""

import asyncio
from collections.abc import Callable

import msgspec

from mr.adapters.memory.exchange import MemoryBrokerServer, MemoryQueue, Message
from mr.adapters.topology import PRIVATE_PREFETCH
from mr.errors import BrokerUnavailable, Unroutable
from mr.ports.broker import Broker, Consumer, Delivery, OnDelivery, OutgoingMessage, QueueDepth
from mr.protocol.queues import CONTROL_EXCHANGE, REPORTS_QUEUE, TASKS_QUEUE
from tests.simulation.loop import Life
from tests.simulation.network import Link
from tests.simulation.world import World


class SimulatedDelivery(Delivery):
    """A message at its consumer, over one connection."""

    def __init__(self, message: Message, consumer: "SimulatedConsumer") -> None:
        self.message = message
        self._consumer = consumer
        outgoing = message.outgoing
        self.body: bytes = outgoing.body
        self.content_type: str | None = outgoing.content_type
        self.type: str | None = outgoing.type or None
        self.routing_key: str = outgoing.routing_key
        self.reply_to: str | None = outgoing.reply_to
        self.correlation_id: str | None = outgoing.correlation_id
        self.user_id: str | None = None
        self.redelivered: bool = message.redelivered

    async def ack(self) -> None:
        self._consumer.settle_soon(self, requeue=False)

    async def reject(self, *, requeue: bool) -> None:
        self._consumer.settle_soon(self, requeue=requeue)


class SimulatedConsumer(Consumer):
    """A subscription, on both of its ends."""

    def __init__(
        self,
        client: "SimulatedBroker",
        on_delivery: OnDelivery,
        prefetch: int,
        declare: Callable[[], MemoryQueue],
        *,
        private: bool,
    ) -> None:
        self._client = client
        self._on_delivery = on_delivery
        self._prefetch = prefetch
        self._declare = declare
        self.private = private
        self.queue = declare()
        self._unsettled: dict[SimulatedDelivery, None] = {}
        self._tasks: dict[asyncio.Task[None], None] = {}
        self.cancelled = False

    @property
    def queue_name(self) -> str:
        return self.queue.name

    # --- the broker's end

    def has_room(self) -> bool:
        """Whether it holds fewer unsettled deliveries than its prefetch."""
        return len(self._unsettled) < self._prefetch

    def take(self, message: Message) -> None:
        """Send a message to the client."""
        delivery = SimulatedDelivery(message, self)
        self._unsettled[delivery] = None
        client = self._client
        if self.private and client.world.strikes(client.faults.drop):
            client.world.say(f"{client.name} misses a message")
            del self._unsettled[delivery]
            return
        delay = client.link.back_delay
        client.world.loop.call_later(delay, self._arrive, delivery, context=client.life.context)

    def attach(self) -> None:
        """Begin to receive, unless paused."""
        if self._prefetch > 0 and not self.cancelled and self._client.is_connected:
            self.queue.attach(self)

    def disconnect(self) -> None:
        """The connection is gone: what is unsettled goes back, and a private queue is deleted."""
        self.queue.detach(self)
        unsettled, self._unsettled = list(self._unsettled), {}
        if self.private:
            self._client.server.remove_private(self.queue)
        else:
            self.queue.put_back(*(delivery.message for delivery in unsettled))

    def reconnect(self) -> None:
        """Declare the queue again and receive from it."""
        if not self.cancelled:
            if self.private:
                self.queue = self._declare()
            self.attach()

    def settle_soon(self, delivery: SimulatedDelivery, *, requeue: bool) -> None:
        """Send the settlement; without effect if the connection is gone by the time it arrives."""
        if delivery in self._unsettled:
            world = self._client.world
            world.after(world.delay(), self._settle, delivery, requeue)

    def _settle(self, delivery: SimulatedDelivery, requeue: bool) -> None:
        if delivery not in self._unsettled:
            return
        del self._unsettled[delivery]
        if requeue:
            self.queue.put_back(delivery.message)
        self.queue.dispatch()

    # --- the client's end

    def _arrive(self, delivery: SimulatedDelivery) -> None:
        if delivery in self._unsettled:
            task = self._client.life.start(self._run(delivery), "a delivery")
            self._tasks[task] = None
            task.add_done_callback(lambda task: self._tasks.pop(task, None))

    async def _run(self, delivery: SimulatedDelivery) -> None:
        try:
            await self._on_delivery(delivery)
        except Exception as error:  # noqa: BLE001 (the consumer's own code: handed over to failed())
            await self.cancel()
            self._client.fail(error)

    async def set_prefetch(self, prefetch: int) -> None:
        await asyncio.sleep(0.001)
        self._prefetch = prefetch
        if prefetch > 0:
            self.attach()
        else:
            self.queue.detach(self)

    async def cancel(self) -> None:
        await asyncio.sleep(0.001)
        self.cancelled = True
        self.queue.detach(self)
        if self.private:
            self._client.server.remove_private(self.queue)

    async def abandon(self) -> None:
        """Stop whatever runs."""
        self.cancelled = True
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class BrokerFaults(msgspec.Struct, frozen=True):
    """How unreliable the broker of this seed is: shares of all messages."""

    drop: float
    double: float


class SimulatedBroker(Broker):
    """One daemon's broker."""

    def __init__(
        self,
        world: World,
        server: MemoryBrokerServer,
        life: Life,
        link: Link,
        faults: BrokerFaults,
        patience_seconds: float,
    ) -> None:
        self.world = world
        self.server = server
        self.life = life
        self.name = life.name
        self.link = link
        self.faults = faults
        self._patience_seconds = patience_seconds
        self.is_connected = False
        self._consumers: list[SimulatedConsumer] = []
        self._connections = 0
        self._failed: asyncio.Future[BaseException] = world.loop.create_future()

    # --- the connection

    async def connect(self) -> None:
        await asyncio.sleep(0.001)
        self.is_connected = True
        self._failed = self.world.loop.create_future()

    async def close(self) -> None:
        self.vanish()
        for consumer in self._consumers:
            await consumer.abandon()
        self._consumers.clear()

    def vanish(self) -> None:
        """End the connection for good, as the kernel does for a dead process."""
        self.is_connected = False
        self._connections += 1
        for consumer in self._consumers:
            consumer.disconnect()

    def disconnect(self, seconds: float) -> None:
        """Lose the connection, and get another one after so many seconds."""
        if not self.is_connected:
            return
        self.world.say(f"{self.name} loses its connection to the broker")
        self.vanish()
        connection = self._connections

        def reconnect() -> None:
            if connection == self._connections:
                self.is_connected = True
                for consumer in tuple(self._consumers):
                    consumer.reconnect()

        self.world.loop.call_later(seconds, reconnect, context=self.life.context)

    def fail(self, error: BaseException) -> None:
        """Note what ends this broker for good."""
        if not self._failed.done():
            self._failed.set_result(error)

    async def failed(self) -> BaseException:
        return await asyncio.shield(self._failed)

    # --- messages

    async def publish(self, message: OutgoingMessage) -> None:
        deadline = self.world.now + self._patience_seconds
        while not self.is_connected:
            if self.world.now > deadline:
                raise BrokerUnavailable("the broker is away")
            await asyncio.sleep(0.5)

        async def route() -> bool:
            return self._route(message)

        if not await self.link.call(route) and message.mandatory:
            raise Unroutable(f"there is no queue {message.routing_key}")

    def _route(self, message: OutgoingMessage) -> bool:
        if message.routing_key == TASKS_QUEUE and self.world.strikes(self.faults.drop):
            self.world.say("the broker drops a task message")
            return True
        twice = message.routing_key in (TASKS_QUEUE, REPORTS_QUEUE) and self.world.strikes(self.faults.double)
        if twice:
            self.world.say("the broker doubles a message")
            self.server.route(message)
        return self.server.route(message)

    async def consume(self, queue: str, on_delivery: OnDelivery, *, prefetch: int) -> Consumer:
        await asyncio.sleep(0.001)
        found = self.server.queues[queue]
        return self._start(SimulatedConsumer(self, on_delivery, prefetch, lambda: found, private=False))

    async def subscribe(
        self, exchange: str, binding_key: str, on_delivery: OnDelivery, *, name: str = ""
    ) -> Consumer:
        await asyncio.sleep(0.001)

        def declare() -> MemoryQueue:
            return self.server.add_private(exchange, binding_key, name)

        return self._start(SimulatedConsumer(self, on_delivery, PRIVATE_PREFETCH, declare, private=True))

    def _start(self, consumer: SimulatedConsumer) -> SimulatedConsumer:
        self._consumers.append(consumer)
        consumer.attach()
        return consumer

    async def request(self, message: OutgoingMessage, *, timeout_seconds: float) -> bytes:
        answer: asyncio.Future[bytes] = self.world.loop.create_future()
        name = self.server.new_name("reply")

        def receive(reply: OutgoingMessage) -> None:
            if not answer.done() and not self.world.strikes(self.faults.drop):
                answer.set_result(reply.body)

        self.server.add_reply(name, receive)
        try:
            await self.publish(msgspec.structs.replace(message, reply_to=name, correlation_id=name))
            async with asyncio.timeout(timeout_seconds):
                return await answer
        except TimeoutError as error:
            raise BrokerUnavailable("no answer") from error
        finally:
            self.server.remove_reply(name)

    async def depth(self, queue: str) -> QueueDepth:
        found = self.server.queues[queue]

        async def look() -> QueueDepth:
            return QueueDepth(found.ready, found.consumers)

        return await self.link.call(look, reads=True)


__all__ = ["CONTROL_EXCHANGE", "BrokerFaults", "SimulatedBroker"]
