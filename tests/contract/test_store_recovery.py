"""The contract of the state store: successive coordinators, lost writes, clocks that are set back."""

import asyncio

import msgspec
import pytest

from mr.errors import Deposed, StoreBehind
from mr.ports.store import StateStore
from mr.protocol.claims import Placement, Verdict
from mr.protocol.ids import AttemptId, JobId, TaskId
from mr.protocol.records import JobState, RestoredJob, TaskState
from tests.contract import samples
from tests.contract.conftest import OpenStore, go_back, set_clock_back, snapshot
from tests.contract.samples import ANN, BOB, FIRST_RUN, JOB, MAP_0, MAP_1, REDUCE_0, create
from tests.support.specs import make_splits
from tests.support.waiting import eventually

LONG = 60.0
SHORT = 0.05


# --- successive coordinators


async def test_a_deposed_coordinator_writes_no_job(store: StateStore) -> None:
    await create(store, epoch=1)
    await store.restore(2)
    with pytest.raises(Deposed):
        await store.save_job(samples.record(state=JobState.FAILED), [samples.task(MAP_0)], 1)
    with pytest.raises(Deposed):
        await store.end_job(samples.record(state=JobState.FAILED), [], 1, LONG)
    with pytest.raises(Deposed):
        await store.restore(1)
    assert await store.get_job(JOB) == samples.record()
    assert await store.get_tasks(JOB) == []
    await store.save_job(samples.record(state=JobState.MAPPING), [], 2)


async def test_restore_reads_everything_of_unfinished_jobs(store: StateStore) -> None:
    await create(store, "ended", submitted_at=999.0)
    await store.end_job(samples.record("ended", JobState.FAILED), [], 1, LONG)
    await create(store, "younger", submitted_at=2000.0)
    await create(store)
    tasks = {task: samples.task(task) for task in (MAP_0, MAP_1, REDUCE_0)}
    await store.save_job(samples.record(state=JobState.MAPPING), tasks.values(), 1)
    for task in (MAP_0, MAP_1):
        await store.claim(JOB, task, ANN, FIRST_RUN, LONG)
    await store.commit(AttemptId(JOB, MAP_0, 1), samples.map_result())
    older, younger = await store.restore(2)
    assert older == RestoredJob(
        record=samples.record(state=JobState.MAPPING),
        spec=samples.spec(),
        splits=make_splits(),
        tasks=tasks,
        claims=await store.claims(JOB),
        results={MAP_0: samples.map_result()},
    )
    assert list(older.claims) == [MAP_0, MAP_1]
    assert younger.spec.job_id == "younger"


async def test_a_lost_job_is_written_back_whole(new_store: OpenStore) -> None:
    store = await new_store()
    await create(store)
    await store.save_job(samples.record(state=JobState.MAPPING), [samples.task(MAP_0)], 1)
    for task in (MAP_0, MAP_1, REDUCE_0):
        await store.claim(JOB, task, ANN, FIRST_RUN, LONG)
    await store.commit(AttemptId(JOB, MAP_0, 1), samples.map_result())
    await store.commit(AttemptId(JOB, REDUCE_0, 1), samples.part_result())
    (known,) = await store.restore(2)
    await store.end_job(samples.record(state=JobState.CANCELLED), [], 2, SHORT)

    async def forgotten() -> bool:
        return await store.get_job(JOB) is None

    await eventually(forgotten)
    await store.rewrite(known, 3, LONG)
    (written,) = await store.restore(3)
    assert [h.attempt for h in written.claims[MAP_1].holders] == [1]
    assert msgspec.structs.replace(written, claims=known.claims) == known
    assert await store.get_spec(JOB) == samples.spec()
    assert await store.list_jobs() == [known.record]
    assert (await store.claim(JOB, MAP_0, BOB, FIRST_RUN, LONG)).verdict is Verdict.COMMITTED
    assert (await store.claim(JOB, MAP_1, BOB, FIRST_RUN, LONG)).verdict is Verdict.HELD
    assert await store.renew(JOB, {MAP_1: 1}, FIRST_RUN, LONG) == []


