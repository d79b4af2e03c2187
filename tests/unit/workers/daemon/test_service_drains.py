"""How a worker over the memory adapters leaves: drained, told to, or stopped at once."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from mr.client import Client
from mr.protocol.ids import Incarnation, JobId, TaskId, WorkerId
from mr.protocol.messages import DrainWorker, EndJob, TaskCommitted, WorkerStopped
from mr.protocol.records import JobState, MapOutput
from mr.workers.daemon.heartbeat import Heartbeat
from tests.support.job_records import job_record
from tests.support.waiting import appear, eventually, gone
from tests.support.worker import SETTINGS, WORKER, Bench, bench, submit, worker_settings

JOB, MAP = JobId("job-1"), TaskId("map-00000")


async def test_a_worker_that_drains_finishes_what_runs_and_takes_no_more(tmp_path: Path) -> None:
    async with bench(tmp_path, slots=1) as worker:
        await submit(worker, "wait_for_go")
        await worker.publish("job-1", "map-00000")
        await appear(tmp_path / "map-00000.1")
        worker.stop.set()
        assert (await worker.beat_when(lambda beat: beat.open_slots == 0)).limited_by == "draining"
        await worker.publish("job-1", "map-00001")
        (tmp_path / "go").touch()
        await worker.ended
        committed, stopped = [await worker.reports.get() for _ in range(2)]
        assert isinstance(committed, TaskCommitted)
        assert isinstance(stopped, WorkerStopped)
        assert await worker.store.workers() == []
        assert (await worker.broker.depth("mr.tasks")).ready == 1
        assert [path.name for path in worker.spool.iterdir()] == [".lock"]


async def reduce_elsewhere(worker: Bench) -> None:
    """Have another worker live, and the job stand before its reduces."""
    other = msgspec.structs.replace(await worker.beat(), worker=WorkerId("w2"), incarnation=Incarnation("i2"))
    await worker.store.heartbeat(other, 3600.0)
    await worker.store.save_job(job_record(JOB, state=JobState.REDUCING), [], 1)


async def map_and_wait(worker: Bench) -> MapOutput:
    """Run one map; returns its output once it is committed."""
    await submit(worker, maps=1)
    await worker.publish("job-1", "map-00000")
    await worker.reports.get()
    await worker.settled()
    (output,) = (await worker.store.map_outputs(JOB)).unpack(JOB)
    return output


@pytest.mark.parametrize("end", ["reduced", "ended", "told"])
async def test_a_draining_worker_serves_its_outputs_until_no_reduce_needs_them(
    tmp_path: Path, end: str
) -> None:
    async with bench(tmp_path, listen="127.0.0.1:0") as worker:
        output = await map_and_wait(worker)
        await reduce_elsewhere(worker)
        worker.stop.set()
        await eventually(
            lambda: worker.store.server.workers[WORKER].beat.limited_by.startswith("draining: serves")
        )
        assert worker.store.server.workers[WORKER].beat.draining
        assert not worker.ended.done()
        if end == "reduced":
            record = job_record(JOB, state=JobState.REDUCING, reduces_committed=2)
            await worker.store.save_job(record, [], 1)
        else:
            await worker.end_job("job-1")
        if end == "told":
            await worker.tell(EndJob(JOB))
        await worker.ended
        assert await worker.reports.get() == WorkerStopped(WORKER, output.incarnation)
        assert [path.name for path in worker.spool.iterdir()] == [".lock"]


@pytest.mark.parametrize("why", ["second signal", "no time left", "nobody else", "others drain"])
async def test_a_worker_that_leaves_with_outputs_still_needed_is_followed_by_one_that_serves_them(
    tmp_path: Path, why: str
) -> None:
    settings = worker_settings(drain_seconds=0.3 if why == "no time left" else 600.0)
    first = Bench(tmp_path)
    await first.open(settings, 1, "127.0.0.1:0")
    before = await map_and_wait(first)
    await reduce_elsewhere(first)
    if why == "nobody else":
        del first.store.server.workers[WorkerId("w2")]
    if why == "others drain":
        entry = first.store.server.workers[WorkerId("w2")]
        entry.beat = msgspec.structs.replace(entry.beat, draining=True)
    first.stop.set()
    if why == "second signal":
        first.kill.set()
    await first.ended
    assert await first.reports.get() == WorkerStopped(WORKER, before.incarnation, leaves_outputs=True)
    assert first.files() == ["job-1/outputs/map-00000-1.index", "job-1/outputs/map-00000-1.segments"]
    second = Bench(tmp_path)
    second.store.server = first.store.server
    await second.open(settings, 1, "127.0.0.1:0")
    (after,) = (await first.store.map_outputs(JOB)).unpack(JOB)
    beat = second.store.server.workers[WORKER].beat
    assert (after.incarnation, after.address) == (beat.incarnation, beat.address)
    assert Path(after.path).read_bytes() == b"onetwo"  # noqa: ASYNC240 - one small file
    await second.end_job("job-1")
    await eventually(lambda: not second.files())
    await second.close()
    await first.close()


async def test_no_heartbeat_follows_the_farewell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would show a worker that has left as alive for a whole lease."""
    beating: list[bool] = []
    async with bench(tmp_path) as worker:
        forget = worker.store.forget_worker

        async def forget_worker(worker_id: WorkerId, incarnation: Incarnation) -> None:
            await forget(worker_id, incarnation)
            names = [getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks()]
            beating.extend(name.startswith(f"{Heartbeat.__name__}.") for name in names)

        monkeypatch.setattr(worker.store, "forget_worker", forget_worker)
        worker.stop.set()
        await worker.ended
    assert beating and not any(beating)


