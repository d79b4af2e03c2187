"""The contract of the claims: who may run a task, and whose output counts."""

import asyncio

import msgspec
import pytest

from mr.errors import Deposed
from mr.ports.claims import ClaimReply
from mr.ports.store import StateStore
from mr.protocol.claims import RELEASED_KEPT, Claim, Placement, Verdict
from mr.protocol.ids import AttemptId, Incarnation, TaskId, TaskKind, WorkerId, task_id, task_index
from mr.protocol.jobs import Split
from mr.protocol.records import JobState, MapOutput, Outcome, TaskResult
from tests.contract import samples
from tests.contract.conftest import OpenStore
from tests.contract.samples import ANN, BOB, CID, FIRST_RUN, JOB, MAP_0, MAP_1, REDUCE_0, SECOND_RUN
from tests.support.specs import make_splits
from tests.support.waiting import eventually

#: Where `samples.map_result()` is.
FIRST = Placement(1, FIRST_RUN)
LONG = 60.0
SHORT = 0.05


@pytest.fixture
async def job(store: StateStore) -> StateStore:
    """A store with one open job of two maps and a reduce, written by epoch 1."""
    assert await store.create_job(samples.spec(), make_splits(), samples.record(), 1)
    return store


async def claim(
    store: StateStore,
    worker: WorkerId,
    task: TaskId = MAP_0,
    incarnation: Incarnation = FIRST_RUN,
    lease_seconds: float = LONG,
) -> ClaimReply:
    return await store.claim(JOB, task, worker, incarnation, lease_seconds)


async def test_a_free_task_is_granted_with_its_split(job: StateStore) -> None:
    assert await claim(job, ANN, MAP_1) == ClaimReply(Verdict.GRANTED, 1, make_splits()[1])
    assert await claim(job, BOB, REDUCE_0) == ClaimReply(Verdict.GRANTED, 1)


async def test_a_held_task_is_refused_to_others_and_to_its_holder(job: StateStore) -> None:
    await claim(job, ANN)
    assert await claim(job, BOB) == ClaimReply(Verdict.HELD)
    assert await claim(job, ANN) == ClaimReply(Verdict.HELD)


async def test_of_many_at_once_one_is_granted(new_store: OpenStore) -> None:
    stores = [await new_store() for _ in range(4)]
    await stores[0].create_job(samples.spec(), make_splits(), samples.record(), 1)
    replies = await asyncio.gather(
        *(claim(store, WorkerId(f"w{i}-{j}")) for i, store in enumerate(stores) for j in range(5))
    )
    assert sorted(reply.verdict for reply in replies) == [Verdict.GRANTED] + [Verdict.HELD] * 19


async def test_a_lease_that_ran_out_binds_nobody(job: StateStore) -> None:
    await claim(job, ANN, lease_seconds=SHORT)

    async def granted() -> ClaimReply | None:
        reply = await claim(job, BOB)
        return reply if reply.verdict is Verdict.GRANTED else None

    assert (await eventually(granted)).attempt == 2
    claims = await job.claims(JOB)
    assert [holder.worker for holder in claims[MAP_0].holders] == [BOB]


async def test_a_lease_from_before_the_clock_was_set_back_ends_in_time(job: StateStore) -> None:
    """Claims granted before the store's clock was set back."""
    await claim(job, ANN, lease_seconds=1e6)
    assert await claim(job, BOB, lease_seconds=SHORT) == ClaimReply(Verdict.HELD)

    async def granted() -> ClaimReply | None:
        reply = await claim(job, BOB, lease_seconds=SHORT)
        return reply if reply.verdict is Verdict.GRANTED else None

    assert (await eventually(granted)).attempt == 2


async def test_two_incarnations_of_one_worker_take_nothing_from_each_other(job: StateStore) -> None:
    await claim(job, ANN)
    await claim(job, ANN, MAP_1, incarnation=SECOND_RUN)
    assert await claim(job, ANN, incarnation=SECOND_RUN) == ClaimReply(Verdict.HELD)
    assert await claim(job, ANN, MAP_1) == ClaimReply(Verdict.HELD)
    await job.speculate(JOB, [MAP_0], 1)
    assert await claim(job, ANN, incarnation=SECOND_RUN) == ClaimReply(Verdict.HELD)
    assert await job.renew(JOB, {MAP_0: 1}, FIRST_RUN, LONG) == []
    assert await job.renew(JOB, {MAP_1: 1}, SECOND_RUN, LONG) == []


