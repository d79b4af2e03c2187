"""What heartbeats say, and what a worker learns with them."""

import asyncio
from pathlib import Path

import psutil
import pytest

from mr.errors import StoreUnavailable
from mr.protocol.ids import JobId, TaskId
from mr.protocol.messages import TaskCommitted
from mr.protocol.records import WorkerBeat, WorkerView
from mr.settings import MIB
from mr.workers.daemon import heartbeat
from mr.workers.daemon.spool import DiskUsage, Spool
from tests.support.waiting import appear, eventually
from tests.support.worker import Bench, bench, submit, worker_settings

JOB, MAP = JobId("job-1"), TaskId("map-00000")


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
    def fail() -> None:
        raise OSError(24, "Too many open files")

    async with bench(tmp_path) as worker:
        monkeypatch.setattr(psutil, "virtual_memory", fail)
        await eventually(lambda: caplog.text.count("cannot be measured: Too many open files") >= 2)
        await submit(worker)
        await worker.publish("job-1", "map-00000")
        assert isinstance(await worker.reports.get(), TaskCommitted)
        assert (await worker.beat()).disk_free_bytes > 0


async def test_a_spool_that_cannot_be_written_takes_nothing_until_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would fail one task after the other, faster than others do them."""

    def fail(spool: Spool) -> DiskUsage:
        raise OSError(30, "Read-only file system")

    async with bench(tmp_path) as worker:
        with monkeypatch.context() as harm:
            harm.setattr(Spool, "disk_usage", fail)
            beat = await worker.beat_when(lambda beat: beat.open_slots == 0)
            assert beat.limited_by == "the spool cannot be written: Read-only file system"
        await worker.beat_when(lambda beat: beat.open_slots > 0)


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
