"""Connections and channels of pika with futures instead of callbacks."""

import asyncio
import logging
import struct
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pika
from pika import frame, spec
from pika.adapters.asyncio_connection import AsyncioConnection
from pika.exceptions import AMQPError, ChannelWrongStateError, ConnectionWrongStateError

from mr.adapters.rabbitmq.errors import ChannelEnded, ConnectFailed
from mr.errors import BadSetting

#: A graceful close that takes longer is aborted.
CLOSE_SECONDS = 3.0
#: AMQP's heartbeat time-out: a server that is silent for this long counts as dead.
HEARTBEAT_SECONDS = 60

#: Content type given to a message whose properties cannot be decoded: no consumer accepts it.
UNREADABLE_PROPERTIES = "application/x-unreadable-properties"
#: What pika raises when it cannot decode properties.
_UNDECODABLE = (AMQPError, struct.error, ValueError, ArithmeticError, OSError, IndexError, RecursionError)

# pika logs every lost connection several times. What matters is raised, and the daemons log it.
_logger = logging.getLogger("pika")
_logger.addHandler(logging.NullHandler())
_logger.setLevel(logging.CRITICAL)
_logger.propagate = False


def read_url(url: str, *, connect_seconds: float) -> pika.URLParameters:
    """Turn an amqp:// URL into pika's parameters. Raises BadSetting."""
    try:
        if urlsplit(url).scheme not in ("amqp", "amqps"):
            raise ValueError(url)
        parameters = pika.URLParameters(url)
    except (ValueError, TypeError, IndexError) as error:
        raise BadSetting("MR_BROKER_URL is not of the form amqp://user:password@host:port/vhost") from error
    parameters.virtual_host = parameters.virtual_host or "/"
    parameters.connection_attempts = 1
    parameters.socket_timeout = connect_seconds
    parameters.stack_timeout = connect_seconds
    if parameters.heartbeat is None:
        parameters.heartbeat = HEARTBEAT_SECONDS
    parameters.client_properties = {"connection_name": "mrmq", "product": "mrmq"}
    return parameters


def server_name(parameters: pika.URLParameters) -> str:
    """The server and virtual host, without user and password."""
    return f"{parameters.host}:{parameters.port}/{parameters.virtual_host.removeprefix('/')}"


class _PikaConnection(AsyncioConnection):  # type: ignore[misc]
    """pika's connection, which can also be dropped, and which survives undecodable properties."""

    def drop(self) -> None:
        """Close the TCP connection at once; on_close_callback follows."""
        self._adapter_disconnect_stream()

    def _read_frame(self) -> tuple[int, Any]:
        """Decode the next frame; a message whose properties cannot be decoded arrives without them.

        pika raises for a time after the year 9999 or for an unknown type, which ends the connection; the
        broker would deliver the same message on the next connection, without end.
        """
        try:
            found: tuple[int, Any] = super()._read_frame()
        except _UNDECODABLE:
            bare = _without_properties(self._frame_buffer)
            if bare is None:
                raise
            return bare
        return found


def _without_properties(buffer: bytes) -> tuple[int, Any] | None:
    """Read a content header's frame without its properties; None for another kind of frame."""
    kind, channel, size = struct.unpack_from(">BHL", buffer)
    if kind != spec.FRAME_HEADER:
        return None
    _, _, body_bytes = struct.unpack_from(">HHQ", buffer, spec.FRAME_HEADER_SIZE)
    properties = spec.BasicProperties(content_type=UNREADABLE_PROPERTIES)
    return spec.FRAME_HEADER_SIZE + size + spec.FRAME_END_SIZE, frame.Header(channel, body_bytes, properties)