async def test_what_a_dead_worker_held_is_free_at_once(job: StateStore) -> None:
    await claim(job, ANN)
    await claim(job, ANN, MAP_1, incarnation=SECOND_RUN)
    await job.release_dead(JOB, [(MAP_0, FIRST_RUN), (MAP_1, FIRST_RUN), (REDUCE_0, FIRST_RUN)], 1)
    assert (await claim(job, BOB)).attempt == 2
    assert await claim(job, BOB, MAP_1) == ClaimReply(Verdict.HELD)
    assert await job.renew(JOB, {MAP_0: 1}, FIRST_RUN, LONG) == [MAP_0]
    assert list(await job.claims(JOB)) == [MAP_0, MAP_1]


async def test_only_the_dead_holder_of_a_speculative_task_is_released(job: StateStore) -> None:
    await job.speculate(JOB, [MAP_0], 1)
    await claim(job, ANN)
    await claim(job, BOB, incarnation=SECOND_RUN)
    await job.release_dead(JOB, [(MAP_0, FIRST_RUN)], 1)
    assert [holder.worker for holder in (await job.claims(JOB))[MAP_0].running] == [BOB]
    assert (await claim(job, CID)).attempt == 3


async def test_the_commit_of_a_worker_taken_for_dead_counts(job: StateStore) -> None:
    await claim(job, ANN)
    await job.release_dead(JOB, [(MAP_0, FIRST_RUN)], 1)
    assert await job.commit(AttemptId(JOB, MAP_0, 1), samples.map_result())
    await job.release_dead(JOB, [(MAP_0, FIRST_RUN)], 1)
    assert (await claim(job, BOB)).verdict is Verdict.COMMITTED


async def test_a_speculative_task_takes_two_holders_on_two_workers(job: StateStore) -> None:
    await claim(job, ANN)
    await job.speculate(JOB, [MAP_0], 1)
    assert await claim(job, ANN) == ClaimReply(Verdict.HELD)
    assert (await claim(job, BOB)).attempt == 2
    assert await claim(job, CID) == ClaimReply(Verdict.HELD)
    assert await job.renew(JOB, {MAP_0: 1}, FIRST_RUN, LONG) == []
    assert await job.commit(AttemptId(JOB, MAP_0, 2), samples.map_result(attempt=2))
    assert await job.renew(JOB, {MAP_0: 1}, FIRST_RUN, LONG) == [MAP_0]
    assert not await job.commit(AttemptId(JOB, MAP_0, 1), samples.map_result(attempt=1))


async def test_a_task_may_be_made_speculative_before_it_is_claimed(job: StateStore) -> None:
    await job.speculate(JOB, [MAP_0], 1)
    assert [(await claim(job, worker)).verdict for worker in (ANN, BOB, CID)] == [
        Verdict.GRANTED,
        Verdict.GRANTED,
        Verdict.HELD,
    ]


async def test_the_first_commit_wins_and_may_be_repeated(job: StateStore) -> None:
    await claim(job, ANN)
    result = samples.map_result()
    assert await job.commit(AttemptId(JOB, MAP_0, 1), result)
    assert await job.commit(AttemptId(JOB, MAP_0, 1), result)
    assert await claim(job, BOB) == ClaimReply(Verdict.COMMITTED, 1)
    assert await job.get_results(JOB, TaskKind.MAP) == {MAP_0: result}
    assert (await job.map_outputs(JOB)).unpack(JOB) == [result.output]
    await job.speculate(JOB, [MAP_0], 1)
    assert (await claim(job, BOB)).verdict is Verdict.COMMITTED


