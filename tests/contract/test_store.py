"""The contract of the state store: lead, code, jobs, refusals, logs."""

import asyncio

import pytest

from mr.errors import BadMessage, NotFound, StoreUnavailable
from mr.ports.claims import LOGS_FULL
from mr.ports.store import StateStore
from mr.protocol.ids import AttemptId, CodeId, JobId, TaskKind
from mr.protocol.jobs import CodeManifest
from mr.protocol.records import MAX_REFUSALS, JobState, Refusal, TaskState
from tests.contract import samples
from tests.contract.conftest import OpenStore, spoil_record
from tests.contract.samples import ANN, BOB, FIRST_RUN, JOB, MAP_0, MAP_1, REDUCE_0, create, is_later
from tests.support.specs import make_manifest
from tests.support.waiting import eventually

LONG = 60.0
SHORT = 0.05


# --- identity, silence of the coordinator, refusals


async def test_clients_of_one_store_see_one_identity(new_store: OpenStore) -> None:
    one, two = await new_store(), await new_store()
    assert await one.identity() == await two.identity() != ""


async def test_a_coordinator_is_silent_once_its_lease_is_over(new_store: OpenStore) -> None:
    one, two = await new_store(), await new_store()
    assert await two.coordinator_silence() is None
    await one.acquire_lead("one", LONG, 0)
    assert await two.coordinator_silence() == 0
    await one.renew_lead("one", SHORT)
    silence = await eventually(two.coordinator_silence)
    assert silence is not None and SHORT <= silence < LONG
    assert await eventually(lambda: longer(two, silence)), "it grows"
    await two.acquire_lead("two", LONG, 0)
    assert await one.coordinator_silence() == 0
    await two.release_lead("two")
    assert await one.coordinator_silence() is not None, "who steps down is still the last one heard of"


async def longer(store: StateStore, before: float) -> bool:
    return (await store.coordinator_silence() or 0.0) > before


def refusal(job: str, reason: str = "because") -> Refusal:
    return Refusal(job_id=JobId(job), at=1.0, reason=reason, request={"output": "/out"})


async def test_a_refusal_is_remembered_for_a_time(store: StateStore) -> None:
    assert await store.get_refusal(JOB) is None
    await store.put_refusal(refusal(JOB), LONG)
    await store.put_refusal(refusal(JOB, "still"), LONG)
    assert await store.get_refusal(JOB) == refusal(JOB, "still")


async def test_a_refusal_expires(store: StateStore) -> None:
    await store.put_refusal(refusal(JOB), SHORT)

    async def gone() -> bool:
        return await store.get_refusal(JOB) is None

    await eventually(gone)


async def test_of_many_refusals_the_newest_are_remembered(store: StateStore) -> None:
    for number in range(MAX_REFUSALS + 2):
        await store.put_refusal(refusal(f"job-{number:04d}"), LONG)
    kept = [await store.get_refusal(JobId(f"job-{number:04d}")) is not None for number in (0, 1, 2, 1001)]
    assert kept == [False, False, True, True]


# --- who coordinates


async def test_one_leads_and_its_epoch_is_above_all_before(new_store: OpenStore) -> None:
    one, two = await new_store(), await new_store()
    first = await one.acquire_lead("one", LONG, 0)
    assert first == 1
    assert await two.acquire_lead("two", LONG, 0) is None
    assert await one.renew_lead("one", LONG)
    assert not await two.renew_lead("two", LONG)
    await two.release_lead("two")
    assert await one.renew_lead("one", LONG)
    await one.release_lead("one")
    assert not await one.renew_lead("one", LONG)
    assert await two.acquire_lead("two", LONG, 0) == 2


async def test_an_epoch_is_above_the_one_given(store: StateStore) -> None:
    assert await store.acquire_lead("one", LONG, 41) == 42
    assert await store.acquire_lead("one", LONG, 0) == 43


async def test_anybody_may_ask_for_the_last_epoch(new_store: OpenStore) -> None:
    one, two = await new_store(), await new_store()
    assert await two.last_epoch() == 0
    assert await one.acquire_lead("one", LONG, 41) == 42
    await one.release_lead("one")
    assert await two.last_epoch() == 42


