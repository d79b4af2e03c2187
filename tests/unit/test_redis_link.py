"""The link to Redis, as far as it can be held to its word without a server."""

import asyncio
from collections.abc import Awaitable

import pytest

from mr.adapters.redis.link import RedisLink


class LosesCancellations:
    """A client like redis-py's on Python 3.11 at the wrong moment."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def execute_command(self, *words: str) -> bytes:
        if words == ("PING",):
            return b"PONG"
        self.asked.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return b"answer"
        raise AssertionError("never set")

    async def aclose(self) -> None:
        self.asked.clear()


@pytest.fixture
async def link(monkeypatch: pytest.MonkeyPatch) -> RedisLink:
    link = RedisLink("redis://127.0.0.1:1/0", connect_seconds=1, reconnect_seconds=1)
    monkeypatch.setattr(link, "_client", LosesCancellations())
    await link.open()
    return link


async def ends_cancelled(link: RedisLink, waiting: Awaitable[bytes]) -> None:
    task = asyncio.ensure_future(waiting)
    await link._client.asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancellation_is_heeded_where_the_client_loses_it(link: RedisLink) -> None:
    await ends_cancelled(link, link.command("GET", "key"))


async def test_a_time_out_is_heeded_where_the_client_loses_it(link: RedisLink) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await link.command("GET", "key")


async def test_a_cancelled_task_may_still_use_the_store(link: RedisLink) -> None:
    async def farewell() -> bytes:
        try:
            await asyncio.Event().wait()
        finally:
            assert await link.command("PING") == b"PONG"
            link._client.asked.set()
        raise AssertionError("never set")

    task = asyncio.ensure_future(farewell())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert link._client.asked.is_set()