async def test_an_attempt_that_was_never_granted_cannot_commit(job: StateStore) -> None:
    assert not await job.commit(AttemptId(JOB, MAP_0, 1), samples.map_result())
    await claim(job, ANN)
    assert not await job.commit(AttemptId(JOB, MAP_0, 2), samples.map_result(attempt=2))
    assert (await job.map_outputs(JOB)).unpack(JOB) == []


async def test_an_attempt_whose_lease_ran_out_may_still_commit(job: StateStore) -> None:
    await claim(job, ANN, lease_seconds=SHORT)

    async def taken_over() -> bool:
        return (await claim(job, BOB)).verdict is Verdict.GRANTED

    await eventually(taken_over)
    assert await job.commit(AttemptId(JOB, MAP_0, 1), samples.map_result())
    assert not await job.commit(AttemptId(JOB, MAP_0, 2), samples.map_result(attempt=2, worker=BOB))


async def test_renewal_extends_leases_and_names_the_tasks_to_stop(job: StateStore) -> None:
    await claim(job, ANN, MAP_0, lease_seconds=SHORT)
    await claim(job, BOB, MAP_1)
    assert await job.renew(JOB, {MAP_0: 1, MAP_1: 7, REDUCE_0: 1}, FIRST_RUN, LONG) == [MAP_1, REDUCE_0]
    assert await job.renew(JOB, {MAP_0: 1}, SECOND_RUN, LONG) == [MAP_0]
    before = (await job.claims(JOB))[MAP_0].holders[0].expires_ms
    assert await job.renew(JOB, {MAP_0: 1}, FIRST_RUN, 2 * LONG) == []
    assert (await job.claims(JOB))[MAP_0].holders[0].expires_ms > before


async def test_a_released_task_is_free_at_once(job: StateStore) -> None:
    await claim(job, ANN)
    await job.release(AttemptId(JOB, MAP_0, 1), FIRST_RUN)
    await job.release(AttemptId(JOB, MAP_1, 1), FIRST_RUN)
    assert (await claim(job, BOB)).attempt == 2
    await job.release(AttemptId(JOB, MAP_0, 1), FIRST_RUN)
    assert await claim(job, ANN) == ClaimReply(Verdict.HELD)
    held = (await job.claims(JOB))[MAP_0]
    assert [(h.worker, h.attempt) for h in held.running] == [(BOB, 2)]
    assert held.was_given(ANN, FIRST_RUN, 1)
    assert await job.renew(JOB, {MAP_0: 1}, FIRST_RUN, LONG) == [MAP_0]


async def test_of_the_leases_given_back_the_last_few_are_remembered(job: StateStore) -> None:
    for attempt in range(1, RELEASED_KEPT + 3):
        await claim(job, ANN)
        await job.release(AttemptId(JOB, MAP_0, attempt), FIRST_RUN)
    kept = (await job.claims(JOB))[MAP_0].holders
    assert [h.attempt for h in kept] == [3, 4, 5, 6]
    assert all(h.released for h in kept)


async def test_the_outcomes_of_some_tasks_are_read_together(job: StateStore) -> None:
    assert await job.outcomes(JOB, []) == {}
    await claim(job, ANN)
    await claim(job, BOB, REDUCE_0)
    result = samples.map_result()
    await job.commit(AttemptId(JOB, MAP_0, 1), result)
    found = await job.outcomes(JOB, [REDUCE_0, MAP_0, MAP_1])
    assert found[MAP_0] == Outcome(Claim(1, 0, 1), result)
    assert (found[REDUCE_0].claim.attempt, found[REDUCE_0].result) == (1, None)
    assert found[MAP_1] == Outcome()
    assert await job.outcomes(samples.JobId("job-2"), [MAP_0]) == {MAP_0: Outcome()}


async def test_a_lost_output_is_made_again_and_its_attempt_is_fenced(job: StateStore) -> None:
    await claim(job, ANN)
    await job.commit(AttemptId(JOB, MAP_0, 1), samples.map_result())
    await job.reopen(JOB, {MAP_0: FIRST, MAP_1: FIRST}, 1)
    assert (await job.map_outputs(JOB)).unpack(JOB) == []
    assert not await job.commit(AttemptId(JOB, MAP_0, 1), samples.map_result())
    assert (await claim(job, BOB)).attempt == 2
    await job.commit(AttemptId(JOB, MAP_0, 2), samples.map_result(attempt=2, worker=BOB))
    await job.reopen(JOB, {MAP_0: FIRST}, 1)
    assert [output.attempt.number for output in (await job.map_outputs(JOB)).unpack(JOB)] == [2]