async def test_a_worker_told_to_drain_drains(tmp_path: Path) -> None:
    async with bench(tmp_path) as worker:
        await Client(worker.broker, worker.store, SETTINGS).drain(await worker.beat())
        await worker.ended
        assert isinstance(await worker.reports.get(), WorkerStopped)


async def test_what_one_incarnation_was_told_does_not_drain_the_next(tmp_path: Path) -> None:
    async with bench(tmp_path) as first:
        await Client(first.broker, first.store, SETTINGS).drain(await first.beat())
        await first.ended
    second = Bench(tmp_path)
    second.store.server = first.store.server
    await second.open(SETTINGS, 1, None)
    await second.tell(DrainWorker(WORKER))
    await eventually(lambda: not any(consumer._unsettled for consumer in second.broker._consumers))
    await submit(second)
    await second.publish("job-1", "map-00000")
    assert not (await second.beat_when(lambda beat: beat.committed == 1)).draining
    await second.close()


async def test_a_worker_that_is_stopped_at_once_hands_its_tasks_back(tmp_path: Path) -> None:
    async with bench(tmp_path) as worker:
        await submit(worker, "hang")
        await worker.publish("job-1", "map-00000")
        child = int(await appear(tmp_path / "map-00000.1"))
        worker.stop.set()
        worker.kill.set()
        await worker.ended
        await gone(child)
        assert worker.effects == ["release map-00000 1", "report"]
        assert isinstance(await worker.reports.get(), WorkerStopped)
        assert (await worker.broker.depth("mr.tasks")).ready == 1


async def test_what_still_runs_after_the_drain_is_handed_back(tmp_path: Path) -> None:
    settings = worker_settings(drain_seconds=0.1)
    async with bench(tmp_path, settings) as worker:
        await submit(worker, "hang")
        await worker.publish("job-1", "map-00000")
        await appear(tmp_path / "map-00000.1")
        worker.stop.set()
        await worker.ended
        assert worker.effects == ["release map-00000 1", "report"]
        assert (await worker.broker.depth("mr.tasks")).ready == 1
