"""The contract of the state store, claims apart: lead, code, jobs, logs, workers."""

import asyncio

import msgspec
import pytest

from mr.errors import BadMessage, Deposed, NotFound, StoreBehind, StoreUnavailable
from mr.ports import LOGS_FULL, RestoredJob, StateStore
from mr.protocol.claims import Placement, Verdict
from mr.protocol.ids import CodeId, Incarnation, JobId, TaskId, TaskKind
from mr.protocol.records import MAX_REFUSALS, JobState, Pause, Refusal, TaskState
from tests.contract import samples
from tests.contract.conftest import OpenStore, go_back, set_clock_back, snapshot, spoil_record
from tests.contract.samples import ANN, BOB, FIRST_LIFE, JOB, MAP_0, MAP_1, REDUCE_0, SECOND_LIFE
from tests.support.waiting import eventually

LONG = 60.0
SHORT = 0.05


async def create(store: StateStore, job: str = JOB, epoch: int = 1, **changes: object) -> bool:
    spec = samples.spec(job, **changes)
    return await store.create_job(spec, samples.splits(), samples.record(job), epoch)


# --- what is left for onlookers


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


async def test_an_epoch_is_above_the_floor(store: StateStore) -> None:
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


def other_code(digit: str) -> samples.CodeManifest:
    return samples.CodeManifest("sha256:" + digit * 64, "x.py", ("map_fn",), "", "", samples.JobOptions())


async def put(store: StateStore, manifest: samples.CodeManifest, keep_seconds: float) -> CodeId:
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
    await store.claim(JOB, MAP_0, ANN, FIRST_LIFE, LONG)
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
    assert [job.spec.job_id for job in await store.restore(2)] == ["job-1", "job-3"]
    assert "unfinished job job-2 is left out" in caplog.text
    with pytest.raises(BadMessage):
        await store.get_job(JobId("job-2"))


async def test_results_are_kept_by_kind_in_order_of_task(store: StateStore) -> None:
    await create(store)
    for task in (REDUCE_0, MAP_1, MAP_0):
        await store.claim(JOB, task, ANN, FIRST_LIFE, LONG)
    await store.commit(JOB, MAP_1, 1, samples.map_result(MAP_1))
    await store.commit(JOB, MAP_0, 1, samples.map_result(MAP_0))
    await store.commit(JOB, REDUCE_0, 1, samples.part_result())
    maps = {MAP_0: samples.map_result(MAP_0), MAP_1: samples.map_result(MAP_1)}
    assert list((await store.get_results(JOB, TaskKind.MAP)).items()) == list(maps.items())
    assert await store.get_results(JOB, TaskKind.REDUCE) == {REDUCE_0: samples.part_result()}
    assert (await store.map_outputs(JOB)).unpack() == [result.output for result in maps.values()]


async def test_the_end_of_a_job_leaves_its_record_tasks_and_parts(store: StateStore) -> None:
    await create(store)
    for task, result in ((MAP_0, samples.map_result()), (REDUCE_0, samples.part_result())):
        await store.claim(JOB, task, ANN, FIRST_LIFE, LONG)
        await store.commit(JOB, task, 1, result)
    await store.put_log(JOB, MAP_0, 1, "printed", 1000)
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
    await store.claim(JOB, MAP_0, ANN, FIRST_LIFE, LONG)
    await store.commit(JOB, MAP_0, 1, samples.part_result(MAP_0))
    await store.end_job(samples.record(state=JobState.COMPLETED, reduces=0), [], 1, LONG)
    assert await store.get_results(JOB, TaskKind.MAP) == {MAP_0: samples.part_result(MAP_0)}


async def test_an_ended_job_is_forgotten_in_time(store: StateStore) -> None:
    await create(store)
    await store.claim(JOB, REDUCE_0, ANN, FIRST_LIFE, LONG)
    await store.commit(JOB, REDUCE_0, 1, samples.part_result())
    await store.put_log(JOB, MAP_0, 1, "printed", 1000)
    await store.end_job(samples.record(state=JobState.FAILED), [samples.task(MAP_0)], 1, SHORT)
    await store.put_log(JOB, MAP_1, 1, "late", 1000)

    async def forgotten() -> bool:
        return await store.get_job(JOB) is None

    await eventually(forgotten)
    assert await store.list_jobs() == []
    assert await store.get_tasks(JOB) == []
    assert await store.get_results(JOB, TaskKind.REDUCE) == {}
    assert await store.get_logs(JOB) == {}
    assert await create(store)


