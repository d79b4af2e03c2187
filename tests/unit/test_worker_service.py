"""The worker daemon over the memory adapters: its start, its heartbeats, and each way it ends."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mr.errors import StoreUnavailable
from mr.protocol.ids import Incarnation, JobId, TaskId, WorkerId
from mr.protocol.messages import DrainWorker, EndJob, PauseWorker, StopAttempt, TaskCommitted, WorkerStopped
from mr.protocol.records import JobState, MapOutput, Pause, WorkerBeat, WorkerView
from mr.settings import MIB
from tests.support.orders import make_spec
from tests.support.processes import appear, gone, until
from tests.support.worker import SETTINGS, WORKER, Bench, bench, make_record, worker_settings
from workers import heartbeat
from workers.shuffle.hosts import host_identity
from workers.shuffle.server import ListenFailed
from workers.spool import DiskUsage, Spool, SpoolUnusable

JOB, MAP = JobId("job-1"), TaskId("map-00000")


async def submit(worker: Bench, do: str = "nothing", **changes: Any) -> None:
    await worker.submit(make_spec("job-1", params={"do": do, "mark": str(worker.directory)}, **changes))


async def test_a_worker_is_known_before_it_takes_tasks(tmp_path: Path) -> None:
    async with bench(tmp_path, worker_settings(heartbeat_seconds=600, lease_seconds=3600)) as worker:
        beat = await worker.beat()
        assert (beat.worker, beat.slots, beat.open_slots, beat.running) == (WORKER, 2, 2, ())
        assert (beat.host, beat.address) == (host_identity(), "")
        assert beat.disk_total_bytes > beat.disk_free_bytes > 0
        assert beat.memory_available_bytes > 0


async def test_a_listening_worker_says_where(tmp_path: Path) -> None:
    async with bench(tmp_path, listen="127.0.0.1:0") as worker:
        host, _, port = (await worker.beat()).address.rpartition(":")
        assert host == "127.0.0.1"
        _, writer = await asyncio.open_connection(host, int(port))
        writer.close()
        await writer.wait_closed()


async def test_heartbeats_tell_what_the_slots_do(tmp_path: Path) -> None:
    async with bench(tmp_path) as worker:
        await submit(worker, "hang")
        await worker.publish("job-1", "map-00000")
        beat = await worker.beat_when(lambda beat: beat.running and beat.running[0].memory_bytes)
        (running,) = beat.running
        assert (running.job_id, running.task_id, running.attempt) == (JOB, MAP, 1)
        assert running.elapsed_seconds >= 0.0


async def test_heartbeats_keep_the_lease(tmp_path: Path) -> None:
    async with bench(tmp_path) as worker:
        await submit(worker, "hang")
        await worker.publish("job-1", "map-00000")
        await appear(tmp_path / "map-00000.1")
        first = (await worker.claim("job-1", "map-00000")).holders[0].expires_ms
        claims = worker.store.server.jobs[JOB].claims
        await until(lambda: claims[MAP].holders[0].expires_ms > first)


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
    await worker.store.save_job(make_record(JOB, state=JobState.REDUCING), [], 1)


async def map_and_wait(worker: Bench) -> MapOutput:
    """Run one map; returns its output once it is committed."""
    await submit(worker, maps=1)
    await worker.publish("job-1", "map-00000")
    await worker.reports.get()
    await worker.settled()
    (output,) = (await worker.store.map_outputs(JOB)).unpack()
    return output


@pytest.mark.parametrize("end", ["reduced", "ended", "told"])
async def test_a_draining_worker_serves_its_outputs_until_no_reduce_needs_them(
    tmp_path: Path, end: str
) -> None:
    async with bench(tmp_path, listen="127.0.0.1:0") as worker:
        output = await map_and_wait(worker)
        await reduce_elsewhere(worker)
        worker.stop.set()
        await until(
            lambda: worker.store.server.workers[WORKER].beat.limited_by.startswith("draining: serves")
        )
        assert worker.store.server.workers[WORKER].beat.draining
        assert not worker.ended.done()
        if end == "reduced":
            record = make_record(JOB, state=JobState.REDUCING, reduces_committed=2)
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
    (after,) = (await first.store.map_outputs(JOB)).unpack()
    beat = second.store.server.workers[WORKER].beat
    assert (after.incarnation, after.address) == (beat.incarnation, beat.address)
    assert Path(after.path).read_bytes() == b"onetwo"  # noqa: ASYNC240 - one small file
    await second.end_job("job-1")
    await until(lambda: not second.files())
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
            beating.extend(name.startswith("Heart.") for name in names)

        monkeypatch.setattr(worker.store, "forget_worker", forget_worker)
        worker.stop.set()
        await worker.ended
    assert beating and not any(beating)


async def test_a_worker_told_to_drain_drains(tmp_path: Path) -> None:
    async with bench(tmp_path) as worker:
        await worker.store.drain_worker(WORKER, (await worker.beat()).incarnation)
        await worker.tell(DrainWorker(WORKER))
        await worker.ended
        assert isinstance(await worker.reports.get(), WorkerStopped)


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


async def test_a_paused_worker_takes_nothing_until_the_pause_is_over(tmp_path: Path) -> None:
    async with bench(tmp_path) as worker:
        await submit(worker)
        await worker.store.pause_worker(WORKER, Pause(0.5, "it failed tasks of 3 jobs"))
        await worker.tell(PauseWorker(WORKER, 1e9, "whatever"))
        beat = await worker.beat_when(lambda beat: beat.open_slots == 0)
        assert beat.limited_by.endswith("it failed tasks of 3 jobs")
        await worker.publish("job-1", "map-00000")
        assert isinstance(await worker.reports.get(), TaskCommitted)
        assert (await worker.beat_when(lambda beat: beat.open_slots == 2)).limited_by == ""


async def test_a_control_message_that_the_store_does_not_confirm_changes_nothing(tmp_path: Path) -> None:
    """Anybody who reaches the broker can forge one."""
    async with bench(tmp_path) as worker:
        await submit(worker, "wait_for_go")
        await worker.publish("job-1", "map-00000")
        await appear(tmp_path / "map-00000.1")
        await worker.store.drain_worker(WORKER, Incarnation("an earlier life"))
        await worker.store.pause_worker(WorkerId("another"), Pause(3600.0, "another"))
        for forged in (
            EndJob(JOB),
            EndJob(JobId("../..")),
            StopAttempt(JOB, MAP, 2),
            PauseWorker(WORKER, 1e300, "forged"),
            DrainWorker(WORKER),
            DrainWorker(WorkerId("another")),
        ):
            await worker.tell(forged)
        (control,) = worker.broker._private
        await until(lambda: not control.queue.ready and not control._unsettled)
        (tmp_path / "go").touch()
        report = await worker.reports.get()
        assert isinstance(report, TaskCommitted) and report.attempt == 1
        assert "job-1/outputs/map-00000-1.segments" in worker.files()
        assert (await worker.beat()).open_slots == 2


async def test_a_spool_without_room_takes_nothing(tmp_path: Path) -> None:
    settings = worker_settings(spool_reserve_bytes=1 << 52)
    async with bench(tmp_path, settings) as worker:
        beat = await worker.beat_when(lambda beat: beat.open_slots == 0)
        assert f"reserve is {(1 << 52) // MIB} MiB" in beat.limited_by


async def test_a_spool_that_fills_up_while_short_tasks_flow_stops_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each task that ends is a reason for an extra beat, and no reason not to look at the disk."""
    settings = worker_settings(heartbeat_seconds=0.4)
    async with bench(tmp_path, settings) as worker:
        await submit(worker, maps=400)
        await worker.publish("job-1", "map-00000")
        await worker.reports.get()
        monkeypatch.setattr(Spool, "disk_usage", lambda spool: DiskUsage(total=1 << 40, free=0))
        closed = asyncio.ensure_future(worker.beat_when(lambda beat: beat.open_slots == 0))
        for index in range(1, 400):
            await worker.publish("job-1", f"map-{index:05d}")
            report = asyncio.ensure_future(worker.reports.get())
            await asyncio.wait([report, closed], return_when=asyncio.FIRST_COMPLETED)
            report.cancel()
            if closed.done():
                break
        else:
            closed.cancel()
            pytest.fail("400 tasks were taken into a full spool")
        assert "spool disk: 0 MiB free" in (await closed).limited_by


