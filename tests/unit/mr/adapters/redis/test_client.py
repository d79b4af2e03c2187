"""The client of Redis, as far as it can be held to its word without a server."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from redis import exceptions

from mr.adapters.redis.client import RedisClient
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
async def client(monkeypatch: pytest.MonkeyPatch) -> RedisClient:
    client = RedisClient("redis://127.0.0.1:1/0", connect_seconds=1, reconnect_seconds=1)
    monkeypatch.setattr(client, "_redis", LosesCancellations())
    await client.open()
    return client


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
    client: RedisClient, monkeypatch: pytest.MonkeyPatch, refusal: Exception
) -> None:
    monkeypatch.setattr(client, "_redis", RefusesAtFirst(refusal))
    assert await client.command("SET", "key", "value") == b"OK"
    monkeypatch.setattr(client, "_redis", RefusesAtFirst(refusal))
    assert await client.script("renew_lead", ["key"], []) == b"OK"
    monkeypatch.setattr(client, "_redis", Pipelined(refusal))
    assert await client.commands([("GET", "key"), ("SET", "key", "value")]) == [b"read", b"OK"]


async def ends_cancelled(client: RedisClient, waiting: Awaitable[bytes]) -> None:
    task = asyncio.ensure_future(waiting)
    await client._redis.asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancellation_is_heeded_where_the_client_loses_it(client: RedisClient) -> None:
    await ends_cancelled(client, client.command("GET", "key"))


async def test_a_time_out_is_heeded_where_the_client_loses_it(client: RedisClient) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await client.command("GET", "key")


async def test_a_cancelled_task_may_still_use_the_store(client: RedisClient) -> None:
    async def farewell() -> bytes:
        try:
            await asyncio.Event().wait()
        finally:
            assert await client.command("PING") == b"PONG"
            client._redis.asked.set()
        raise AssertionError("never set")

    task = asyncio.ensure_future(farewell())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert client._redis.asked.is_set()


async def test_an_outage_in_which_reads_are_answered_is_told_once(
    client: RedisClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    server = RefusesAtFirst(REFUSALS[0])
    monkeypatch.setattr(client, "_redis", server)
    server.refusals *= 2
    write = asyncio.create_task(client.command("SET", "key", "value"))
    await eventually(lambda: len(server.refusals) == 1)
    refusals, server.refusals = server.refusals, []
    assert await client.command("GET", "key") == b"OK"
    server.refusals = refusals
    await write
    assert sum("trying again" in message for message in caplog.messages) == 1
