"""The adapters of each port: every contract test runs in memory and on the real server."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from mr.adapters.memory.broker import MemoryBroker
from mr.adapters.memory.exchange import MemoryBrokerServer
from mr.adapters.memory.state import MemoryStoreServer
from mr.adapters.memory.store import MemoryStore
from mr.adapters.open import open_broker, open_store
from mr.adapters.redis import keys
from mr.adapters.redis.store import RedisStore
from mr.ports.broker import Broker
from mr.ports.store import StateStore
from mr.protocol.ids import JobId, WorkerId
from mr.settings import Settings

#: Bytes that decode as no record.
UNREADABLE = b"\xc1"

OpenBroker = Callable[[], Awaitable[Broker]]
OpenStore = Callable[[], Awaitable[StateStore]]


@pytest.fixture(params=["memory", "rabbitmq"])
async def new_broker(request: pytest.FixtureRequest) -> AsyncIterator[OpenBroker]:
    """Makes connected clients of one empty broker; closes them afterwards."""
    server = MemoryBrokerServer()
    settings = Settings()
    if request.param == "rabbitmq":
        settings = Settings(broker_url=request.getfixturevalue("clean_broker_url"), reconnect_seconds=10.0)
    opened: list[Broker] = []

    async def new() -> Broker:
        broker = MemoryBroker(server) if request.param == "memory" else open_broker(settings)
        opened.append(broker)
        await broker.connect()
        return broker

    yield new
    for broker in opened:
        await broker.close()


@pytest.fixture
async def broker(new_broker: OpenBroker) -> Broker:
    """One connected client."""
    return await new_broker()


@pytest.fixture(params=["memory", "redis"])
async def new_store(request: pytest.FixtureRequest) -> AsyncIterator[OpenStore]:
    """Makes connected clients of one empty store; closes them afterwards."""
    server = MemoryStoreServer()
    settings = Settings()
    if request.param == "redis":
        settings = Settings(redis_url=request.getfixturevalue("clean_redis_url"), reconnect_seconds=10.0)
    opened: list[StateStore] = []

    async def new() -> StateStore:
        store = MemoryStore(server=server) if request.param == "memory" else open_store(settings)
        opened.append(store)
        await store.connect()
        return store

    yield new
    for store in opened:
        await store.close()


async def spoil_record(store: StateStore, job: JobId) -> None:
    """Replace a job's record by bytes that cannot be read, as another version might write."""
    await store.get_job(job)
    if isinstance(store, MemoryStore):
        store.server.jobs[job].record = UNREADABLE
    else:
        assert isinstance(store, RedisStore)
        await store._client.command("HSET", keys.job_key(job), "record", UNREADABLE)


async def snapshot(store: StateStore) -> Any:
    """Everything the server holds, for `go_back`."""
    await store.list_jobs()
    if isinstance(store, MemoryStore):
        return store.server.snapshot()
    assert isinstance(store, RedisStore)
    keys = sorted(await store._client.command("KEYS", "*"))
    return dict(zip(keys, await store._client.commands([("DUMP", key) for key in keys]), strict=True))


async def go_back(store: StateStore, snapshot: Any) -> None:
    """Restore an earlier state of the server."""
    if isinstance(store, MemoryStore):
        store.server.go_back(snapshot)
        return
    assert isinstance(store, RedisStore)
    await store._client.command("FLUSHDB")
    await store._client.commands([("RESTORE", key, 0, data) for key, data in snapshot.items()])


async def set_clock_back(store: StateStore, worker: WorkerId, seconds: float) -> None:
    """Move a worker's last heartbeat into the future, as if the clock had been set back."""
    await store.workers()
    if isinstance(store, MemoryStore):
        store.server.workers[worker].at += seconds
        return
    assert isinstance(store, RedisStore)
    await store._client.command("HINCRBY", keys.worker_key(worker), "at_ms", int(seconds * 1000))


@pytest.fixture
async def store(new_store: OpenStore) -> StateStore:
    """One connected client."""
    return await new_store()