async def test_a_host_that_cannot_be_measured_goes_on_being_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(spool: Spool) -> DiskUsage:
        raise OSError(24, "Too many open files")

    async with bench(tmp_path) as worker:
        monkeypatch.setattr(Spool, "disk_usage", fail)
        await until(lambda: caplog.text.count("cannot be measured: Too many open files") >= 2)
        await submit(worker)
        await worker.publish("job-1", "map-00000")
        assert isinstance(await worker.reports.get(), TaskCommitted)
        assert (await worker.beat()).disk_free_bytes > 0


async def test_a_pause_of_no_time_lets_a_worker_take_tasks_again(tmp_path: Path) -> None:
    async with bench(tmp_path) as worker:
        await worker.store.pause_worker(WORKER, Pause(60.0, "cannot reach worker w2"))
        await worker.tell(PauseWorker(WORKER, 60.0, "cannot reach worker w2"))
        assert "cannot reach worker w2" in (await worker.beat_when(lambda b: b.open_slots == 0)).limited_by
        await worker.store.pause_worker(WORKER, Pause(0.0, ""))
        await worker.tell(PauseWorker(WORKER, 0.0, ""))
        await worker.beat_when(lambda b: b.open_slots == 2 and not b.limited_by)


async def test_a_worker_survives_that_its_spool_is_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "SWEEP_BEATS", 1)
    async with bench(tmp_path, worker_settings(heartbeat_seconds=0.05)) as worker:
        await submit(worker)
        await worker.publish("job-1", "map-00000")
        assert isinstance(await worker.reports.get(), TaskCommitted)
        await asyncio.to_thread(shutil.rmtree, worker.spool)
        await until(worker.spool.exists)
        await worker.publish("job-1", "map-00001")
        assert isinstance(await worker.reports.get(), TaskCommitted)
        assert "job-1/code/job.py" in worker.files()


