"""The Redis adapter: refusals, a server that goes away, calls sent twice, keys."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis

from mr.adapters.redis.store import RedisStore
from mr.errors import BadSetting, StoreUnavailable
from mr.ports.claims import ClaimReply
from mr.protocol.claims import Verdict
from mr.protocol.ids import AttemptId
from mr.protocol.records import JobState, TaskState, UnreadableJob
from mr.settings import Settings
from tests.conftest import need
from tests.contract import samples
from tests.contract.samples import ANN, BOB, FIRST_RUN, JOB, MAP_0, REDUCE_0
from tests.support.own_process import free_port
from tests.support.proxy import Proxy
from tests.support.servers import NoServer, PrivateRedis
from tests.support.specs import make_splits
from tests.support.waiting import eventually

PASSWORD = "open-sesame"
LONG = 60.0


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[PrivateRedis]:
    """A private server with a password and persistence."""
    need(PrivateRedis.available(), NoServer("redis-server is not installed"))
    server = PrivateRedis(tmp_path, persistent=True, password=PASSWORD)
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def proxy(clean_redis_url: str) -> AsyncIterator[Proxy]:
    async with Proxy(urlsplit(clean_redis_url).port or 6379) as proxy:
        yield proxy


@pytest.fixture
async def store(proxy: Proxy) -> AsyncIterator[RedisStore]:
    """A store that reaches the server through the proxy only."""
    store = RedisStore(Settings(redis_url=f"redis://127.0.0.1:{proxy.port}/0", reconnect_seconds=20.0))
    await store.connect()
    yield store
    await store.close()


@pytest.fixture
def server(clean_redis_url: str) -> Iterator["redis.Redis"]:
    """A plain client of the same server."""
    with redis.Redis.from_url(clean_redis_url) as client:
        yield client


async def create(store: RedisStore) -> bool:
    return await store.create_job(samples.spec(), make_splits(), samples.record(), 1)


# --- refusals


async def refusal(url: str) -> str:
    """The message of the error that connecting to `url` ends with."""
    store = RedisStore(Settings(redis_url=url, connect_seconds=0.5))
    with pytest.raises(StoreUnavailable) as caught:
        await store.connect()
    message = str(caught.value)
    assert "\n" not in message
    assert PASSWORD not in message
    return message


async def test_refused_connection() -> None:
    port = free_port()
    assert await refusal(f"redis://:{PASSWORD}@127.0.0.1:{port}/0") == (
        f"Redis at 127.0.0.1:{port} refused the connection; check MR_REDIS_URL and that the server runs"
    )


async def test_name_that_does_not_resolve() -> None:
    message = await refusal(f"redis://:{PASSWORD}@no-such-host.invalid/0")
    assert "the name no-such-host.invalid does not resolve" in message


@pytest.mark.parametrize("credentials", ["", ":wrong@", "nobody:wrong@"])
async def test_wrong_credentials(own_redis: PrivateRedis, credentials: str) -> None:
    message = await refusal(f"redis://{credentials}127.0.0.1:{own_redis.port}/0")
    assert message.endswith("refused the credentials; check user and password in MR_REDIS_URL")


async def test_a_database_that_does_not_exist(scratch_redis_url: str) -> None:
    assert "out of range" in await refusal(scratch_redis_url.removesuffix("/0") + "/4711")


async def test_a_server_of_another_kind(scratch_broker_url: str) -> None:
    message = await refusal(f"redis://127.0.0.1:{urlsplit(scratch_broker_url).port}/0")
    assert message.startswith("Redis at 127.0.0.1:")


@pytest.mark.parametrize("url", ["http://host/", "redis://host:port/", "nonsense"])
def test_a_malformed_url(url: str) -> None:
    with pytest.raises(BadSetting, match="MR_REDIS_URL"):
        RedisStore(Settings(redis_url=url))


# --- a server that goes away


async def test_operations_wait_for_a_server_that_restarts(own_redis: PrivateRedis) -> None:
    store = RedisStore(Settings(redis_url=own_redis.url, reconnect_seconds=20.0))
    await store.connect()
    await create(store)
    own_redis.kill()
    claim = asyncio.create_task(store.claim(JOB, MAP_0, ANN, FIRST_RUN, LONG))
    assert not (await asyncio.wait({claim}, timeout=0.2))[0]
    own_redis.start()
    assert (await claim).verdict is Verdict.GRANTED
    assert await store.get_job(JOB) == samples.record()
    await store.close()


async def test_operations_give_up_when_the_server_stays_away(proxy: Proxy) -> None:
    url = f"redis://127.0.0.1:{proxy.port}/0"
    store = RedisStore(Settings(redis_url=url, reconnect_seconds=0.3))
    await store.connect()
    await proxy.cut()
    with pytest.raises(StoreUnavailable, match="refused the connection"):
        await store.get_job(JOB)
    await store.close()


async def test_scripts_are_loaded_again_after_the_server_lost_them(
    store: RedisStore, server: "redis.Redis"
) -> None:
    await create(store)
    server.script_flush()
    assert (await store.claim(JOB, MAP_0, ANN, FIRST_RUN, LONG)).verdict is Verdict.GRANTED


# --- calls that are sent twice, because the answer to the first was lost


async def test_a_claim_whose_answer_was_lost_is_granted_once(
    store: RedisStore, server: "redis.Redis", proxy: Proxy
) -> None:
    await create(store)
    assert (await store.claim(JOB, REDUCE_0, ANN, FIRST_RUN, LONG)).verdict is Verdict.GRANTED
    proxy.swallows_answers = True
    claim = asyncio.create_task(store.claim(JOB, MAP_0, ANN, FIRST_RUN, LONG))
    await eventually(lambda: server.hexists(f"mr:{{{JOB}}}:claims", MAP_0))
    proxy.swallows_answers = False
    await proxy.break_connections()
    assert await claim == ClaimReply(Verdict.GRANTED, 1, make_splits()[0])
    assert (await store.claim(JOB, MAP_0, ANN, FIRST_RUN, LONG)).verdict is Verdict.HELD


async def test_a_job_whose_creation_was_not_answered_is_created(
    store: RedisStore, server: "redis.Redis", proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.create_job(samples.spec("before"), make_splits(), samples.record("before"), 1)
    enter_index = store._index

    async def enter_index_and_lose_the_next_answer(*arguments: Any) -> None:
        await enter_index(*arguments)
        proxy.swallows_answers = True

    monkeypatch.setattr(store, "_index", enter_index_and_lose_the_next_answer)
    created = asyncio.create_task(create(store))
    await eventually(lambda: server.exists(f"mr:{{{JOB}}}:job"))
    monkeypatch.undo()
    proxy.swallows_answers = False
    await proxy.break_connections()
    assert await created
    assert not await create(store)


async def test_a_commit_whose_answer_was_lost_counts_once(
    store: RedisStore, server: "redis.Redis", proxy: Proxy
) -> None:
    await create(store)
    await store.claim(JOB, MAP_0, ANN, FIRST_RUN, LONG)
    assert not await store.commit(AttemptId(JOB, MAP_0, 7), samples.map_result(attempt=7))
    proxy.swallows_answers = True
    commit = asyncio.create_task(store.commit(AttemptId(JOB, MAP_0, 1), samples.map_result()))
    await eventually(lambda: server.hlen(f"mr:{{{JOB}}}:results:map") == 1)
    proxy.swallows_answers = False
    await proxy.break_connections()
    assert await commit


async def test_an_epoch_whose_answer_was_lost_is_given_once(
    store: RedisStore, server: "redis.Redis", proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await store.acquire_lead("one", LONG, 0) == 1
    script = store._client.script

    async def lose_the_answer(name: str, *arguments: Any) -> Any:
        proxy.swallows_answers = name == "next_epoch"
        return await script(name, *arguments)

    monkeypatch.setattr(store._client, "script", lose_the_answer)
    won = asyncio.create_task(store.acquire_lead("one", LONG, 41))
    await eventually(lambda: not server.get("mr:epoch").startswith(b"1"))
    proxy.swallows_answers = False
    await proxy.break_connections()
    assert await won == await store.last_epoch() == 42


# --- keys


async def use_every_key(store: RedisStore) -> None:
    await create(store)
    await store.save_job(samples.record(), [samples.task(MAP_0)], 1)
    for task, result in ((MAP_0, samples.map_result()), (REDUCE_0, samples.part_result())):
        await store.claim(JOB, task, ANN, FIRST_RUN, LONG)
        await store.commit(AttemptId(JOB, task, 1), result)
    await store.put_log(AttemptId(JOB, MAP_0, 1), "printed", 1000)


async def test_all_keys_of_a_job_are_in_one_slot(store: RedisStore, server: "redis.Redis") -> None:
    await use_every_key(store)
    keys = {key.decode() for key in server.scan_iter("*")} - {"mr:jobs"}
    prefix = f"mr:{{{JOB}}}:"
    assert {key.removeprefix(prefix) for key in keys} == {
        "job",
        "spec",
        "splits",
        "claims",
        "tasks",
        "results:map",
        "results:reduce",
        "locations",
        "logs",
    }


async def test_an_ended_job_leaves_only_keys_that_expire(store: RedisStore, server: "redis.Redis") -> None:
    await use_every_key(store)
    tasks = [samples.task(MAP_0, TaskState.COMMITTED)]
    await store.end_job(samples.record(state=JobState.COMPLETED), tasks, 1, LONG)
    left = {key.decode() for key in server.scan_iter(f"mr:{{{JOB}}}:*")}
    assert left == {f"mr:{{{JOB}}}:{name}" for name in ("job", "tasks", "results:reduce", "logs")}
    assert all(0 < server.ttl(key) <= LONG for key in left)


async def test_the_index_forgets_old_jobs_without_a_record(store: RedisStore, server: "redis.Redis") -> None:
    seconds, _ = server.time()
    server.zadd("mr:jobs", {"long-gone": seconds - 7200, "being-written": seconds})
    await create(store)
    await store.prune_jobs()
    assert server.zrange("mr:jobs", 0, -1) == [JOB.encode(), b"being-written"]


async def test_workers_silent_for_long_are_forgotten(store: RedisStore, server: "redis.Redis") -> None:
    await store.heartbeat(samples.beat(), LONG)
    assert 0 < server.ttl(f"mr:worker:{ANN}") <= 3600
    seconds, _ = server.time()
    server.zadd("mr:workers", {ANN: (seconds - 7200) * 1000})
    assert await store.workers() == []
    await store.heartbeat(samples.beat(BOB), LONG)
    assert server.zrange("mr:workers", 0, -1) == [BOB.encode()]


# --- what another version has written


async def test_an_input_that_cannot_be_read_is_granted_and_explained(
    store: RedisStore, server: "redis.Redis"
) -> None:
    await create(store)
    server.hset(f"mr:{{{JOB}}}:splits", MAP_0, b"\xc1")
    reply = await store.claim(JOB, MAP_0, ANN, FIRST_RUN, LONG)
    assert (reply.verdict, reply.attempt, reply.split) == (Verdict.GRANTED, 1, None)
    assert "a stored Split cannot be read" in reply.unreadable


async def test_a_result_that_cannot_be_read_is_committed(store: RedisStore, server: "redis.Redis") -> None:
    await use_every_key(store)
    server.hset(f"mr:{{{JOB}}}:results:map", MAP_0, b"\xc1")
    assert await store.claim(JOB, MAP_0, ANN, FIRST_RUN, LONG) == ClaimReply(Verdict.COMMITTED, 1)


@pytest.mark.parametrize(
    "spoilt", ["job", "job/epoch", "job/record", "spec", "splits", "tasks", "results:map"]
)
async def test_a_job_that_cannot_be_read_can_be_ended(
    store: RedisStore, server: "redis.Redis", spoilt: str
) -> None:
    await use_every_key(store)
    key, _, field = spoilt.partition("/")
    if field:
        server.hset(f"mr:{{{JOB}}}:{key}", field, b"\xc1")
    else:
        server.delete(f"mr:{{{JOB}}}:{key}")
        server.rpush(f"mr:{{{JOB}}}:{key}", b"rubbish")
    found = await store.restore(2)
    if spoilt != "job/epoch":
        (job,) = found
        assert isinstance(job, UnreadableJob) and (job.job_id, bool(job.reason)) == (JOB, True)
        assert (job.record is None) == spoilt.startswith("job")
    ended = samples.record(state=JobState.FAILED)
    await store.end_job(ended, [samples.task(MAP_0)], 2, LONG)
    assert await store.get_job(JOB) == ended
    assert await store.restore(3) == []


async def test_a_worker_that_cannot_be_read_hides_no_other(store: RedisStore, server: "redis.Redis") -> None:
    for worker in (ANN, BOB):
        await store.heartbeat(samples.beat(worker), LONG)
    server.hset(f"mr:worker:{ANN}", "beat", b"\xc1")
    assert [view.beat.worker for view in await store.workers()] == [BOB]


# --- a server that takes no writes


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (("REPLICAOF", "127.0.0.1", "1"), "is a read-only replica"),
        (("CONFIG", "SET", "maxmemory", "1"), "is out of memory (maxmemory)"),
    ],
    ids=["replica", "full"],
)
async def test_what_only_looks_writes_nothing(
    own_redis: PrivateRedis, harm: tuple[str, ...], reason: str
) -> None:
    store = RedisStore(Settings(redis_url=own_redis.url, reconnect_seconds=0.2))
    await store.connect()
    await create(store)
    await store.heartbeat(samples.beat(), LONG)
    with redis.Redis.from_url(own_redis.url) as client:
        client.execute_command(*harm)
    assert [view.beat.worker for view in await store.workers()] == [ANN]
    assert [record.job_id for record in await store.list_jobs()] == [JOB]
    assert await store.get_spec(JOB) is not None
    with pytest.raises(StoreUnavailable) as caught:
        await store.heartbeat(samples.beat(), LONG)
    assert reason in str(caught.value) and "\n" not in str(caught.value)
    await store.close()


# --- configuration


async def test_a_safe_configuration_gives_no_warning(own_redis: PrivateRedis) -> None:
    store = RedisStore(Settings(redis_url=own_redis.url))
    await store.connect()
    assert list(await store.warnings()) == []
    with redis.Redis.from_url(own_redis.url) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        client.config_set("appendonly", "no")
    appendonly, eviction = await store.warnings()
    assert "appendonly yes" in appendonly
    assert "allkeys-lru" in eviction
    await store.close()


async def test_a_configuration_that_may_not_be_read_gives_a_warning(own_redis: PrivateRedis) -> None:
    with redis.Redis.from_url(own_redis.url) as client:
        client.execute_command("ACL", "SETUSER", "team", "on", f">{PASSWORD}", "~mr:*", "+@all", "-config")
    url = f"redis://team:{PASSWORD}@127.0.0.1:{own_redis.port}/0"
    store = RedisStore(Settings(redis_url=url))
    await store.connect()
    (warning,) = await store.warnings()
    assert "cannot be checked" in warning
    assert await create(store)
    await store.close()