async def test_anybody_may_ask_who_leads_and_end_the_lead_of_the_dead(new_store: OpenStore) -> None:
    one, two = await new_store(), await new_store()
    assert await two.leader() is None
    await one.acquire_lead("one", LONG, 0)
    assert await two.leader() == "one"
    await two.release_lead("one")
    assert await two.leader() is None
    assert await two.acquire_lead("two", SHORT, 0) == 2
    await two.release_lead("one")
    await eventually(lambda: nobody_leads(two))


async def nobody_leads(store: StateStore) -> bool:
    return await store.leader() is None


async def test_a_lead_that_ran_out_is_taken_over(store: StateStore) -> None:
    await store.acquire_lead("one", SHORT, 0)
    assert await eventually(lambda: store.acquire_lead("two", LONG, 0)) == 2
    assert not await store.renew_lead("one", LONG)


async def test_of_many_at_once_one_leads(new_store: OpenStore) -> None:
    stores = [await new_store() for _ in range(4)]
    epochs = await asyncio.gather(*(s.acquire_lead(f"c{i}", LONG, 0) for i, s in enumerate(stores)))
    assert sorted(epoch or 0 for epoch in epochs) == [0, 0, 0, 1]


# --- code


async def test_code_is_kept_by_content_and_by_name(new_store: OpenStore) -> None:
    one, two = await new_store(), await new_store()
    code = CodeId(samples.MANIFEST.code_id)
    assert await two.get_code(code) is None
    assert await two.registered("count") is None
    bundle = bytes(range(256)) * 500
    with pytest.raises(NotFound, match="count"):
        await one.register("count", samples.MANIFEST, LONG)
    await one.put_code(code, bundle, samples.MANIFEST, LONG)
    await one.put_code(code, bundle, samples.MANIFEST, LONG)
    await one.register("count", samples.MANIFEST, LONG)
    assert await two.get_code(code) == bundle
    assert await two.registered("count") == samples.MANIFEST
    assert await two.registered(code) == samples.MANIFEST


def other_code(digit: str) -> CodeManifest:
    return make_manifest("sha256:" + digit * 64, ("map_fn",))


async def put(store: StateStore, manifest: CodeManifest, keep_seconds: float) -> CodeId:
    code = CodeId(manifest.code_id)
    await store.put_code(code, b"bundle", manifest, keep_seconds)
    return code


async def expired(store: StateStore, code: CodeId) -> bool:
    if await store.get_code(code) is not None:
        return False
    assert await store.registered(code) is None
    return True


async def test_code_without_a_name_expires_with_its_manifest(store: StateStore) -> None:
    stored = await put(store, other_code("1"), LONG)
    await put(store, other_code("1"), SHORT)
    used = await put(store, other_code("2"), 1.0)
    assert await store.keep_code(used, LONG)
    assert await store.keep_code(used, SHORT)
    left = await put(store, other_code("3"), 1.0)
    await eventually(lambda: expired(store, left))
    assert not await store.keep_code(left, LONG)
    assert not await expired(store, stored)
    assert not await expired(store, used)


async def test_a_name_keeps_its_code_until_it_is_given_to_another(store: StateStore) -> None:
    first, second = other_code("1"), other_code("2")
    code = await put(store, first, 1.0)
    await store.register("count", first, LONG)
    await store.register("total", first, LONG)
    await put(store, first, SHORT)
    await store.keep_code(code, SHORT)
    await put(store, second, LONG)
    await store.register("count", second, SHORT)
    await store.register("count", second, SHORT)
    assert await store.registered("count") == second
    assert await store.registered("total") == first
    left = await put(store, other_code("3"), 1.0)
    await eventually(lambda: expired(store, left))
    assert not await expired(store, code)
    await store.register("total", second, SHORT)
    await eventually(lambda: expired(store, code))
    assert not await expired(store, CodeId(second.code_id))


# --- jobs


async def test_a_created_job_reads_back(new_store: OpenStore) -> None:
    one, two = await new_store(), await new_store()
    assert await two.get_job(JOB) is None
    assert await two.get_spec(JOB) is None
    assert await create(one)
    assert await two.get_job(JOB) == samples.record()
    assert await two.get_spec(JOB) == samples.spec()
    assert await two.get_tasks(JOB) == []
    assert await two.get_results(JOB, TaskKind.MAP) == {}