async def test_logs_are_kept_by_attempt(store: StateStore) -> None:
    await store.put_log(JOB, MAP_0, 1, "of a job nobody knows", 1000)
    assert await store.get_logs(JOB) == {}
    await create(store)
    await store.put_log(JOB, MAP_1, 2, "two", 1000)
    await store.put_log(JOB, MAP_0, 1, "naïve\n\x00", 1000)
    await store.put_log(JOB, MAP_1, 2, "two again", 1000)
    logs = await store.get_logs(JOB)
    assert list(logs.items()) == [(f"{MAP_0}/1", "naïve\n\x00"), (f"{MAP_1}/2", "two again")]


async def test_the_logs_of_a_job_are_bounded(store: StateStore) -> None:
    await create(store)
    await store.put_log(JOB, MAP_0, 1, "x" * 60, 100)
    await store.put_log(JOB, MAP_0, 1, "é" * 45, 100)
    await store.put_log(JOB, MAP_0, 2, "x" * 10, 100)
    await store.put_log(JOB, MAP_1, 1, "y", 100)
    await store.put_log(JOB, MAP_1, 2, "z", 100)
    await store.put_log(JOB, MAP_0, 1, "again", 100)
    assert await store.get_logs(JOB) == {
        f"{MAP_0}/1": "é" * 45,
        f"{MAP_0}/2": "x" * 10,
        f"{MAP_1}/1": LOGS_FULL,
    }


# --- coordinators that follow each other


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