async def test_what_the_store_knows_beyond_what_is_written_back_stays(store: StateStore) -> None:
    await create(store)
    (known,) = await store.restore(1)
    await store.claim(JOB, MAP_0, ANN, FIRST_RUN, LONG)
    await store.rewrite(known, 2, LONG)
    assert list(await store.claims(JOB)) == [MAP_0]
    with pytest.raises(Deposed):
        await store.rewrite(known, 1, LONG)


# --- a store that came back older


async def test_a_store_that_has_all_writes_has_forgotten_nothing(new_store: OpenStore) -> None:
    store, other = await new_store(), await new_store()
    await create(store)
    await store.save_job(samples.record(state=JobState.MAPPING), [samples.task(MAP_0)], 1)
    await asyncio.gather(*(store.speculate(JOB, [MAP_0], 1) for _ in range(5)))
    await other.restore(2)
    await store.save_job(samples.record(state=JobState.MAPPING), [], 2)
    await store.end_job(samples.record(state=JobState.FAILED), [], 2, LONG)
    assert await store.forgotten([JOB, JobId("unknown")]) == []
    assert await other.forgotten([JOB, JobId("unknown")]) == []


async def test_a_store_that_forgot_refuses_until_it_is_written_back(store: StateStore) -> None:
    await create(store)
    await store.claim(JOB, MAP_0, ANN, FIRST_RUN, LONG)
    older = await snapshot(store)
    await store.commit(AttemptId(JOB, MAP_0, 1), samples.map_result())
    mapping = samples.record(state=JobState.MAPPING)
    await store.save_job(mapping, [samples.task(MAP_0, TaskState.COMMITTED, attempt=1)], 1)
    (known,) = await store.restore(1)
    await go_back(store, older)
    assert await store.forgotten([JOB]) == [JOB]
    for write in (
        store.save_job(mapping, [], 1),
        store.reopen(JOB, {MAP_0: Placement(1, FIRST_RUN)}, 1),
        store.speculate(JOB, [MAP_1], 1),
        store.claims(JOB),
    ):
        with pytest.raises(StoreBehind):
            await write
    assert await store.get_job(JOB) == samples.record()
    await store.rewrite(known, 1, LONG)
    assert await store.forgotten([JOB]) == []
    assert (await store.map_outputs(JOB)).unpack(JOB) == [samples.map_result().output]
    assert await store.get_tasks(JOB) == list(known.tasks.values())
    await store.save_job(mapping, [], 1)


async def test_a_job_that_a_store_forgot_is_written_back_and_runs(store: StateStore) -> None:
    older = await snapshot(store)
    await create(store)
    await store.claim(JOB, MAP_0, ANN, FIRST_RUN, LONG)
    (known,) = await store.restore(1)
    await go_back(store, older)
    assert await store.get_spec(JOB) is None
    assert await store.forgotten([JOB]) == [JOB]
    await store.rewrite(known, 1, LONG)
    assert await store.renew(JOB, {MAP_0: 1}, FIRST_RUN, LONG) == []
    assert (await store.claim(JOB, MAP_1, BOB, FIRST_RUN, LONG)).verdict is Verdict.GRANTED


async def test_the_end_of_a_job_needs_no_writing_back(store: StateStore) -> None:
    await create(store)
    older = await snapshot(store)
    await store.save_job(samples.record(state=JobState.MAPPING), [], 1)
    done = samples.record(state=JobState.COMPLETED)
    await store.end_job(done, [samples.task(MAP_0)], 1, LONG)
    await go_back(store, older)
    assert await store.forgotten([JOB]) == [JOB]
    await store.end_job(done, [samples.task(MAP_0)], 1, LONG)
    assert await store.forgotten([JOB]) == []
    assert await store.get_job(JOB) == done
    assert await store.restore(2) == []