async def test_an_id_is_one_job(store: StateStore) -> None:
    assert await create(store)
    await store.claim(JOB, MAP_0, ANN, FIRST_RUN, LONG)
    assert not await create(store, name="another")
    assert (await store.get_spec(JOB)) == samples.spec()
    assert list(await store.claims(JOB)) == [MAP_0]
    await store.end_job(samples.record(state=JobState.COMPLETED), [], 1, LONG)
    assert not await create(store)


async def test_of_many_creations_at_once_one_succeeds(new_store: OpenStore) -> None:
    stores = [await new_store() for _ in range(4)]
    assert sorted(await asyncio.gather(*(create(store) for store in stores))) == [False, False, False, True]


async def test_tasks_are_saved_as_they_change(store: StateStore) -> None:
    await create(store)
    mapping = samples.record(state=JobState.MAPPING)
    first, second = samples.task(MAP_0), samples.task(MAP_1, worker=BOB)
    reduce = samples.task(REDUCE_0, TaskState.WAITING)
    await store.save_job(mapping, [reduce, second, first], 1)
    running = samples.task(MAP_0, TaskState.RUNNING, attempt=1)
    await store.save_job(mapping, [running], 1)
    assert await store.get_job(JOB) == mapping
    assert await store.get_tasks(JOB) == [running, second, reduce]


async def test_jobs_are_listed_newest_first(store: StateStore) -> None:
    assert await store.list_jobs() == []
    for number in (2, 3, 1):
        await create(store, f"job-{number}", submitted_at=1000.0 + number)
    assert [job.job_id for job in await store.list_jobs()] == ["job-3", "job-2", "job-1"]


async def test_a_record_that_cannot_be_read_hides_no_other(
    store: StateStore, caplog: pytest.LogCaptureFixture
) -> None:
    for number in (1, 2, 3):
        await create(store, f"job-{number}", submitted_at=1000.0 + number)
    await spoil_record(store, JobId("job-2"))
    for _ in range(2):
        assert [job.job_id for job in await store.list_jobs()] == ["job-3", "job-1"]
    assert caplog.text.count("job job-2 is left out: a stored JobRecord cannot be read") == 1
    one, two, three = await store.restore(2)
    assert [one.spec.job_id, three.spec.job_id] == ["job-1", "job-3"]
    assert (two.job_id, two.record) == ("job-2", None) and "JobRecord cannot be read" in two.reason
    with pytest.raises(BadMessage):
        await store.get_job(JobId("job-2"))


async def test_results_are_kept_by_kind_in_order_of_task(store: StateStore) -> None:
    await create(store)
    for task in (REDUCE_0, MAP_1, MAP_0):
        await store.claim(JOB, task, ANN, FIRST_RUN, LONG)
    await store.commit(AttemptId(JOB, MAP_1, 1), samples.map_result(MAP_1))
    await store.commit(AttemptId(JOB, MAP_0, 1), samples.map_result(MAP_0))
    await store.commit(AttemptId(JOB, REDUCE_0, 1), samples.part_result())
    maps = {MAP_0: samples.map_result(MAP_0), MAP_1: samples.map_result(MAP_1)}
    assert list((await store.get_results(JOB, TaskKind.MAP)).items()) == list(maps.items())
    assert await store.get_results(JOB, TaskKind.REDUCE) == {REDUCE_0: samples.part_result()}
    assert (await store.map_outputs(JOB)).unpack(JOB) == [result.output for result in maps.values()]


async def test_the_end_of_a_job_leaves_its_record_tasks_and_parts(store: StateStore) -> None:
    await create(store)
    for task, result in ((MAP_0, samples.map_result()), (REDUCE_0, samples.part_result())):
        await store.claim(JOB, task, ANN, FIRST_RUN, LONG)
        await store.commit(AttemptId(JOB, task, 1), result)
    await store.put_log(AttemptId(JOB, MAP_0, 1), "printed", 1000)
    done, committed = samples.record(state=JobState.COMPLETED), samples.task(MAP_0, TaskState.COMMITTED)
    await store.end_job(done, [committed], 1, LONG)
    assert await store.get_job(JOB) == done
    assert await store.list_jobs() == [done]
    assert await store.get_tasks(JOB) == [committed]
    assert await store.get_results(JOB, TaskKind.REDUCE) == {REDUCE_0: samples.part_result()}
    assert await store.get_logs(JOB) == {f"{MAP_0}/1": "printed"}
    assert await store.get_results(JOB, TaskKind.MAP) == {}
    assert await store.get_spec(JOB) is None
    assert await store.restore(2) == []


