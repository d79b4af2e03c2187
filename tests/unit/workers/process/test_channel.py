"""Frames between daemon and child."""

import asyncio
import socket

import pytest

from mr.workers.process import channel


def test_frames_are_read_one_after_the_other() -> None:
    daemon, child = socket.socketpair()
    with daemon, child:
        daemon.sendall(channel.frame([1]) + channel.frame("two"))
        daemon.shutdown(socket.SHUT_WR)
        assert channel.read_blocking(child) == b"\x91\x01"
        assert channel.read_blocking(child) == b"\xa3two"
        assert channel.read_blocking(child) is None


def test_a_frame_that_ends_early_is_an_error_in_the_child() -> None:
    daemon, child = socket.socketpair()
    with daemon, child:
        daemon.sendall(channel.frame("something")[:-1])
        daemon.shutdown(socket.SHUT_WR)
        with pytest.raises(channel.BrokenFrame):
            channel.read_blocking(child)


@pytest.mark.parametrize("data", [b"", b"\x00", channel.frame("something")[:-1], b"\xff\xff\xff\xff????"])
async def test_a_broken_stream_is_the_end_of_the_child_for_the_daemon(data: bytes) -> None:
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    assert await channel.read(reader) is None
