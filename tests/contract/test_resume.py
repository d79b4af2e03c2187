"""The contract of the state store: an ended job that is kept, and opened again."""

import msgspec
import pytest

from mr.errors import Deposed, StoreBehind
from mr.ports.store import StateStore
from mr.protocol.claims import Claim, Placement, Verdict
from mr.protocol.ids import AttemptId, TaskId, TaskKind
from mr.protocol.records import JobState, RestoredJob, TaskState
from tests.contract import samples
from tests.contract.conftest import OpenStore, go_back, snapshot
from tests.contract.samples import ANN, BOB, FIRST_RUN, JOB, MAP_0, MAP_1, REDUCE_0, SECOND_RUN, create
from tests.support.waiting import eventually

LONG = 60.0
SHORT = 0.05

FAILED = samples.record(state=JobState.FAILED, kept=True)
TASKS = [
    samples.task(MAP_0, TaskState.COMMITTED, attempt=1),
    samples.task(MAP_1, TaskState.CANCELLED, attempt=1),
    samples.task(REDUCE_0, TaskState.FAILED, attempt=2),
]


@pytest.fixture
async def ended(store: StateStore) -> StateStore:
    """A job that failed: one map has committed, one runs, the reduce failed twice."""
    await create(store)
    for task in (MAP_0, MAP_1, REDUCE_0, REDUCE_0):
        reply = await store.claim(JOB, task, ANN, FIRST_RUN, LONG)
        if task == REDUCE_0:
            await store.release(AttemptId(JOB, task, reply.attempt), FIRST_RUN)
    assert await store.commit(AttemptId(JOB, MAP_0, 1), samples.map_result())
    await store.put_log(AttemptId(JOB, MAP_0, 1), "printed", 1000)
    await store.end_job(FAILED, TASKS, 1, LONG, LONG)
    return store


def again(ended: RestoredJob, resumed: int = 1) -> RestoredJob:
    """What a coordinator writes to resume it."""
    record = msgspec.structs.replace(ended.record, state=JobState.MAPPING, kept=False, resumed=resumed)
    spec = msgspec.structs.replace(ended.spec, resumed=resumed)
    return msgspec.structs.replace(ended, record=record, spec=spec)


async def resume(store: StateStore, *kept: TaskId, epoch: int = 1, resumed: int = 1) -> RestoredJob | None:
    ended = await store.ended_job(JOB)
    return None if ended is None else await store.resume_job(again(ended, resumed), kept, epoch)


async def test_a_failed_job_is_kept_whole(ended: StateStore) -> None:
    kept = await ended.ended_job(JOB)
    assert kept is not None
    assert (kept.record, kept.spec, len(kept.splits)) == (FAILED, samples.spec(), 2)
    assert list(kept.tasks.values()) == TASKS
    assert kept.results == {MAP_0: samples.map_result()}
    assert kept.claims[MAP_0].winner == 1
    assert (await ended.claim(JOB, MAP_1, BOB, FIRST_RUN, LONG)).verdict is Verdict.GONE
    assert await ended.restore(1) == []


async def test_a_resumed_job_goes_on_from_what_is_kept(ended: StateStore) -> None:
    resumed = await resume(ended, MAP_0, MAP_1, REDUCE_0)
    assert resumed is not None
    assert (resumed.record.state, resumed.spec.resumed) == (JobState.MAPPING, 1)
    assert resumed.results == {MAP_0: samples.map_result()}
    assert resumed.claims == {MAP_0: Claim(1, 0, 1), MAP_1: Claim(1, 1), REDUCE_0: Claim(2, 2)}
    reply = await ended.claim(JOB, MAP_1, BOB, FIRST_RUN, LONG)
    assert (reply.verdict, reply.attempt, reply.resumed) == (Verdict.GRANTED, 2, 1)
    assert reply.split is not None
    assert (await ended.claim(JOB, MAP_0, BOB, FIRST_RUN, LONG)).verdict is Verdict.COMMITTED
    assert [job.record.job_id for job in await ended.restore(2)] == [JOB]


