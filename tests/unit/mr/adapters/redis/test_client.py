"""The link to Redis, as far as it can be held to its word without a server."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from redis import exceptions

from mr.adapters.redis.client import RedisLink
from tests.support.waiting import eventually


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


class RefusesAtFirst:
    """A client of a server that cannot take a write now, and a little later can."""

    def __init__(self, refusal: Exception) -> None:
        self.refusals = [refusal]

    async def execute_command(self, *words: str) -> bytes:
        if self.refusals:
            raise self.refusals.pop()
        return b"OK"

    def pipeline(self, *, transaction: bool) -> "RefusesAtFirst":
        return self

    async def __aenter__(self) -> "RefusesAtFirst":
        return self

    async def __aexit__(self, *_: object) -> None:
        self.commands = 0

    def register_script(self, text: str) -> Callable[..., Awaitable[bytes]]:
        return lambda keys, args: self.execute_command(*keys)


class Pipelined(RefusesAtFirst):
    """The same, where commands go together and errors come back as answers."""

    def execute_command(self, *words: str) -> None:  # type: ignore[override]
        """Taken."""

    async def execute(self, *, raise_on_error: bool) -> list[object]:
        return [b"read", self.refusals.pop() if self.refusals else b"OK"]


REFUSALS = (
    exceptions.OutOfMemoryError("command not allowed when used memory > 'maxmemory'."),
    exceptions.ReadOnlyError("You can't write against a read only replica."),
    exceptions.ResponseError("MISCONF Errors writing to the AOF file: No space left on device"),
    exceptions.ResponseError("MISCONF Redis is configured to save. script: 1a, on @user_script:15."),
    exceptions.ResponseError("NOREPLICAS Not enough good replicas to write."),
    exceptions.ResponseError("BUSY Redis is busy running a script."),
)


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: str(refusal)[:12])
async def test_a_server_that_takes_no_writes_for_a_moment_is_waited_for(
    link: RedisLink, monkeypatch: pytest.MonkeyPatch, refusal: Exception
) -> None:
    monkeypatch.setattr(link, "_client", RefusesAtFirst(refusal))
    assert await link.command("SET", "key", "value") == b"OK"
    monkeypatch.setattr(link, "_client", RefusesAtFirst(refusal))
    assert await link.script("renew_lead", ["key"], []) == b"OK"
    monkeypatch.setattr(link, "_client", Pipelined(refusal))
    assert await link.commands([("GET", "key"), ("SET", "key", "value")]) == [b"read", b"OK"]


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


async def test_an_outage_in_which_reads_are_answered_is_told_once(
    link: RedisLink, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    client = RefusesAtFirst(REFUSALS[0])
    monkeypatch.setattr(link, "_client", client)
    client.refusals *= 2
    write = asyncio.create_task(link.command("SET", "key", "value"))
    await eventually(lambda: len(client.refusals) == 1)
    refusals, client.refusals = client.refusals, []
    assert await link.command("GET", "key") == b"OK"
    client.refusals = refusals
    await write
    assert sum("trying again" in message for message in caplog.messages) == 1
