"""The Broker port on RabbitMQ: one connection for each process, kept up until it is closed."""

import asyncio
import logging
import random
import uuid
from collections.abc import Awaitable, Coroutine
from typing import Any, TypeVar

import msgspec

from mr.adapters.rabbitmq.connection import Channel, Connection, read_url, server_name
from mr.adapters.rabbitmq.declare import declare_topology
from mr.adapters.rabbitmq.errors import ChannelEnded, ConnectFailed, explain, is_final, is_missing
from mr.adapters.rabbitmq.publisher import DIRECT_REPLY_TO, Publisher
from mr.adapters.rabbitmq.subscription import Subscription
from mr.adapters.topology import PRIVATE_PREFETCH, QUEUE_NAMES, SINGLE_ACTIVE_QUEUES
from mr.errors import BrokerUnavailable
from mr.ports.broker import Broker, OnDelivery, OutgoingMessage, QueueDepth
from mr.settings import Settings

T = TypeVar("T")

log = logging.getLogger(__name__)

#: Delay before the second try to connect. It doubles, with jitter, up to the longest delay.
FIRST_DELAY_SECONDS = 0.1
LONGEST_DELAY_SECONDS = 5.0

_UNREACHABLE = (ConnectFailed, ChannelEnded)


class RabbitBroker(Broker):
    """One channel to publish, one for each subscription. Raises BadSetting for a malformed URL."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._parameters = read_url(settings.broker_url, connect_seconds=settings.connect_seconds)
        self._server = server_name(self._parameters)
        self._connection: Connection | None = None
        #: For declarations and queries; the lock keeps two tasks from opening it at once.
        self._control: Channel | None = None
        self._control_lock = asyncio.Lock()
        self._subscriptions: list[Subscription] = []
        self._answers: dict[str, asyncio.Future[bytes]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._open = False
        #: Set when the connection is open, or when waiting for it has become useless.
        self._news = asyncio.Event()
        self._failure: BaseException | None = None
        self._has_failed = asyncio.Event()
        self._publisher = Publisher(
            patience_seconds=settings.reconnect_seconds,
            on_unroutable=lambda: self._spawn(self._declare_again()),
            on_reply=self._on_reply,
            describe=lambda: f"RabbitMQ at {self._server}",
        )

    # --- the connection

    async def connect(self) -> None:
        self._failure = None
        self._has_failed.clear()
        connection = await self._establish(self._settings.connect_seconds)
        self._open = True
        self._spawn(self._keep(connection))

    async def close(self) -> None:
        """As the port says; stops the running `on_delivery` tasks first."""
        self._open = False
        self._news.set()
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._subscriptions.clear()
        self._publisher.abandon()
        if self._connection is not None:
            await self._connection.close()
            self._connection = None

    async def failed(self) -> BaseException:
        await self._has_failed.wait()
        assert self._failure is not None
        return self._failure

    def _fail(self, error: BaseException) -> None:
        if self._failure is None:
            self._failure = error
            self._has_failed.set()
            self._news.set()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run in the background, until it ends or the broker is closed; an error of it ends the broker."""
        if not self._open:
            work.close()
            return
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._on_task_done)

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)

    async def _keep(self, connection: Connection) -> None:
        """Reconnect whenever the connection is lost. Raises BrokerUnavailable when that is refused."""
        while True:
            reason = await asyncio.shield(connection.closed)
            self._connection = self._control = None
            log.warning("%s; connecting again", explain(self._server, reason))
            connection = await self._establish(float("inf"))
            log.info("connected to RabbitMQ at %s again", self._server)

    async def _establish(self, patience_seconds: float) -> Connection:
        """Connect, with growing delays, until it works, is refused for good, or the patience is over."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + patience_seconds
        delay = FIRST_DELAY_SECONDS
        while True:
            try:
                return await self._set_up()
            except _UNREACHABLE as error:
                if is_final(error) or loop.time() + delay > deadline:
                    raise BrokerUnavailable(explain(self._server, error)) from error
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))
            delay = min(delay * 2, LONGEST_DELAY_SECONDS)

    async def _set_up(self) -> Connection:
        """Open a connection, declare everything, and attach the publisher and the subscriptions."""
        connection = await Connection.open(self._parameters)
        try:
            control = await connection.channel()
            await declare_topology(control)
            connection.on_blocked(self._publisher.set_blocked, lambda: self._publisher.set_blocked(""))
            publishing = await connection.channel()
            await self._publisher.attach(publishing)
        except BaseException:
            await connection.close()
            raise
        publishing.closed.add_done_callback(lambda _: self._spawn(self._give_up(connection)))
        self._connection, self._control = connection, control
        for subscription in self._subscriptions:
            self._spawn(self._resubscribe(subscription))
        self._news.set()
        return connection

    async def _give_up(self, connection: Connection) -> None:
        """Close a connection whose publishing channel is gone, so that it is opened again."""
        await connection.close()

    # --- publishing

    def _check_connected(self) -> None:
        if not self._open:
            raise BrokerUnavailable("the broker connection is closed")

    async def publish(self, message: OutgoingMessage) -> None:
        """Return once the broker confirmed. Raises BrokerUnavailable, BadMessage, Unroutable."""
        self._check_connected()
        await self._publisher.publish(message)

    async def _declare_again(self) -> None:
        """One of the engine's queues was missing: declare it, and publish again what found no queue."""
        try:
            await declare_topology(await self._control_channel())
        except (ChannelEnded, BrokerUnavailable):
            return  # the connection is lost; everything is declared on the next one
        self._publisher.flush()

    async def request(self, message: OutgoingMessage, *, timeout_seconds: float) -> bytes:
        """As the port says; asks again after a reconnect."""
        self._check_connected()
        correlation_id = message.correlation_id or uuid.uuid4().hex
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._answers[correlation_id] = answer
        question = msgspec.structs.replace(message, reply_to=DIRECT_REPLY_TO, correlation_id=correlation_id)
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._publisher.receive_replies()
                while not answer.done():
                    channel = await self._publisher.publish(question)
                    pending: set[asyncio.Future[Any]] = {answer, channel.closed}
                    await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                return answer.result()
        except TimeoutError as error:
            if self._publisher.is_blocked:
                raise BrokerUnavailable(self._publisher.why_silent()) from error
            raise BrokerUnavailable(
                f"no answer on {message.routing_key} within {timeout_seconds:g} s; is a coordinator running?"
            ) from error
        finally:
            del self._answers[correlation_id]

    def _on_reply(self, correlation_id: str | None, body: bytes) -> None:
        answer = self._answers.get(correlation_id or "")
        if answer is not None and not answer.done():
            answer.set_result(body)

    # --- consuming

    async def consume(self, queue: str, on_delivery: OnDelivery, *, prefetch: int) -> Subscription:
        return await self._start(queue, None, on_delivery, prefetch, queue in SINGLE_ACTIVE_QUEUES)

    async def subscribe(
        self, exchange: str, binding_key: str, on_delivery: OnDelivery, *, name: str = ""
    ) -> Subscription:
        return await self._start(name, (exchange, binding_key), on_delivery, PRIVATE_PREFETCH, False)

    async def _start(
        self,
        queue: str,
        binding: tuple[str, str] | None,
        on_delivery: OnDelivery,
        prefetch: int,
        single_active: bool,
    ) -> Subscription:
        self._check_connected()
        subscription = Subscription(
            queue=queue,
            binding=binding,
            on_delivery=on_delivery,
            prefetch=prefetch,
            single_active=single_active,
            start=self._spawn,
            on_error=self._fail,
            on_lost=lambda lost: self._spawn(self._resubscribe(lost)),
            on_end=self._forget,
        )
        connection = await self._live_connection()
        self._subscriptions.append(subscription)
        try:
            try:
                await self._answered(subscription.attach(connection))
            except ChannelEnded as error:
                if _is_deleted(queue, error):
                    await self._answered(self._resubscribe(subscription))
                elif connection.is_open:
                    raise BrokerUnavailable(explain(self._server, error)) from error
        except BrokerUnavailable:
            await subscription.cancel()
            raise
        return subscription

    async def _answered(self, asked: Awaitable[T]) -> T:
        """Wait for the broker's answer, which does not come while it blocks the connection.

        Raises BrokerUnavailable after `reconnect_seconds`.
        """
        try:
            async with asyncio.timeout(self._settings.reconnect_seconds):
                return await asked
        except TimeoutError as error:
            raise BrokerUnavailable(self._publisher.why_silent()) from error

    def _forget(self, subscription: Subscription) -> None:
        if subscription in self._subscriptions:
            self._subscriptions.remove(subscription)

    async def _resubscribe(self, subscription: Subscription) -> None:
        """Attach a subscription again whose channel was closed: by a time-out, or with a deleted queue.

        If the connection is lost, too, that happens on the next one.
        """
        connection = self._connection
        delay = FIRST_DELAY_SECONDS
        while connection is not None and connection.is_open and not subscription.ended:
            try:
                await declare_topology(await self._control_channel())
                await subscription.attach(connection)
            except ChannelEnded as error:
                if connection.is_open and is_final(error):
                    raise BrokerUnavailable(explain(self._server, error)) from error
            else:
                return
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))
            delay = min(delay * 2, LONGEST_DELAY_SECONDS)

    # --- queries

    async def depth(self, queue: str) -> QueueDepth:
        """As the port says. Raises BrokerUnavailable, also for a queue that does not exist."""
        self._check_connected()
        declared = False
        while True:
            connection = await self._live_connection()
            try:
                channel = await self._answered(self._control_channel())
                answer = await self._answered(channel.call(channel.raw.queue_declare, queue, passive=True))
            except ChannelEnded as error:
                if _is_deleted(queue, error) and not declared:
                    await self._declare_again()
                    declared = True
                elif connection.is_open:
                    raise BrokerUnavailable(explain(self._server, error)) from error
            else:
                return QueueDepth(answer.method.message_count, answer.method.consumer_count)

    async def _control_channel(self) -> Channel:
        """The channel for declarations, opened again if an error has closed it. Raises ChannelEnded."""
        async with self._control_lock:
            connection = await self._live_connection()
            if self._control is None or not self._control.is_open:
                self._control = await connection.channel()
            return self._control

    async def _live_connection(self) -> Connection:
        """The open connection; waits for a reconnect. Raises BrokerUnavailable."""
        try:
            async with asyncio.timeout(self._settings.reconnect_seconds):
                while self._connection is None or not self._connection.is_open:
                    if self._failure is not None or not self._open:
                        raise BrokerUnavailable(f"the connection to RabbitMQ at {self._server} has ended")
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError as error:
            raise BrokerUnavailable(
                f"RabbitMQ at {self._server} has been away for {self._settings.reconnect_seconds:g} s"
            ) from error
        return self._connection


def _is_deleted(queue: str, error: ChannelEnded) -> bool:
    """Whether one of the engine's own queues is missing: it was there when the connection was opened."""
    return queue in QUEUE_NAMES and is_missing(error)
