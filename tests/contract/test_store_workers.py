"""The contract of the state store: workers, their pauses and drains."""

from mr.ports.store import StateStore
from mr.protocol.ids import Incarnation
from mr.protocol.records import Pause
from tests.contract import samples
from tests.contract.samples import ANN, BOB, FIRST_RUN, SECOND_RUN, is_later
from tests.support.waiting import eventually

LONG = 60.0
SHORT = 0.05


# --- workers


async def test_a_worker_is_live_for_its_lease(store: StateStore) -> None:
    assert await store.workers() == []
    await store.heartbeat(samples.beat(BOB), LONG)
    await store.heartbeat(samples.beat(ANN, open_slots=1), LONG)
    await store.heartbeat(samples.beat(ANN, limited_by="memory"), LONG)
    ann, bob = await store.workers()
    assert (ann.beat, ann.live) == (samples.beat(ANN, limited_by="memory"), True)
    assert (bob.beat, bob.live) == (samples.beat(BOB), True)
    assert 0 <= ann.age_seconds < LONG


async def test_a_silent_worker_is_shown_as_dead(store: StateStore) -> None:
    await store.heartbeat(samples.beat(ANN), SHORT)

    async def dead() -> bool:
        (view,) = await store.workers()
        return not view.live and view.age_seconds >= SHORT

    await eventually(dead)
    await store.heartbeat(samples.beat(ANN), LONG)
    assert [view.live for view in await store.workers()] == [True]


async def test_a_worker_that_left_is_forgotten_but_not_its_next_incarnation(store: StateStore) -> None:
    await store.heartbeat(samples.beat(ANN, FIRST_RUN), LONG)
    await store.heartbeat(samples.beat(ANN, SECOND_RUN), LONG, replaces=samples.beat(ANN, FIRST_RUN))
    await store.forget_worker(ANN, FIRST_RUN)
    assert await owners(store) == [SECOND_RUN]
    await store.forget_worker(ANN, SECOND_RUN)
    await store.forget_worker(BOB, FIRST_RUN)
    assert await store.workers() == []


async def owners(store: StateStore) -> list[Incarnation]:
    return [view.beat.incarnation for view in await store.workers()]


async def test_an_id_belongs_to_one_incarnation_until_it_leaves(store: StateStore) -> None:
    elder, younger = samples.beat(ANN, FIRST_RUN, number=1), samples.beat(ANN, SECOND_RUN)
    assert await store.heartbeat(elder, LONG) is None
    owner = await store.heartbeat(younger, LONG)
    assert owner is not None and (owner.beat, owner.live) == (elder, True)
    assert 0 <= owner.age_seconds < LONG
    assert await owners(store) == [FIRST_RUN]
    await store.forget_worker(ANN, SECOND_RUN)
    assert await owners(store) == [FIRST_RUN]
    await store.forget_worker(ANN, FIRST_RUN)
    assert await store.heartbeat(younger, LONG) is None
    assert await owners(store) == [SECOND_RUN]


async def test_an_id_is_free_when_the_lease_of_its_owner_has_run_out(store: StateStore) -> None:
    await store.heartbeat(samples.beat(ANN, FIRST_RUN), SHORT)

    async def taken() -> bool:
        return await store.heartbeat(samples.beat(ANN, SECOND_RUN), LONG) is None

    await eventually(taken)
    assert await store.heartbeat(samples.beat(ANN, FIRST_RUN), LONG) is not None
    assert await owners(store) == [SECOND_RUN]


async def test_an_incarnation_is_replaced_only_if_it_has_not_beaten_since(store: StateStore) -> None:
    first, second = (samples.beat(ANN, FIRST_RUN, number=number) for number in (1, 2))
    younger = samples.beat(ANN, SECOND_RUN, number=1)
    await store.heartbeat(first, LONG)
    await store.heartbeat(second, LONG)
    owner = await store.heartbeat(younger, LONG, replaces=first)
    assert owner is not None and owner.beat == second
    assert await store.heartbeat(younger, LONG, replaces=second) is None
    assert await store.heartbeat(younger, LONG, replaces=second) is None, "a call may be sent twice"
    assert await owners(store) == [SECOND_RUN]


async def test_an_incarnation_that_was_replaced_takes_its_id_back_by_beating(store: StateStore) -> None:
    first, second = (samples.beat(ANN, FIRST_RUN, number=number) for number in (1, 2))
    younger = samples.beat(ANN, SECOND_RUN, number=1)
    await store.heartbeat(first, LONG)
    await store.heartbeat(younger, LONG, replaces=first)
    await store.heartbeat(younger, LONG)
    assert await store.heartbeat(second, LONG) is None
    owner = await store.heartbeat(younger, LONG)
    assert owner is not None and owner.beat == second
    assert await owners(store) == [FIRST_RUN]


async def test_an_incarnation_that_was_replaced_and_silent_for_its_lease_is_refused(
    store: StateStore,
) -> None:
    first, younger = samples.beat(ANN, FIRST_RUN), samples.beat(ANN, SECOND_RUN)
    await store.heartbeat(first, 0.5)
    assert await store.heartbeat(younger, LONG, replaces=first) is None
    replaced_at = await store.server_time()
    await eventually(lambda: is_later(store, replaced_at + 0.5))
    assert await store.heartbeat(first, LONG) is not None
    assert await owners(store) == [SECOND_RUN]


# --- pauses and drains


async def test_a_pause_lasts_for_its_time(store: StateStore) -> None:
    assert await store.worker_pause(ANN) is None
    await store.pause_worker(ANN, Pause(60.0, "why \ud800 not"))
    pause = await store.worker_pause(ANN)
    assert pause is not None and 50.0 < pause.seconds <= 60.0 and pause.reason.startswith("why ")
    assert await store.worker_pause(BOB) is None
    await store.pause_worker(ANN, Pause(0.01, "why"))

    async def over() -> bool:
        return await store.worker_pause(ANN) is None

    await eventually(over)


async def test_a_drain_is_asked_of_one_incarnation_of_a_worker(store: StateStore) -> None:
    assert not await store.is_to_drain(ANN, FIRST_RUN)
    await store.drain_worker(ANN, FIRST_RUN)
    assert await store.is_to_drain(ANN, FIRST_RUN)
    assert not await store.is_to_drain(ANN, SECOND_RUN)
    assert not await store.is_to_drain(BOB, FIRST_RUN)
