"""The worker daemon over the memory adapters: its start, its heartbeats, and each way it ends."""

import asyncio
import shutil
from pathlib import Path

import pytest

from mr.errors import StoreUnavailable
from mr.protocol.ids import JobId, TaskId
from mr.protocol.messages import TaskCommitted
from mr.workers.daemon import heartbeat
from mr.workers.daemon.spool import SpoolUnusable
from mr.workers.shuffle.transfer.host_identity import host_identity
from mr.workers.shuffle.transfer.server import ListenFailed
from tests.support.waiting import appear, eventually, gone
from tests.support.worker import CODE_FILE, SETTINGS, WORKER, Bench, bench, submit, worker_settings

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
        assert CODE_FILE in worker.files()


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