def relocated(result: TaskResult) -> TaskResult:
    """The same result, adopted by another worker."""
    assert isinstance(result.output, MapOutput)
    where = {"worker": BOB, "incarnation": SECOND_RUN, "address": "there:1", "path": "/there/x"}
    return msgspec.structs.replace(result, output=msgspec.structs.replace(result.output, **where))


async def test_an_adopted_output_is_recorded_elsewhere_with_its_statistics(job: StateStore) -> None:
    await claim(job, ANN)
    await job.commit(AttemptId(JOB, MAP_0, 1), samples.map_result())
    moved = relocated(samples.map_result())
    assert isinstance(moved.output, MapOutput)
    for _ in range(2):  # an answer may be lost, and the same call made again
        assert list(await job.relocate(JOB, {MAP_0: (FIRST, moved.output)})) == [MAP_0]
    assert await job.get_results(JOB, TaskKind.MAP) == {MAP_0: moved}
    assert await claim(job, BOB) == ClaimReply(Verdict.COMMITTED, 1)


async def test_an_output_that_was_relocated_is_not_lost_with_its_first_holder(job: StateStore) -> None:
    await claim(job, ANN)
    await job.commit(AttemptId(JOB, MAP_0, 1), samples.map_result())
    moved = relocated(samples.map_result())
    assert isinstance(moved.output, MapOutput)
    await job.relocate(JOB, {MAP_0: (FIRST, moved.output)})
    await job.reopen(JOB, {MAP_0: FIRST}, 1)
    assert (await job.map_outputs(JOB)).unpack(JOB) == [moved.output]
    await job.reopen(JOB, {MAP_0: Placement(1, SECOND_RUN)}, 1)
    assert (await job.map_outputs(JOB)).unpack(JOB) == []


async def test_only_an_output_that_is_where_it_was_is_relocated(job: StateStore) -> None:
    moved = relocated(samples.map_result()).output
    assert isinstance(moved, MapOutput)
    assert list(await job.relocate(JOB, {})) == []
    assert list(await job.relocate(JOB, {MAP_0: (FIRST, moved)})) == []
    await claim(job, ANN)
    await job.commit(AttemptId(JOB, MAP_0, 1), samples.map_result())
    for elsewhere in (Placement(1, SECOND_RUN), Placement(2, FIRST_RUN)):
        assert list(await job.relocate(JOB, {MAP_0: (elsewhere, moved)})) == []
    await job.reopen(JOB, {MAP_0: FIRST}, 1)
    assert list(await job.relocate(JOB, {MAP_0: (FIRST, moved)})) == []
    await job.end_job(samples.record(state=JobState.CANCELLED), [], 1, LONG)
    assert list(await job.relocate(JOB, {MAP_0: (FIRST, moved)})) == []


async def test_an_output_is_not_relocated_as_that_of_another_attempt(job: StateStore) -> None:
    await claim(job, ANN)
    await job.commit(AttemptId(JOB, MAP_0, 1), samples.map_result())
    other = relocated(samples.map_result(attempt=2)).output
    assert isinstance(other, MapOutput)
    assert list(await job.relocate(JOB, {MAP_0: (FIRST, other)})) == []


async def test_a_part_of_a_map_only_job_lies_in_no_spool_and_is_never_lost(job: StateStore) -> None:
    await claim(job, ANN)
    part = samples.part_result(MAP_0)
    assert await job.commit(AttemptId(JOB, MAP_0, 1), part)
    await job.reopen(JOB, {MAP_0: FIRST}, 1)
    assert (await job.outcomes(JOB, [MAP_0]))[MAP_0].result == part