async def test_restore_tells_everything_of_unfinished_jobs(store: StateStore) -> None:
    await create(store, "ended", submitted_at=999.0)
    await store.end_job(samples.record("ended", JobState.FAILED), [], 1, LONG)
    await create(store, "younger", submitted_at=2000.0)
    await create(store)
    tasks = {task: samples.task(task) for task in (MAP_0, MAP_1, REDUCE_0)}
    await store.save_job(samples.record(state=JobState.MAPPING), tasks.values(), 1)
    for task in (MAP_0, MAP_1):
        await store.claim(JOB, task, ANN, FIRST_LIFE, LONG)
    await store.commit(JOB, MAP_0, 1, samples.map_result())
    older, younger = await store.restore(2)
    assert older == RestoredJob(
        record=samples.record(state=JobState.MAPPING),
        spec=samples.spec(),
        splits=samples.splits(),
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
        await store.claim(JOB, task, ANN, FIRST_LIFE, LONG)
    await store.commit(JOB, MAP_0, 1, samples.map_result())
    await store.commit(JOB, REDUCE_0, 1, samples.part_result())
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
    assert (await store.claim(JOB, MAP_0, BOB, FIRST_LIFE, LONG)).verdict is Verdict.COMMITTED
    assert (await store.claim(JOB, MAP_1, BOB, FIRST_LIFE, LONG)).verdict is Verdict.HELD
    assert await store.renew(JOB, {MAP_1: 1}, FIRST_LIFE, LONG) == []


async def test_what_a_job_that_is_still_there_knows_beyond_stays(store: StateStore) -> None:
    await create(store)
    (known,) = await store.restore(1)
    await store.claim(JOB, MAP_0, ANN, FIRST_LIFE, LONG)
    await store.rewrite(known, 2, LONG)
    assert list(await store.claims(JOB)) == [MAP_0]
    with pytest.raises(Deposed):
        await store.rewrite(known, 1, LONG)


# --- a store that came back older


async def test_writes_that_are_there_were_not_forgotten(new_store: OpenStore) -> None:
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
    await store.claim(JOB, MAP_0, ANN, FIRST_LIFE, LONG)
    older = await snapshot(store)
    await store.commit(JOB, MAP_0, 1, samples.map_result())
    mapping = samples.record(state=JobState.MAPPING)
    await store.save_job(mapping, [samples.task(MAP_0, TaskState.COMMITTED, attempt=1)], 1)
    (known,) = await store.restore(1)
    await go_back(store, older)
    assert await store.forgotten([JOB]) == [JOB]
    for write in (
        store.save_job(mapping, [], 1),
        store.reopen(JOB, {MAP_0: Placement(1, FIRST_LIFE)}, 1),
        store.speculate(JOB, [MAP_1], 1),
        store.claims(JOB),
    ):
        with pytest.raises(StoreBehind):
            await write
    assert await store.get_job(JOB) == samples.record()
    await store.rewrite(known, 1, LONG)
    assert await store.forgotten([JOB]) == []
    assert (await store.map_outputs(JOB)).unpack() == [samples.map_result().output]
    assert await store.get_tasks(JOB) == list(known.tasks.values())
    await store.save_job(mapping, [], 1)


async def test_a_job_that_a_store_forgot_is_written_back_and_runs(store: StateStore) -> None:
    older = await snapshot(store)
    await create(store)
    await store.claim(JOB, MAP_0, ANN, FIRST_LIFE, LONG)
    (known,) = await store.restore(1)
    await go_back(store, older)
    assert await store.get_spec(JOB) is None
    assert await store.forgotten([JOB]) == [JOB]
    await store.rewrite(known, 1, LONG)
    assert await store.renew(JOB, {MAP_0: 1}, FIRST_LIFE, LONG) == []
    assert (await store.claim(JOB, MAP_1, BOB, FIRST_LIFE, LONG)).verdict is Verdict.GRANTED


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


async def test_whoever_takes_over_knows_what_is_there_alone(new_store: OpenStore) -> None:
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
    await store.claim(JOB, MAP_0, ANN, FIRST_LIFE, LONG)
    await go_back(store, older)
    assert (await store.claim(JOB, MAP_0, BOB, FIRST_LIFE, LONG)).attempt == 1
    assert await store.commit(JOB, MAP_0, 1, samples.map_result(worker=ANN))
    assert not await store.commit(JOB, MAP_0, 1, samples.map_result(worker=BOB))
    assert (await store.map_outputs(JOB)).unpack() == [samples.map_result(worker=ANN).output]


# --- clocks set back


async def test_a_lead_that_seems_to_last_for_ever_ends_with_a_lease(store: StateStore) -> None:
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
    splits = samples.splits(count)
    await store.create_job(samples.spec(maps=count), splits, samples.record(maps=count), 1)
    tasks = [samples.task(TaskId(f"map-{index:05d}")) for index in range(count)]
    await store.save_job(samples.record(maps=count), tasks, 1)
    (restored,) = await store.restore(2)
    assert restored.splits == splits
    await store.end_job(samples.record(state=JobState.FAILED, maps=count), tasks, 2, LONG)
    assert await store.get_tasks(JOB) == tasks


# --- workers


async def test_workers_live_as_long_as_they_say(store: StateStore) -> None:
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


async def test_a_worker_that_left_is_forgotten_but_not_its_next_life(store: StateStore) -> None:
    await store.heartbeat(samples.beat(ANN, FIRST_LIFE), LONG)
    await store.heartbeat(samples.beat(ANN, SECOND_LIFE), LONG, replaces=samples.beat(ANN, FIRST_LIFE))
    await store.forget_worker(ANN, FIRST_LIFE)
    assert await lives(store) == [SECOND_LIFE]
    await store.forget_worker(ANN, SECOND_LIFE)
    await store.forget_worker(BOB, FIRST_LIFE)
    assert await store.workers() == []


async def lives(store: StateStore) -> list[Incarnation]:
    return [view.beat.incarnation for view in await store.workers()]


async def test_an_id_belongs_to_one_life_until_it_leaves(store: StateStore) -> None:
    elder, younger = samples.beat(ANN, FIRST_LIFE, number=1), samples.beat(ANN, SECOND_LIFE)
    assert await store.heartbeat(elder, LONG) is None
    owner = await store.heartbeat(younger, LONG)
    assert owner is not None and (owner.beat, owner.live) == (elder, True)
    assert 0 <= owner.age_seconds < LONG
    assert await lives(store) == [FIRST_LIFE]
    await store.forget_worker(ANN, SECOND_LIFE)
    assert await lives(store) == [FIRST_LIFE]
    await store.forget_worker(ANN, FIRST_LIFE)
    assert await store.heartbeat(younger, LONG) is None
    assert await lives(store) == [SECOND_LIFE]


async def test_an_id_is_free_when_the_lease_of_its_life_has_run_out(store: StateStore) -> None:
    await store.heartbeat(samples.beat(ANN, FIRST_LIFE), SHORT)

    async def taken() -> bool:
        return await store.heartbeat(samples.beat(ANN, SECOND_LIFE), LONG) is None

    await eventually(taken)
    assert await store.heartbeat(samples.beat(ANN, FIRST_LIFE), LONG) is not None
    assert await lives(store) == [SECOND_LIFE]


async def test_a_life_is_replaced_only_if_it_has_not_beaten_since(store: StateStore) -> None:
    first, second = (samples.beat(ANN, FIRST_LIFE, number=number) for number in (1, 2))
    younger = samples.beat(ANN, SECOND_LIFE, number=1)
    await store.heartbeat(first, LONG)
    await store.heartbeat(second, LONG)
    owner = await store.heartbeat(younger, LONG, replaces=first)
    assert owner is not None and owner.beat == second
    assert await store.heartbeat(younger, LONG, replaces=second) is None
    assert await store.heartbeat(younger, LONG, replaces=second) is None, "a call may be sent twice"
    assert await lives(store) == [SECOND_LIFE]


async def test_a_life_that_was_replaced_takes_its_id_back_by_beating(store: StateStore) -> None:
    first, second = (samples.beat(ANN, FIRST_LIFE, number=number) for number in (1, 2))
    younger = samples.beat(ANN, SECOND_LIFE, number=1)
    await store.heartbeat(first, LONG)
    await store.heartbeat(younger, LONG, replaces=first)
    await store.heartbeat(younger, LONG)
    assert await store.heartbeat(second, LONG) is None
    owner = await store.heartbeat(younger, LONG)
    assert owner is not None and owner.beat == second
    assert await lives(store) == [FIRST_LIFE]


async def test_a_life_that_was_replaced_and_silent_for_its_lease_is_refused(store: StateStore) -> None:
    first, younger = samples.beat(ANN, FIRST_LIFE), samples.beat(ANN, SECOND_LIFE)
    await store.heartbeat(first, 0.5)
    assert await store.heartbeat(younger, LONG, replaces=first) is None
    replaced_at = await store.server_time()
    await eventually(lambda: _is_later(store, replaced_at + 0.5))
    assert await store.heartbeat(first, LONG) is not None
    assert await lives(store) == [SECOND_LIFE]


# --- the connection


async def test_a_closed_store_is_unavailable(store: StateStore) -> None:
    await store.close()
    with pytest.raises(StoreUnavailable):
        await store.get_job(JobId("any"))
    with pytest.raises(StoreUnavailable):
        await store.heartbeat(samples.beat(), LONG)


async def test_warnings_are_text(store: StateStore) -> None:
    assert all(isinstance(warning, str) for warning in await store.warnings())


async def test_the_clock_of_the_store_goes(store: StateStore) -> None:
    before = await store.server_time()
    assert before > 1.7e9
    await eventually(lambda: _is_later(store, before))


async def _is_later(store: StateStore, before: float) -> bool:
    return await store.server_time() > before


# --- what workers are asked


async def test_a_pause_lasts_as_long_as_it_says(store: StateStore) -> None:
    assert await store.worker_pause(ANN) is None
    await store.pause_worker(ANN, Pause(60.0, "why \ud800 not"))
    pause = await store.worker_pause(ANN)
    assert pause is not None and 50.0 < pause.seconds <= 60.0 and pause.reason.startswith("why ")
    assert await store.worker_pause(BOB) is None
    await store.pause_worker(ANN, Pause(0.01, "why"))

    async def over() -> bool:
        return await store.worker_pause(ANN) is None

    await eventually(over)


async def test_a_drain_is_asked_of_one_life_of_a_worker(store: StateStore) -> None:
    assert not await store.is_to_drain(ANN, FIRST_LIFE)
    await store.drain_worker(ANN, FIRST_LIFE)
    assert await store.is_to_drain(ANN, FIRST_LIFE)
    assert not await store.is_to_drain(ANN, SECOND_LIFE)
    assert not await store.is_to_drain(BOB, FIRST_LIFE)
