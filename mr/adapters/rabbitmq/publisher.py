"""Publishes with confirms: many messages in flight at once, sent again after a reconnect."""

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Callable
from typing import Any

import pika
from pika.exceptions import AMQPError

from mr.adapters.rabbitmq.connection import Channel
from mr.adapters.rabbitmq.errors import ChannelEnded
from mr.adapters.topology import QUEUE_NAMES
from mr.errors import BadMessage, BrokerUnavailable, Unroutable
from mr.ports.broker import OutgoingMessage
from mr.protocol.codec import check_size

log = logging.getLogger(__name__)

#: Most messages in flight; further ones wait.
MAX_UNCONFIRMED = 1000
#: RabbitMQ's pseudo-queue for the answers to what this channel publishes.
DIRECT_REPLY_TO = "amq.rabbitmq.reply-to"
#: Delay before a message that the broker refused (nack) is sent again.
REFUSED_DELAY_SECONDS = 0.5


class _Pending:
    """A message that is not confirmed yet."""

    def __init__(self, number: int, message: OutgoingMessage) -> None:
        self.message_id = str(number)
        self.message = message
        #: Resolves to the channel that confirmed it.
        self.confirmed: asyncio.Future[Channel] = asyncio.get_running_loop().create_future()
        self.returned = False


