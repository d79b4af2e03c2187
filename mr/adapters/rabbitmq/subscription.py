"""Subscriptions that survive channels and connections, and their deliveries."""

import itertools
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import pika
from pika.exceptions import ChannelClosed

from mr.adapters.rabbitmq.connection import Channel, Connection
from mr.adapters.rabbitmq.errors import ChannelEnded
from mr.ports.broker import Consumer, Delivery, OnDelivery

log = logging.getLogger(__name__)


class ConsumerTag:
    """One basic.consume, whose prefetch never changes."""

    def __init__(self, prefetch: int) -> None:
        self.prefetch = prefetch
        self.unsettled = 0
        #: Whether the broker still delivers to it.
        self.live = True


class RabbitDelivery(Delivery):
    """A message handed to a consumer; settling it a second time has no effect."""

    def __init__(
        self,
        subscription: "Subscription",
        channel: Channel,
        tag: ConsumerTag,
        method: Any,
        properties: pika.BasicProperties,
        body: bytes,
    ) -> None:
        self._subscription = subscription
        self._channel = channel
        self._tag = tag
        self._number = method.delivery_tag
        self._settled = False
        self.body: bytes = body
        self.content_type = _text(properties.content_type)
        self.type = _text(properties.type)
        self.routing_key: str = method.routing_key
        self.reply_to = _text(properties.reply_to)
        self.correlation_id = _text(properties.correlation_id)
        self.user_id = _text(properties.user_id)
        headers = properties.headers or {}
        self.headers = {name: value for name, value in headers.items() if isinstance(value, str)}
        self.redelivered: bool = method.redelivered

    async def ack(self) -> None:
        if self._settle():
            self._channel.raw.basic_ack(self._number)
        self._subscription.top_up()

    async def reject(self, *, requeue: bool) -> None:
        if self._settle():
            self._channel.raw.basic_reject(self._number, requeue=requeue)
        self._subscription.top_up()

    def _settle(self) -> bool:
        """Settle it here; True if the broker has to be told."""
        if self._settled:
            return False
        self._settled = True
        self._subscription.settled(self._tag)
        return self._channel.is_open


def _text(value: str | bytes | None) -> str | None:
    """A property as text: pika returns bytes for one that is not UTF-8."""
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value


class Subscription(Consumer):
    """A consumer of one queue, or of a private queue bound to an exchange.

    AMQP fixes a consumer's prefetch when it is created. To change it while deliveries are unsettled, and
    never hold more than allowed, a subscription has one or more consumer tags: the sum of their prefetches
    and of the unsettled deliveries of cancelled or lost tags never exceeds `prefetch`. On a single-active
    queue there is only one tag, as a second one would stand by.
    """

    def __init__(
        self,
        *,
        queue: str,
        binding: tuple[str, str] | None,
        on_delivery: OnDelivery,
        prefetch: int,
        single_active: bool,
        start: Callable[[Coroutine[Any, Any, None]], None],
        on_error: Callable[[BaseException], None],
        on_lost: Callable[["Subscription"], None],
        on_end: Callable[["Subscription"], None],
    ) -> None:
        self._queue = queue
        #: The name that was asked for a private queue; empty if the broker chooses one.
        self._given_name = queue
        self._binding = binding
        self._on_delivery = on_delivery
        self._prefetch = prefetch
        self._single_active = single_active
        self._start = start
        self._on_error = on_error
        self._on_lost = on_lost
        self._on_end = on_end
        self._channel: Channel | None = None
        self._tags: dict[str, ConsumerTag] = {}
        self._tag_numbers = itertools.count(1)
        #: Unsettled deliveries of cancelled and lost tags.
        self._strays = 0
        self.ended = False

    @property
    def queue_name(self) -> str:
        """As the port says; while it is not attached, the last one."""
        return self._queue

    # --- the broker's side

    async def attach(self, connection: Connection) -> None:
        """Subscribe on a new channel of `connection`, and return when subscribed. Raises ChannelEnded."""
        channel = await connection.channel()
        if self._binding is not None:
            exchange, binding_key = self._binding
            declared = await channel.call(
                channel.raw.queue_declare, self._given_name, exclusive=True, auto_delete=True
            )
            self._queue = declared.method.queue
            if exchange:
                await channel.call(channel.raw.queue_bind, self._queue, exchange, routing_key=binding_key)
        if self.ended:
            channel.close()
            return
        channel.raw.add_on_cancel_callback(lambda _frame: channel.close())
        self._channel = channel
        self.top_up()
        try:  # the answer to a later method shows that the broker has accepted all earlier ones
            await channel.call(channel.raw.basic_qos, prefetch_count=max(1, self._prefetch))
        except ChannelEnded:
            self._channel = None
            self._forget_tags()
            raise
        channel.closed.add_done_callback(lambda _: self._detach(channel))

    def _detach(self, channel: Channel) -> None:
        """The channel is closed: its unsettled deliveries are delivered again, here or elsewhere."""
        if self._channel is not channel:
            return
        self._channel = None
        self._forget_tags()
        if self.ended:
            return
        reason = channel.closed.result()
        if isinstance(reason, ChannelClosed):
            log.warning(
                "the broker ended the subscription to %s (%s); subscribing again", self._queue, reason
            )
        self._on_lost(self)

    def _forget_tags(self) -> None:
        for tag in self._tags.values():
            tag.live = False
            self._strays += tag.unsettled
        self._tags.clear()

    def top_up(self) -> None:
        """Ask for as much as the prefetch still allows; once ended and settled, close the channel."""
        channel = self._channel
        if channel is None or not channel.is_open:
            return
        if self.ended:
            if not self._strays:
                channel.close()
            return
        if self._single_active:
            room = self._prefetch if not self._tags else 0
        else:
            room = self._prefetch - self._strays - sum(tag.prefetch for tag in self._tags.values())
        if room <= 0:
            return
        name = f"mr.{next(self._tag_numbers)}"
        tag = self._tags[name] = ConsumerTag(room)

        def on_message(_raw: Any, method: Any, properties: pika.BasicProperties, body: bytes) -> None:
            self._take(RabbitDelivery(self, channel, tag, method, properties, body), tag)

        channel.raw.basic_qos(prefetch_count=room)
        channel.raw.basic_consume(self._queue, on_message, consumer_tag=name)

    def _take(self, delivery: RabbitDelivery, tag: ConsumerTag) -> None:
        tag.unsettled += 1
        self._start(self._run(delivery))

    async def _run(self, delivery: RabbitDelivery) -> None:
        try:
            await self._on_delivery(delivery)
        except Exception as error:  # noqa: BLE001 (the consumer's own code: handed over to failed())
            await self.cancel()
            self._on_error(error)

    def settled(self, tag: ConsumerTag) -> None:
        """Count a delivery as settled."""
        if tag.live:
            tag.unsettled -= 1
        else:
            self._strays -= 1

    # --- the consumer's side

    async def set_prefetch(self, prefetch: int) -> None:
        if prefetch < self._prefetch or self._single_active:
            self._stop_tags()
        self._prefetch = prefetch
        self.top_up()

    def _stop_tags(self) -> None:
        if self._channel is not None and self._channel.is_open:
            for name in self._tags:
                self._channel.raw.basic_cancel(name)
        self._forget_tags()

    async def cancel(self) -> None:
        """As the port says. The channel stays open until the deliveries it holds are settled."""
        if self.ended:
            return
        self.ended = True
        self._stop_tags()
        self.top_up()
        self._on_end(self)
