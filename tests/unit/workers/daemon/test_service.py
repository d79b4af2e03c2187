"""The worker daemon over the memory adapters: its start, its heartbeats, and each way it ends."""

import asyncio
import shutil
from pathlib import Path

import pytest

from mr.errors import StoreUnavailable
from mr.protocol.ids import AttemptId, Incarnation, JobId, TaskId, WorkerId
from mr.protocol.messages import DrainWorker, EndJob, PauseWorker, StopAttempt, TaskCommitted
from mr.protocol.records import Pause, WorkerBeat, WorkerView
from mr.settings import MIB
from mr.workers.daemon import heartbeat
from mr.workers.daemon.spool import DiskUsage, Spool, SpoolUnusable
from mr.workers.shuffle.transfer.host_identity import host_identity
from mr.workers.shuffle.transfer.server import ListenFailed
from tests.support.waiting import appear, eventually, gone
from tests.support.worker import SETTINGS, WORKER, Bench, bench, submit, worker_settings

JOB, MAP = JobId("job-1"), TaskId("map-00000")


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
        await eventually(lambda: claims[MAP].holders[0].expires_ms > first)


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
            StopAttempt(AttemptId(JOB, MAP, 2)),
            PauseWorker(WORKER, 1e300, "forged"),
            DrainWorker(WORKER),
            DrainWorker(WorkerId("another")),
        ):
            await worker.tell(forged)
        (control,) = worker.broker._private
        await eventually(lambda: not control.queue.ready and not control._unsettled)
        (tmp_path / "go").touch()
        report = await worker.reports.get()
        assert isinstance(report, TaskCommitted) and report.attempt.number == 1
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
        await eventually(lambda: caplog.text.count("cannot be measured: Too many open files") >= 2)
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
        await eventually(worker.spool.exists)
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
        await eventually(lambda: not worker.files())


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
        await eventually(lambda: not worker.files())


async def test_a_job_whose_record_cannot_be_read_keeps_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(heartbeat, "SWEEP_BEATS", 1)
    async with bench(tmp_path, worker_settings(heartbeat_seconds=0.05)) as worker:
        await submit(worker)
        await worker.publish("job-1", "map-00000")
        await worker.reports.get()
        worker.store.server.jobs[JOB].record = b"\xc1"
        await eventually(lambda: caplog.text.count("whether job job-1 has ended is not known") >= 2)
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
        caplog.set_level("INFO", logger="mr.workers.daemon.heartbeat")
        store = AwayStore(worker, monkeypatch)
        store.away.set()
        await eventually(lambda: store.failures >= 3)
        store.away.clear()
        await eventually(lambda: "the store is back" in caplog.text)
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