class Publisher:
    """Sends on the attached channel; keeps messages back while there is none."""

    def __init__(
        self,
        *,
        patience_seconds: float,
        on_unroutable: Callable[[], None],
        on_reply: Callable[[str | None, bytes], None],
        describe: Callable[[], str],
    ) -> None:
        self._patience_seconds = patience_seconds
        self._on_unroutable = on_unroutable
        self._on_reply = on_reply
        self._describe = describe
        self._numbers = itertools.count(1)
        self._turns = asyncio.Semaphore(MAX_UNCONFIRMED)
        self._channel: Channel | None = None
        self._wants_replies = False
        self._blocked_reason = ""
        self._next_tag = 1
        #: Not sent on this channel yet, in order.
        self._waiting: dict[str, _Pending] = {}
        #: Sent on this channel and not confirmed, by delivery tag.
        self._sent: dict[int, _Pending] = {}

    async def attach(self, channel: Channel) -> None:
        """Use a new channel, and send again what was not confirmed on the old one. Raises ChannelEnded."""
        await channel.call(channel.raw.confirm_delivery, self._on_confirm)
        channel.raw.add_on_return_callback(self._on_return)
        if self._wants_replies:
            await self._consume_replies(channel)
        self._next_tag = 1
        self._blocked_reason = ""
        self._channel = channel
        channel.closed.add_done_callback(lambda _: self._detach(channel))
        self.flush()

    def _detach(self, channel: Channel) -> None:
        if self._channel is channel:
            self._channel = None
            unconfirmed = {p.message_id: p for p in self._sent.values() if p.message.persistent}
            self._waiting = {**unconfirmed, **self._waiting}
            for pending in self._sent.values():
                # Never sent again, as it may be what closed the channel: an answer to a forged address is.
                if not (pending.message.persistent or pending.confirmed.done()):
                    pending.confirmed.set_result(channel)
            self._sent.clear()

    async def receive_replies(self) -> None:
        """Pass answers on `DIRECT_REPLY_TO` to `on_reply`, now and after reconnects."""
        if not self._wants_replies:
            self._wants_replies = True
            if self._channel is not None:
                with contextlib.suppress(ChannelEnded):  # the next channel does it
                    await self._consume_replies(self._channel)

    async def _consume_replies(self, channel: Channel) -> None:
        def on_message(_raw: Any, _method: Any, properties: pika.BasicProperties, body: bytes) -> None:
            self._on_reply(properties.correlation_id, body)

        await channel.call(channel.raw.basic_consume, DIRECT_REPLY_TO, on_message, auto_ack=True)

    def set_blocked(self, reason: str) -> None:
        """Stop sending for this reason, or go on if it is empty."""
        self._blocked_reason = reason
        if reason:
            log.warning("%s; waiting", self._why_blocked())
        else:
            log.info("%s takes messages again", self._describe())
            self.flush()

    @property
    def is_blocked(self) -> bool:
        """Whether the broker takes nothing from this connection now, and answers nothing."""
        return bool(self._blocked_reason)

    def _why_blocked(self) -> str:
        return f"{self._describe()} takes no messages ({self._blocked_reason}): free memory or disk there"

    async def publish(self, message: OutgoingMessage) -> Channel:
        """Publish; returns the channel on which the message was confirmed.

        Raises BrokerUnavailable, BadMessage, Unroutable.
        """
        check_size(message.body)
        async with self._turns:
            pending = _Pending(next(self._numbers), message)
            self._waiting[pending.message_id] = pending
            self.flush()
            try:
                async with asyncio.timeout(self._patience_seconds):
                    return await pending.confirmed
            except TimeoutError as error:
                raise BrokerUnavailable(self.why_silent()) from error
            finally:
                self._waiting.pop(pending.message_id, None)

    def why_silent(self) -> str:
        """Why no answer has come for as long as the patience lasts."""
        if self._blocked_reason:
            return self._why_blocked()
        state = "does not answer" if self._channel else "has been away"
        return f"{self._describe()} {state} for {self._patience_seconds:g} s"

    def flush(self) -> None:
        """Send the waiting messages, if that is possible now."""
        while self._waiting and self._channel is not None and not self._blocked_reason:
            if not self._channel.is_open:
                return
            pending = self._waiting.pop(next(iter(self._waiting)))
            if pending.confirmed.done():
                continue
            self._send(self._channel, pending)

    def _send(self, channel: Channel, pending: _Pending) -> None:
        message = pending.message
        properties = pika.BasicProperties(
            content_type=message.content_type,
            type=message.type or None,
            priority=message.priority or None,
            delivery_mode=2 if message.persistent else 1,
            reply_to=message.reply_to,
            correlation_id=message.correlation_id,
            message_id=pending.message_id,
            headers=dict(message.headers) or None,
        )
        # The engine's own queues must exist; an answer to a client that has left may be dropped.
        mandatory = message.mandatory or (not message.exchange and message.routing_key in QUEUE_NAMES)
        try:
            channel.raw.basic_publish(
                message.exchange, message.routing_key, message.body, properties, mandatory=mandatory
            )
        except AMQPError as error:  # it does not fit into a frame, for example: the routing key is too long
            pending.confirmed.set_exception(BadMessage(f"a message cannot be sent: {error}"))
            return
        self._sent[self._next_tag] = pending
        self._next_tag += 1

    def _on_return(self, _raw: Any, _method: Any, properties: pika.BasicProperties, _body: bytes) -> None:
        for pending in self._sent.values():
            if pending.message_id == properties.message_id:
                pending.returned = True

    def _on_confirm(self, frame: Any) -> None:
        newest = frame.method.delivery_tag
        tags = [tag for tag in self._sent if tag <= newest] if frame.method.multiple else [newest]
        accepted = frame.method.NAME == "Basic.Ack"
        for tag in tags:
            pending = self._sent.pop(tag, None)
            if pending is None or pending.confirmed.done() or self._channel is None:
                continue
            if accepted and not pending.returned:
                pending.confirmed.set_result(self._channel)
            elif accepted and pending.message.mandatory:
                pending.confirmed.set_exception(Unroutable(f"no queue takes {pending.message.routing_key}"))
            else:
                self._put_back(pending)

    def _put_back(self, pending: _Pending) -> None:
        """Keep a message that found no queue until one is declared, and a refused one for a moment."""
        was_returned, pending.returned = pending.returned, False
        self._waiting[pending.message_id] = pending
        if was_returned:
            self._on_unroutable()
        else:
            asyncio.get_running_loop().call_later(REFUSED_DELAY_SECONDS, self.flush)

    def abandon(self) -> None:
        """Fail all publishes that wait for a confirm: the connection is closed for good."""
        for pending in (*self._sent.values(), *self._waiting.values()):
            if not pending.confirmed.done():
                pending.confirmed.set_exception(BrokerUnavailable("the broker connection is closed"))
        self._sent.clear()
        self._waiting.clear()