async def test_the_tasks_of_an_ended_job_are_gone(job: StateStore) -> None:
    await claim(job, ANN, MAP_0)
    await claim(job, BOB, REDUCE_0)
    await job.end_job(samples.record(state=JobState.CANCELLED), [], 1, LONG)
    assert await claim(job, CID, MAP_1) == ClaimReply(Verdict.GONE)
    assert await claim(job, ANN, MAP_0) == ClaimReply(Verdict.GONE)
    assert await job.renew(JOB, {MAP_0: 1}, FIRST_RUN, LONG) == [MAP_0]
    assert not await job.commit(AttemptId(JOB, MAP_0, 1), samples.map_result())
    await job.release(AttemptId(JOB, MAP_0, 1), FIRST_RUN)
    await job.release_dead(JOB, [(MAP_0, FIRST_RUN)], 1)
    assert await job.claims(JOB) == {}


async def test_an_unknown_task_or_job_is_gone(job: StateStore) -> None:
    assert await claim(job, ANN, TaskId("map-00099")) == ClaimReply(Verdict.GONE)
    other = samples.JobId("job-2")
    assert await job.claim(other, MAP_0, ANN, FIRST_RUN, LONG) == ClaimReply(Verdict.GONE)
    assert await job.renew(other, {MAP_0: 1}, FIRST_RUN, LONG) == [MAP_0]
    assert await job.renew(other, {}, FIRST_RUN, LONG) == []
    assert not await job.commit(AttemptId(other, MAP_0, 1), samples.map_result())
    await job.release(AttemptId(other, MAP_0, 1), FIRST_RUN)
    assert await job.claims(other) == {}


async def test_claims_are_those_that_were_asked_for(job: StateStore) -> None:
    assert await job.claims(JOB) == {}
    await claim(job, BOB, REDUCE_0)
    await claim(job, ANN, MAP_1)
    await job.release(AttemptId(JOB, MAP_1, 1), FIRST_RUN)
    claims = await job.claims(JOB)
    assert list(claims) == [MAP_1, REDUCE_0]
    assert claims[MAP_1].running == ()
    assert claims[MAP_1].was_given(ANN, FIRST_RUN, 1)
    assert (claims[REDUCE_0].attempt, claims[REDUCE_0].holders[0].worker) == (1, BOB)


async def test_what_is_read_by_task_is_in_order_of_the_index(store: StateStore) -> None:
    """As text, map-100000 comes before map-99999: the values of a key would leave the order of the input."""
    tasks = [task_id(TaskKind.MAP, index) for index in (2, 99_998, 100_000, 100_001)]
    splits = [Split(task_index(task), make_splits()[0].ranges) for task in tasks]
    assert await store.create_job(samples.spec(), splits, samples.record(), 1)
    for task in reversed(tasks):
        assert (await claim(store, ANN, task)).attempt == 1
        assert await store.commit(AttemptId(JOB, task, 1), samples.map_result(task))
    await store.save_job(samples.record(), [samples.task(task) for task in reversed(tasks)], 1)
    assert [output.attempt.task for output in (await store.map_outputs(JOB)).unpack(JOB)] == tasks
    assert list(await store.get_results(JOB, TaskKind.MAP)) == tasks
    assert [record.task_id for record in await store.get_tasks(JOB)] == tasks
    assert list(await store.claims(JOB)) == tasks
    (restored,) = await store.restore(1)
    assert list(restored.tasks) == list(restored.results) == list(restored.claims) == tasks


async def test_a_deposed_coordinator_changes_no_claim(job: StateStore) -> None:
    await claim(job, ANN)
    await job.commit(AttemptId(JOB, MAP_0, 1), samples.map_result())
    await job.save_job(samples.record(), [], 2)
    with pytest.raises(Deposed):
        await job.reopen(JOB, {MAP_0: FIRST}, 1)
    with pytest.raises(Deposed):
        await job.speculate(JOB, [MAP_1], 1)
    with pytest.raises(Deposed):
        await job.release_dead(JOB, [(MAP_0, FIRST_RUN)], 1)
    claims = await job.claims(JOB)
    assert list(claims) == [MAP_0]
    assert claims[MAP_0].winner == 1