async def test_what_is_not_kept_runs_again(ended: StateStore) -> None:
    resumed = await resume(ended)
    assert resumed is not None
    assert (resumed.results, resumed.claims[MAP_0]) == ({}, Claim(1, 1))
    assert (await ended.map_outputs(JOB)).count == 0
    assert (await ended.claim(JOB, MAP_0, BOB, FIRST_RUN, LONG)).attempt == 2


async def test_numbers_go_on_above_those_in_the_records(ended: StateStore) -> None:
    kept = await ended.ended_job(JOB)
    assert kept is not None
    tasks = {**kept.tasks, REDUCE_0: samples.task(REDUCE_0, TaskState.WAITING, attempt=7)}
    await ended.resume_job(again(msgspec.structs.replace(kept, tasks=tasks)), [], 1)
    assert (await ended.claim(JOB, REDUCE_0, BOB, FIRST_RUN, LONG)).attempt == 8


async def test_attempts_of_the_time_before_are_stopped_and_cannot_commit(ended: StateStore) -> None:
    late = samples.map_result(MAP_1)
    assert not await ended.commit(AttemptId(JOB, MAP_1, 1), late)
    await resume(ended, MAP_0)
    assert not await ended.commit(AttemptId(JOB, MAP_1, 1), late)
    assert await ended.renew(JOB, {MAP_1: 1}, FIRST_RUN, LONG) == [MAP_1]
    reply = await ended.claim(JOB, MAP_1, BOB, FIRST_RUN, LONG)
    result = samples.map_result(MAP_1, reply.attempt)
    attempt = AttemptId(JOB, MAP_1, reply.attempt)
    assert not await ended.commit(attempt, result), "it was claimed before the job was resumed"
    assert await ended.commit(attempt, result, reply.resumed)
    assert await ended.commit(attempt, result, reply.resumed)


async def test_an_ended_job_is_resumed_once(ended: StateStore) -> None:
    kept = await ended.ended_job(JOB)
    assert kept is not None
    assert await resume(ended, MAP_0) is not None
    assert await ended.ended_job(JOB) is None
    assert await ended.resume_job(again(kept, 2), [], 1) is None, "it runs"
    assert (await ended.get_spec(JOB)) == again(kept).spec


async def test_a_job_may_fail_and_be_resumed_again(ended: StateStore) -> None:
    await resume(ended, MAP_0)
    await ended.end_job(FAILED, TASKS, 1, LONG, LONG)
    resumed = await resume(ended, MAP_0, resumed=2)
    assert resumed is not None and MAP_0 in resumed.results
    reply = await ended.claim(JOB, MAP_1, BOB, FIRST_RUN, LONG)
    assert (reply.attempt, reply.resumed) == (2, 2)


async def test_a_resumed_job_does_not_expire(store: StateStore) -> None:
    await create(store)
    await store.put_log(AttemptId(JOB, MAP_0, 1), "printed", 1000)
    await store.end_job(FAILED, TASKS, 1, 0.5, 0.5)
    assert await resume(store) is not None
    before = await store.server_time()

    async def later() -> bool:
        return await store.server_time() > before + 0.6

    await eventually(later)
    restored = await store.restore(1)
    assert [len(job.splits) for job in restored] == [2]
    assert await store.get_logs(JOB) != {}


async def test_without_kept_outputs_it_can_be_resumed_from_the_start(store: StateStore) -> None:
    await create(store)
    await store.claim(JOB, MAP_0, ANN, FIRST_RUN, LONG)
    await store.commit(AttemptId(JOB, MAP_0, 1), samples.map_result())
    await store.end_job(samples.record(state=JobState.CANCELLED), TASKS, 1, LONG, LONG)
    assert await store.get_results(JOB, TaskKind.MAP) == {}
    resumed = await resume(store, MAP_0)
    assert resumed is not None
    assert resumed.claims[MAP_0] == Claim(1, 1)


