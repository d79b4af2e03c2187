"""What only the store in memory has: a clock that tests turn, and a server that can be emptied."""

import pytest

from mr.adapters.memory.state import MemoryStoreServer
from mr.adapters.memory.store import MemoryStore
from mr.protocol.claims import Verdict
from mr.protocol.records import JobState
from tests.contract import samples
from tests.contract.samples import ANN, BOB, FIRST_RUN, JOB, MAP_0
from tests.support.specs import make_splits


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def store(clock: Clock) -> MemoryStore:
    store = MemoryStore(clock)
    await store.connect()
    await store.create_job(samples.spec(), make_splits(), samples.record(), 1)
    return store


async def test_a_lease_ends_at_its_millisecond(store: MemoryStore, clock: Clock) -> None:
    await store.claim(JOB, MAP_0, ANN, FIRST_RUN, 10.0)
    clock.now += 9.999
    assert (await store.claim(JOB, MAP_0, BOB, FIRST_RUN, 10.0)).verdict is Verdict.HELD
    clock.now += 0.001
    assert (await store.claim(JOB, MAP_0, BOB, FIRST_RUN, 10.0)).verdict is Verdict.GRANTED


async def test_a_clock_set_back_prolongs_no_lease(store: MemoryStore, clock: Clock) -> None:
    await store.claim(JOB, MAP_0, ANN, FIRST_RUN, 10.0)
    await store.heartbeat(samples.beat(), 10.0)
    assert await store.acquire_lead("one", 10.0, 0) == 1
    clock.now -= 3600.0
    assert (await store.claim(JOB, MAP_0, BOB, FIRST_RUN, 10.0)).verdict is Verdict.HELD
    assert [view.live for view in await store.workers()] == [True]
    assert await store.acquire_lead("two", 10.0, 0) is None
    clock.now += 10.0
    assert (await store.claim(JOB, MAP_0, BOB, FIRST_RUN, 10.0)).verdict is Verdict.GRANTED
    assert [view.live for view in await store.workers()] == [False]
    assert await store.acquire_lead("two", 10.0, 0) == 2


async def test_a_worker_is_live_for_its_lease_and_shown_for_an_hour(store: MemoryStore, clock: Clock) -> None:
    await store.heartbeat(samples.beat(), 10.0)
    for later, live in ((9.0, [True]), (10.0, [False]), (3599.0, [False]), (3601.0, [])):
        clock.now = 1000.0 + later
        assert [view.live for view in await store.workers()] == live


async def test_the_lead_ends_with_its_lease(store: MemoryStore, clock: Clock) -> None:
    assert await store.acquire_lead("one", 10.0, 0) == 1
    clock.now += 10.0
    assert not await store.renew_lead("one", 10.0)
    assert await store.acquire_lead("two", 10.0, 0) == 2


async def test_a_job_is_forgotten_after_its_history(store: MemoryStore, clock: Clock) -> None:
    await store.end_job(samples.record(state=JobState.COMPLETED), [], 1, 60.0)
    clock.now += 59.0
    assert len(await store.list_jobs()) == 1
    clock.now += 1.0
    assert await store.list_jobs() == []


async def test_a_job_that_is_over_its_history_is_let_go(store: MemoryStore, clock: Clock) -> None:
    await store.prune_jobs()
    assert list(store.server.jobs) == [JOB]
    await store.end_job(samples.record(state=JobState.COMPLETED), [], 1, 60.0)
    clock.now += 60.0
    await store.prune_jobs()
    assert not store.server.jobs


async def test_an_emptied_store_knows_nothing(clock: Clock) -> None:
    server = MemoryStoreServer()
    store = MemoryStore(clock, server)
    await store.connect()
    await store.create_job(samples.spec(), make_splits(), samples.record(), 1)
    await store.acquire_lead("one", 10.0, 0)
    server.flush()
    assert not await store.renew_lead("one", 10.0)
    assert (await store.claim(JOB, MAP_0, ANN, FIRST_RUN, 10.0)).verdict is Verdict.GONE
    assert await store.list_jobs() == []
