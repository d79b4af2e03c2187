"""Frames on the socket between a daemon and its child: four bytes of length, then msgpack."""

import asyncio
import socket
import struct
from typing import Any

import msgspec

#: A frame above this is a broken peer, not a message.
MAX_FRAME_BYTES = 256 * 1024 * 1024

_LENGTH = struct.Struct(">I")


class BrokenFrame(Exception):
    """A frame of impossible length arrived, or one that ends early. The peer is broken."""


def frame(message: Any) -> bytes:
    """Encode one message with its length in front."""
    body = msgspec.msgpack.encode(message)
    return _LENGTH.pack(len(body)) + body


def read_blocking(channel: socket.socket) -> bytes | None:
    """Read one frame's body in the child; None when the daemon closed the channel."""
    head = _receive(channel, _LENGTH.size)
    if not head:
        return None
    body = _receive(channel, _length(head))
    if body is None:
        raise BrokenFrame("the daemon closed the channel inside a frame")
    return body


def _receive(channel: socket.socket, count: int) -> bytes | None:
    """Read exactly `count` bytes; None at the end of the stream."""
    received = bytearray()
    while len(received) < count:
        data = channel.recv(min(count - len(received), 1 << 20))
        if not data:
            return None
        received += data
    return bytes(received)


async def read(reader: asyncio.StreamReader) -> bytes | None:
    """Read one frame's body in the daemon; None when the child is gone, even in the middle of a frame."""
    try:
        return await reader.readexactly(_length(await reader.readexactly(_LENGTH.size)))
    except (asyncio.IncompleteReadError, ConnectionError, BrokenFrame):
        return None


def _length(head: bytes) -> int:
    length: int = _LENGTH.unpack(head)[0]
    if length > MAX_FRAME_BYTES:
        raise BrokenFrame(f"a frame of {length} bytes is over the limit of {MAX_FRAME_BYTES}")
    return length