async def test_what_is_kept_is_gone_in_time(store: StateStore) -> None:
    await create(store)
    await store.claim(JOB, MAP_0, ANN, FIRST_RUN, LONG)
    await store.commit(AttemptId(JOB, MAP_0, 1), samples.map_result())
    await store.end_job(FAILED, TASKS, 1, LONG, SHORT)

    async def gone() -> bool:
        return await store.get_spec(JOB) is None

    await eventually(gone)
    assert await store.ended_job(JOB) is None
    assert await store.claims(JOB) == {}
    assert await store.get_results(JOB, TaskKind.MAP) == {}
    assert (await store.map_outputs(JOB)).count == 0
    assert await store.get_job(JOB) == FAILED


async def test_nothing_is_kept_where_nothing_is_asked_for(ended: StateStore, store: StateStore) -> None:
    await resume(ended, MAP_0)
    await store.end_job(FAILED, TASKS, 1, LONG)
    assert await store.ended_job(JOB) is None
    assert await store.ended_job(samples.JobId("unknown")) is None


async def test_outputs_that_are_kept_may_move(ended: StateStore) -> None:
    moved = msgspec.structs.replace(samples.map_result().output, incarnation=SECOND_RUN, path="/elsewhere")
    assert list(await ended.relocate(JOB, {MAP_0: (Placement(1, FIRST_RUN), moved)})) == [MAP_0]
    resumed = await resume(ended, MAP_0)
    assert resumed is not None and resumed.results[MAP_0].output == moved


async def test_a_deposed_coordinator_resumes_nothing(new_store: OpenStore) -> None:
    store, other = await new_store(), await new_store()
    await create(store)
    await store.end_job(FAILED, TASKS, 1, LONG, LONG)
    kept = await other.ended_job(JOB)
    assert kept is not None
    await other.end_job(FAILED, TASKS, 2, LONG, LONG)
    with pytest.raises(Deposed):
        await store.resume_job(again(kept), [], 1)
    assert await other.resume_job(again(kept), [], 2) is not None


async def test_a_store_that_forgot_resumes_nothing_until_the_end_is_written_again(store: StateStore) -> None:
    await create(store)
    await store.end_job(FAILED, TASKS, 1, LONG, LONG)
    older = await snapshot(store)
    await store.end_job(FAILED, TASKS, 1, LONG, LONG)
    await go_back(store, older)
    with pytest.raises(StoreBehind):
        await resume(store)
    await store.end_job(FAILED, TASKS, 1, LONG, LONG)
    assert await resume(store) is not None


async def test_a_store_that_forgot_the_resume_is_given_it_back(ended: StateStore) -> None:
    older = await snapshot(ended)
    resumed = await resume(ended, MAP_0)
    assert resumed is not None
    await go_back(ended, older)
    assert await ended.forgotten([JOB]) == [JOB]
    await ended.rewrite(resumed, 1, LONG)
    reply = await ended.claim(JOB, MAP_1, BOB, FIRST_RUN, LONG)
    assert (reply.verdict, reply.attempt, reply.resumed) == (Verdict.GRANTED, 2, 1)


async def test_what_a_store_granted_before_the_resume_it_forgot_counts_for_nothing(store: StateStore) -> None:
    await create(store)
    running = await snapshot(store)
    await store.end_job(FAILED, TASKS, 1, LONG, LONG)
    resumed = await resume(store)
    assert resumed is not None
    await go_back(store, running)
    early = await store.claim(JOB, REDUCE_0, ANN, FIRST_RUN, LONG)
    assert (early.verdict, early.resumed) == (Verdict.GRANTED, 0)
    await store.rewrite(resumed, 1, LONG)
    reply = await store.claim(JOB, REDUCE_0, BOB, FIRST_RUN, LONG)
    assert (reply.verdict, reply.resumed) == (Verdict.GRANTED, 1)
    attempt = AttemptId(JOB, REDUCE_0, reply.attempt)
    assert not await store.commit(attempt, samples.part_result(attempt=reply.attempt), early.resumed)
    assert await store.commit(attempt, samples.part_result(attempt=reply.attempt), reply.resumed)