class Channel:
    """An AMQP channel. `raw` is pika's own, for methods that have no answer."""

    def __init__(self, raw: Any) -> None:
        self.raw = raw
        #: Resolves to the reason once the channel is closed, by either side.
        self.closed: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        raw.add_on_close_callback(self._on_close)

    def _on_close(self, _raw: Any, reason: BaseException) -> None:
        if not self.closed.done():
            self.closed.set_result(reason)

    @property
    def is_open(self) -> bool:
        """Whether it can be used."""
        return bool(self.raw.is_open)

    async def call(self, method: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Run one method of `raw` and return the broker's answer. Raises ChannelEnded."""
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def on_answer(frame: Any) -> None:
            if not answer.done():
                answer.set_result(frame)

        try:
            method(*arguments, callback=on_answer, **options)
        except ChannelWrongStateError as error:
            raise ChannelEnded(self.closed.result() if self.closed.done() else error) from error
        pending: set[asyncio.Future[Any]] = {answer, self.closed}
        await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise ChannelEnded(self.closed.result())
        return answer.result()

    def close(self) -> None:
        """Ask the broker to close it, without waiting."""
        if self.raw.is_open:
            self.raw.close()


class Connection:
    """One open AMQP connection."""

    def __init__(self, raw: _PikaConnection, closed: "asyncio.Future[BaseException]") -> None:
        self._raw = raw
        #: Resolves to the reason once the connection is lost or closed.
        self.closed = closed

    @classmethod
    async def open(cls, parameters: pika.URLParameters) -> "Connection":
        """Connect, within the time the parameters allow. Raises ConnectFailed."""
        loop = asyncio.get_running_loop()
        opened: asyncio.Future[BaseException | None] = loop.create_future()
        closed: asyncio.Future[BaseException] = loop.create_future()

        def settle(future: "asyncio.Future[Any]", outcome: Any) -> None:
            if not future.done():
                future.set_result(outcome)

        raw = _PikaConnection(
            parameters,
            on_open_callback=lambda _raw: settle(opened, None),
            on_open_error_callback=lambda _raw, error: settle(opened, error),
            on_close_callback=lambda _raw, reason: settle(closed, reason),
            custom_ioloop=loop,
        )
        try:
            error = await asyncio.shield(opened)
        except asyncio.CancelledError:
            await _abandon(raw, opened, closed)
            raise
        if error is not None:
            raise ConnectFailed(error)
        return cls(raw, closed)

    @property
    def is_open(self) -> bool:
        """Whether it can be used."""
        return bool(self._raw.is_open)

    def on_blocked(self, blocked: Callable[[str], None], unblocked: Callable[[], None]) -> None:
        """Register callbacks for when the broker stops accepting messages, and when it resumes."""
        self._raw.add_on_connection_blocked_callback(lambda _raw, frame: blocked(frame.method.reason))
        self._raw.add_on_connection_unblocked_callback(lambda _raw, _frame: unblocked())

    async def channel(self) -> Channel:
        """Open a channel. Raises ChannelEnded when the connection is lost instead."""
        opened: asyncio.Future[Channel] = asyncio.get_running_loop().create_future()

        def on_open(raw: Any) -> None:
            if not opened.done():
                opened.set_result(Channel(raw))

        try:
            self._raw.channel(on_open_callback=on_open)
        except ConnectionWrongStateError as error:
            raise ChannelEnded(self.closed.result() if self.closed.done() else error) from error
        pending: set[asyncio.Future[Any]] = {opened, self.closed}
        await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        if not opened.done():
            raise ChannelEnded(self.closed.result())
        return opened.result()

    async def close(self) -> None:
        """Close gracefully, or drop the connection if the broker does not answer."""
        if self._raw.is_open:
            self._raw.close()
        if not self.closed.done():
            await asyncio.wait({self.closed}, timeout=CLOSE_SECONDS)
        if not self.closed.done():
            self._raw.drop()
            await asyncio.wait({self.closed}, timeout=CLOSE_SECONDS)


async def _abandon(
    raw: _PikaConnection,
    opened: "asyncio.Future[BaseException | None]",
    closed: "asyncio.Future[BaseException]",
) -> None:
    """Close a connection that is being opened, and wait until its socket is closed.

    pika fails in a callback if it is closed in the middle of the handshake: that may end first.
    """
    await asyncio.wait({opened}, timeout=CLOSE_SECONDS)
    if opened.done() and opened.result() is not None:
        return
    try:
        raw.close()
    except AMQPError as error:
        _logger.debug("the connection was gone already: %s", error)
    ended: asyncio.Future[Any] = closed if opened.done() else opened
    await asyncio.wait({ended}, timeout=CLOSE_SECONDS)