async def test_a_job_whose_end_was_missed_is_found_and_cleared(tmp_path: Path) -> None:
    async with bench(tmp_path) as worker:
        await submit(worker)
        await worker.publish("job-1", "map-00000")
        await worker.reports.get()
        assert worker.files()
        await worker.end_job("job-1")
        await until(lambda: not worker.files())


async def test_a_job_that_the_store_forgot_is_cleared_only_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "SWEEP_BEATS", 1)
    monkeypatch.setattr(heartbeat, "UNKNOWN_LEASES", 1)
    settings = worker_settings(heartbeat_seconds=0.05, lease_seconds=0.5)
    async with bench(tmp_path, settings) as worker:
        await submit(worker)
        await worker.publish("job-1", "map-00000")
        await worker.reports.get()
        worker.store.server.flush()
        await worker.beat_when(lambda _: True)
        assert worker.files()
        await until(lambda: not worker.files())


async def test_a_job_whose_record_cannot_be_read_keeps_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(heartbeat, "SWEEP_BEATS", 1)
    async with bench(tmp_path, worker_settings(heartbeat_seconds=0.05)) as worker:
        await submit(worker)
        await worker.publish("job-1", "map-00000")
        await worker.reports.get()
        worker.store.server.jobs[JOB].record = b"\xc1"
        await until(lambda: caplog.text.count("whether job job-1 has ended is not known") >= 2)
        assert worker.files()


class AwayStore:
    """Makes heartbeats of a store fail while `away` is set."""

    def __init__(self, worker: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        self.away = asyncio.Event()
        self.failures = 0
        beat = worker.store.heartbeat

        async def heartbeat(
            record: WorkerBeat, lease_seconds: float, replaces: WorkerBeat | None
        ) -> WorkerView | None:
            if self.away.is_set():
                self.failures += 1
                raise StoreUnavailable("the store is away")
            return await beat(record, lease_seconds, replaces)

        monkeypatch.setattr(worker.store, "heartbeat", heartbeat)


async def test_a_worker_survives_a_store_that_goes_away_and_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with bench(tmp_path) as worker:
        caplog.set_level("INFO", logger="workers.heartbeat")
        store = AwayStore(worker, monkeypatch)
        store.away.set()
        await until(lambda: store.failures >= 3)
        store.away.clear()
        await until(lambda: "the store is back" in caplog.text)
    assert caplog.text.count("the store is away, running tasks go on") == 1


async def test_a_store_that_stays_away_ends_the_worker_and_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Bench(tmp_path)
    await worker.open(worker_settings(heartbeat_seconds=0.05, reconnect_seconds=0.2), 1, None)
    AwayStore(worker, monkeypatch).away.set()
    with pytest.raises(StoreUnavailable, match="the store is away"):
        await worker.ended
    assert [path.name for path in worker.spool.iterdir()] == [".lock"]
    await worker.close()


async def test_a_broker_that_fails_for_good_ends_the_worker_and_its_children(tmp_path: Path) -> None:
    worker = Bench(tmp_path)
    await worker.open(SETTINGS, 1, None)
    await submit(worker, "hang")
    await worker.publish("job-1", "map-00000")
    child = int(await appear(tmp_path / "map-00000.1"))
    worker.broker.fail(StoreUnavailable("refused"))
    with pytest.raises(StoreUnavailable, match="refused"):
        await worker.ended
    await gone(child)
    assert [path.name for path in worker.spool.iterdir()] == [".lock"]
    await worker.close()


async def test_an_address_that_is_taken_is_an_error_at_the_start(tmp_path: Path) -> None:
    async with bench(tmp_path / "first", listen="127.0.0.1:0") as first:
        taken = (await first.beat()).address
        second = Bench(tmp_path / "second")
        await second.open(SETTINGS, 1, taken)
        with pytest.raises(ListenFailed, match=taken):
            second.ended.result()
        await second.close()


async def test_a_spool_that_cannot_be_used_is_an_error_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "spool").touch()
    worker = Bench(tmp_path)
    await worker.open(SETTINGS, 1, None)
    with pytest.raises(SpoolUnusable, match="cannot be used"):
        worker.ended.result()
    await worker.close()


async def test_what_a_dead_worker_left_in_the_spool_is_cleared(tmp_path: Path) -> None:
    dead = tmp_path / "spool" / "w9" / "dead"
    (dead / "jobs" / "job-9").mkdir(parents=True)
    (dead / ".mrmq-life").touch()
    async with bench(tmp_path) as worker:
        assert not dead.exists()
        assert (await worker.beat()).ended == ("dead",)