async def test_a_job_that_is_ended_again_in_an_emptied_store_is_listed(store: StateStore) -> None:
    emptied = await snapshot(store)
    await create(store)
    done = samples.record(state=JobState.COMPLETED)
    await store.end_job(done, [], 1, LONG)
    await go_back(store, emptied)
    await store.end_job(done, [], 1, LONG)
    assert await store.list_jobs() == [done]
    await store.prune_jobs()
    assert await store.list_jobs() == [done]


async def test_a_job_written_back_over_one_that_had_ended_begins_without_its_logs(store: StateStore) -> None:
    """They would vanish under the running job, when the history of the ended one expires."""
    await create(store)
    (known,) = await store.restore(1)
    await store.put_log(AttemptId(JOB, MAP_0, 1), "printed", 1000)
    await store.end_job(samples.record(state=JobState.FAILED), [], 1, LONG)
    await store.rewrite(known, 1, LONG)
    assert await store.get_logs(JOB) == {}
    await store.put_log(AttemptId(JOB, MAP_0, 1), "again", 1000)
    assert await store.get_logs(JOB) == {f"{MAP_0}/1": "again"}


async def test_a_new_coordinator_expects_what_the_store_has(new_store: OpenStore) -> None:
    store = await new_store()
    await create(store)
    older = await snapshot(store)
    await store.save_job(samples.record(state=JobState.MAPPING), [], 1)
    await go_back(store, older)
    await store.restore(2)
    assert await store.forgotten([JOB]) == []
    await store.save_job(samples.record(state=JobState.MAPPING), [], 2)


async def test_of_two_results_under_one_number_the_first_counts(store: StateStore) -> None:
    await create(store)
    older = await snapshot(store)
    await store.claim(JOB, MAP_0, ANN, FIRST_RUN, LONG)
    await go_back(store, older)
    assert (await store.claim(JOB, MAP_0, BOB, FIRST_RUN, LONG)).attempt == 1
    assert await store.commit(AttemptId(JOB, MAP_0, 1), samples.map_result(worker=ANN))
    assert not await store.commit(AttemptId(JOB, MAP_0, 1), samples.map_result(worker=BOB))
    assert (await store.map_outputs(JOB)).unpack(JOB) == [samples.map_result(worker=ANN).output]


# --- clocks set back


async def test_a_lead_from_before_the_clock_was_set_back_ends_with_a_lease(store: StateStore) -> None:
    await store.acquire_lead("one", 1e6, 0)
    assert await store.acquire_lead("two", SHORT, 0) is None
    assert await eventually(lambda: store.acquire_lead("two", SHORT, 0)) == 2


async def test_a_heartbeat_from_the_future_ages_from_now_on(store: StateStore) -> None:
    await store.heartbeat(samples.beat(ANN), SHORT)
    await set_clock_back(store, ANN, 1e6)

    async def dead() -> bool:
        (view,) = await store.workers()
        return not view.live

    await eventually(dead)


async def test_a_job_of_many_tasks(store: StateStore) -> None:
    count = 3000
    splits = make_splits(count)
    await store.create_job(samples.spec(maps=count), splits, samples.record(maps=count), 1)
    tasks = [samples.task(TaskId(f"map-{index:05d}")) for index in range(count)]
    await store.save_job(samples.record(maps=count), tasks, 1)
    (restored,) = await store.restore(2)
    assert restored.splits == splits
    await store.end_job(samples.record(state=JobState.FAILED, maps=count), tasks, 2, LONG)
    assert await store.get_tasks(JOB) == tasks


async def test_a_known_job_is_not_read_again_so_its_loss_is_noticed_later(store: StateStore) -> None:
    """Reading a job accepts it as the store has it, and hides what it has lost."""
    await create(store)
    before = await snapshot(store)
    await store.save_job(samples.record(state=JobState.MAPPING), (), 1)
    await go_back(store, before)
    assert await store.restore(1, {JOB}) == []
    assert await store.forgotten([JOB]) == [JOB]
    await store.restore(1)
    assert await store.forgotten([JOB]) == []
