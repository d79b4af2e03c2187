"""A whole cluster in one process: coordinator, worker and client over the memory adapters."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from pathlib import Path
from typing import Any

import msgspec

from mr.adapters.memory.broker import MemoryBroker
from mr.adapters.memory.store import MemoryStore
from mr.async_tools import cancel_and_wait
from mr.bundle import Bundle
from mr.client import Client, Snapshot
from mr.coordinator.service import run_coordinator
from mr.errors import Interrupted, MrError
from mr.protocol.ids import JobId, WorkerId
from mr.protocol.jobs import CodeManifest, JobRequest
from mr.protocol.records import JobRecord
from mr.settings import Settings
from mr.workers.daemon.service import run_worker

LOCAL_WORKER = WorkerId("local")

#: In one process messages take no time: with the intervals of a cluster a small job would mostly wait.
_TICK_SECONDS = 0.05
_HEARTBEAT_SECONDS = 0.5
_RETRY_BASE_SECONDS = 0.1
#: There is no other machine to try, and the user is waiting: a full disk or an output that may not be
#: written is reported after some ten seconds.
_RETRY_MAX_SECONDS = 5.0
_MAX_UNCOUNTED_ATTEMPTS = 7
_WATCH_SECONDS = 0.2
_READY_SECONDS = 0.01
#: Planning may list and split very many files; a coordinator that died is noticed in another way.
_PLANNING_SECONDS = 24 * 3600.0
#: How long an interrupted job may take to clean up after itself.
_CANCEL_SECONDS = 10.0


def embedded_settings(settings: Settings) -> Settings:
    """The same settings with the intervals and the patience of one process."""
    return msgspec.structs.replace(
        settings,
        tick_seconds=min(settings.tick_seconds, _TICK_SECONDS),
        heartbeat_seconds=min(settings.heartbeat_seconds, _HEARTBEAT_SECONDS),
        retry_base_seconds=min(settings.retry_base_seconds, _RETRY_BASE_SECONDS),
        retry_max_seconds=min(settings.retry_max_seconds, _RETRY_MAX_SECONDS),
        max_uncounted_attempts=min(settings.max_uncounted_attempts, _MAX_UNCOUNTED_ATTEMPTS),
        # A worker short of disk leaves tasks to others; without others the job would wait for ever.
        spool_reserve_bytes=0,
        shuffle_local_reads=True,
        resume_seconds=0,  # nothing of it is left once the command has ended
    )


class LocalJob(msgspec.Struct, frozen=True):
    """What `run_embedded` runs."""

    bundle: Bundle
    manifest: CodeManifest
    #: With its `job_id` chosen and its paths absolute.
    request: JobRequest


async def run_embedded(
    settings: Settings,
    job: LocalJob,
    *,
    slots: int,
    spool_dir: Path,
    on_snapshot: Callable[[Snapshot], None],
    on_printed: Callable[[str, str], None],
    interrupt: asyncio.Event,
) -> JobRecord:
    """Run one job on `slots` child processes of this machine; returns its final record.

    `on_printed(attempt, text)` is given what an attempt printed once it has ended, bounded as on a cluster.
    `interrupt` cancels the job, removes its output and raises Interrupted. Raises BadJob for a
    refused request. All intermediate files lie below `spool_dir`, which is the caller's to remove.
    """
    settings = embedded_settings(settings)
    cluster = _LocalCluster(settings, slots, spool_dir)
    await cluster.start()
    watching = asyncio.create_task(_submit_and_watch(cluster.client, job, on_snapshot, on_printed))
    interrupted = asyncio.create_task(interrupt.wait())
    orderly = False
    try:
        await asyncio.wait({watching, interrupted, *cluster.services}, return_when=asyncio.FIRST_COMPLETED)
        if watching.done():
            record = watching.result()
            orderly = True
            return record
        if interrupted.done():
            await _cancel(cluster.client, JobId(job.request.job_id or ""), watching)
            raise Interrupted
        raise cluster.early_end()
    finally:
        await cancel_and_wait((watching, interrupted))
        await cluster.stop(at_once=not orderly)


class _LocalCluster:
    """The coordinator and the worker as tasks of this loop, and a client beside them."""

    def __init__(self, settings: Settings, slots: int, spool_dir: Path) -> None:
        self._broker = MemoryBroker()
        self._store = MemoryStore(time.time)
        self.client = Client(self._broker, self._store, settings)
        self._settings = settings
        self._slots = slots
        self._spool_dir = spool_dir
        self._coordinator_stop = asyncio.Event()
        self._worker_stop = asyncio.Event()
        self._worker_kill = asyncio.Event()
        self.services: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        await self._store.connect()
        await self._broker.connect()
        self._start("coordinator", self._run_coordinator())
        self._start("worker", self._run_worker())

    async def stop(self, *, at_once: bool) -> None:
        """Stop the worker, then the coordinator; raises what a service failed with, unless `at_once`."""
        self._worker_stop.set()
        if at_once:
            self._worker_kill.set()
        for service, stop in reversed(list(zip(self.services, self._stops(), strict=True))):
            stop.set()
            await asyncio.wait({service})
            if not service.cancelled() and service.exception() is not None and not at_once:
                service.result()
        await self._broker.close()
        await self._store.close()

    def early_end(self) -> BaseException:
        """The error with which a service ended before the job did."""
        for service in self.services:
            if service.done():
                error = service.exception()
                return error or MrError(f"the embedded {service.get_name()} ended before the job did")
        return MrError("the embedded cluster ended before the job did")

    def _stops(self) -> tuple[asyncio.Event, asyncio.Event]:
        return self._coordinator_stop, self._worker_stop

    def _start(self, name: str, service: Coroutine[Any, Any, None]) -> None:
        self.services.append(asyncio.create_task(service, name=name))

    async def _run_coordinator(self) -> None:
        await run_coordinator(self._settings, self._broker, self._store, stop=self._coordinator_stop)

    async def _run_worker(self) -> None:
        await run_worker(
            self._settings,
            self._broker,
            self._store,
            worker_id=LOCAL_WORKER,
            slots=self._slots,
            spool_dir=self._spool_dir,
            listen=None,
            advertise=None,
            stop=self._worker_stop,
            kill=self._worker_kill,
        )


async def _submit_and_watch(
    client: Client,
    job: LocalJob,
    on_snapshot: Callable[[Snapshot], None],
    on_printed: Callable[[str, str], None],
) -> JobRecord:
    await client.upload(job.bundle, job.manifest)
    while not any(view.live for view in await client.workers()):  # noqa: ASYNC110 - the store tells no events
        await asyncio.sleep(_READY_SECONDS)  # else progress would first say that there is no worker
    reply = await client.submit(job.request, timeout_seconds=_PLANNING_SECONDS)
    job_id = JobId(reply.job_id or "")
    shown: set[str] = set()
    async with aclosing(client.watch(job_id, _WATCH_SECONDS)) as snapshots:
        async for snapshot in snapshots:
            # an attempt's output is kept before its end is reported: at the last snapshot all of it is there
            for attempt, text in (await client.logs(job_id)).items():
                if attempt not in shown:
                    shown.add(attempt)
                    on_printed(attempt, text)
            on_snapshot(snapshot)
    return snapshot.record


async def _cancel(client: Client, job: JobId, watching: "asyncio.Task[JobRecord]") -> None:
    """Cancel the job and wait, for a limited time, until it has cleaned up."""
    try:
        async with asyncio.timeout(_CANCEL_SECONDS):
            if await client.snapshot(job) is not None:
                await client.cancel(job, timeout_seconds=_CANCEL_SECONDS)
                await asyncio.wait({watching})
    except (TimeoutError, MrError) as error:
        raise Interrupted(f"interrupted, and the job could not be cancelled in time: {error}") from error