async def test_the_parts_of_a_map_only_job_outlive_it(store: StateStore) -> None:
    await create(store, reduces=0)
    await store.claim(JOB, MAP_0, ANN, FIRST_RUN, LONG)
    await store.commit(AttemptId(JOB, MAP_0, 1), samples.part_result(MAP_0))
    await store.end_job(samples.record(state=JobState.COMPLETED, reduces=0), [], 1, LONG)
    assert await store.get_results(JOB, TaskKind.MAP) == {MAP_0: samples.part_result(MAP_0)}


async def test_a_result_of_a_task_that_a_map_only_job_lacks_does_not_outlive_it(store: StateStore) -> None:
    """Whoever forges a message about such a task leaves nothing in the store for good."""
    await create(store, reduces=0)
    await store.claim(JOB, REDUCE_0, ANN, FIRST_RUN, LONG)
    await store.commit(AttemptId(JOB, REDUCE_0, 1), samples.part_result())
    await store.end_job(samples.record(state=JobState.COMPLETED, reduces=0), [], 1, LONG)
    assert await store.get_results(JOB, TaskKind.REDUCE) == {}


async def test_an_ended_job_is_forgotten_in_time(store: StateStore) -> None:
    await create(store)
    await store.claim(JOB, REDUCE_0, ANN, FIRST_RUN, LONG)
    await store.commit(AttemptId(JOB, REDUCE_0, 1), samples.part_result())
    await store.put_log(AttemptId(JOB, MAP_0, 1), "printed", 1000)
    await store.end_job(samples.record(state=JobState.FAILED), [samples.task(MAP_0)], 1, SHORT)
    await store.put_log(AttemptId(JOB, MAP_1, 1), "late", 1000)

    async def forgotten() -> bool:
        return await store.get_job(JOB) is None

    await eventually(forgotten)
    assert await store.list_jobs() == []
    assert await store.get_tasks(JOB) == []
    assert await store.get_results(JOB, TaskKind.REDUCE) == {}
    assert await store.get_logs(JOB) == {}
    assert await create(store)


async def test_logs_are_kept_by_attempt(store: StateStore) -> None:
    await store.put_log(AttemptId(JOB, MAP_0, 1), "of a job nobody knows", 1000)
    assert await store.get_logs(JOB) == {}
    await create(store)
    await store.put_log(AttemptId(JOB, MAP_1, 2), "two", 1000)
    await store.put_log(AttemptId(JOB, MAP_0, 1), "naïve\n\x00", 1000)
    await store.put_log(AttemptId(JOB, MAP_1, 2), "two again", 1000)
    logs = await store.get_logs(JOB)
    assert list(logs.items()) == [(f"{MAP_0}/1", "naïve\n\x00"), (f"{MAP_1}/2", "two again")]


async def test_the_logs_of_a_job_are_bounded(store: StateStore) -> None:
    await create(store)
    await store.put_log(AttemptId(JOB, MAP_0, 1), "x" * 60, 100)
    await store.put_log(AttemptId(JOB, MAP_0, 1), "é" * 45, 100)
    await store.put_log(AttemptId(JOB, MAP_0, 2), "x" * 10, 100)
    await store.put_log(AttemptId(JOB, MAP_1, 1), "y", 100)
    await store.put_log(AttemptId(JOB, MAP_1, 2), "z", 100)
    await store.put_log(AttemptId(JOB, MAP_0, 1), "again", 100)
    assert await store.get_logs(JOB) == {
        f"{MAP_0}/1": "é" * 45,
        f"{MAP_0}/2": "x" * 10,
        f"{MAP_1}/1": LOGS_FULL,
    }


# --- the connection


async def test_a_closed_store_is_unavailable(store: StateStore) -> None:
    await store.close()
    with pytest.raises(StoreUnavailable):
        await store.get_job(JobId("any"))
    with pytest.raises(StoreUnavailable):
        await store.heartbeat(samples.beat(), LONG)


async def test_warnings_are_text(store: StateStore) -> None:
    assert all(isinstance(warning, str) for warning in await store.warnings())


async def test_the_clock_of_the_store_advances(store: StateStore) -> None:
    before = await store.server_time()
    assert before > 1.7e9
    await eventually(lambda: is_later(store, before))
