"""Tells the store every `heartbeat_seconds` that the worker lives, and what its host and slots do.

Each beat also renews the leases of the running attempts, and stops those that have lost theirs. Two other
loops run beside it: one measures the host and opens or closes slots, one looks for jobs whose end this
worker has missed. So neither a slow disk nor a long look delays a beat.
"""

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Callable

import msgspec
import psutil

from mr import __version__
from mr.async_tools import cancel_and_wait, wait_for_event
from mr.error_text import error_text
from mr.errors import BadMessage, StoreUnavailable
from mr.guards import surviving
from mr.ports.clock import Clock
from mr.ports.store import StateStore
from mr.protocol.ids import AttemptId, JobId
from mr.protocol.records import Pause, WorkerBeat, WorkerView
from mr.settings import Settings
from mr.workers.daemon import pressure
from mr.workers.daemon.claimed_attempt import StopReason
from mr.workers.daemon.kept_outputs import is_kept
from mr.workers.daemon.pressure import HostLoad, Slots
from mr.workers.daemon.registration import WorkerIdTaken
from mr.workers.daemon.spool import DiskUsage, Spool
from mr.workers.daemon.task_runner import TaskRunner
from mr.workers.messages import WorkerIdentity
from mr.workers.process.executor import Executor

log = logging.getLogger(__name__)

#: Every so many `heartbeat_seconds` the spool is compared with the store.
SWEEP_BEATS = 5
#: A job that the store does not know for so many leases is over (an emptied store is refilled sooner).
UNKNOWN_LEASES = 6
#: After a change an extra beat comes this share of `heartbeat_seconds` later, at the earliest.
EXTRA_BEAT_SHARE = 0.25
#: Dead incarnations that a heartbeat names.
MAX_ENDED_TOLD = 64


#: Stands for a host that could not be measured yet.
NOT_MEASURED = HostLoad(cpu_percent=0, own_cpu_percent=0, memory_percent=0, disk_free_bytes=0, cores=1)


class HostMeter:
    """Measures the host between one call and the next."""

    def __init__(self, spool: Spool, executor: Executor) -> None:
        self._spool = spool
        self._executor = executor
        self._cores = psutil.cpu_count() or 1
        psutil.cpu_percent()  # the first call only starts the measurement
        self._own_seconds = self._own_cpu_seconds()
        self._at = time.monotonic()
        self.memory_available_bytes = 0
        self.disk_total_bytes = 0

    def _own_cpu_seconds(self) -> float:
        return self._executor.own_cpu_seconds() + time.process_time()

    async def measure(self) -> HostLoad:
        """What the host did since the last call, and what it has left. Raises OSError, psutil.Error."""
        spool_error = ""
        try:
            disk = await asyncio.to_thread(self._spool.disk_usage)  # may be a network disk
        except OSError as error:
            disk, spool_error = DiskUsage(0, 0), error_text(error)
        now, own_seconds = time.monotonic(), self._own_cpu_seconds()
        elapsed = max(now - self._at, 0.001)
        own_percent = 100.0 * max(own_seconds - self._own_seconds, 0.0) / elapsed / self._cores
        self._at, self._own_seconds = now, own_seconds
        memory = psutil.virtual_memory()
        self.memory_available_bytes = memory.available
        self.disk_total_bytes = disk.total
        return HostLoad(
            cpu_percent=psutil.cpu_percent(),
            own_cpu_percent=min(own_percent, 100.0),
            memory_percent=memory.percent,
            disk_free_bytes=disk.free,
            spool_error=spool_error,
            cores=self._cores,
        )


class Heartbeat:
    """Beats until it is cancelled."""

    def __init__(
        self,
        settings: Settings,
        store: StateStore,
        *,
        identity: WorkerIdentity,
        slots: int,
        spool: Spool,
        executor: Executor,
        runner: TaskRunner,
        meter: HostMeter,
        clock: Clock,
        control_queue: Callable[[], str],
    ) -> None:
        """`control_queue` gives the current name of the worker's private queue."""
        self._settings = settings
        self._store = store
        self._identity = identity
        self._slots = slots
        self._spool = spool
        self._executor = executor
        self._runner = runner
        self._control_queue = control_queue
        self._number = 0
        self._meter = meter
        self._clock = clock
        self._started_at = clock.wall()
        #: None before the first measurement.
        self._load: HostLoad | None = None
        #: What the host's pressure allows; pauses and draining come on top.
        self._allowed = Slots(slots)
        self._paused_until = 0.0
        self._pause_reason = ""
        #: Set when this worker is to finish what runs and leave.
        self.draining = asyncio.Event()
        self._changed = asyncio.Event()
        self._reached = self._clock.now()
        self._away = False
        self._unknown_since: dict[JobId, float] = {}
        #: The last heartbeat of the incarnation that this one has replaced.
        self._replaced: WorkerBeat | None = None

    @property
    def open_slots(self) -> Slots:
        """How many slots take tasks now, and why not all do."""
        if self.draining.is_set():
            served = self._runner.jobs_served if self._runner.is_idle else 0
            return Slots(0, f"draining: serves map outputs of {served} jobs" if served else "draining")
        left = self._paused_until - self._clock.now()
        if left > 0:
            return Slots(0, f"paused for {left:.0f} s: {self._pause_reason}")
        return self._allowed

    def soon(self) -> None:
        """Something changed: beat a little earlier than planned."""
        self._changed.set()

    async def pause(self, pause: Pause | None) -> None:
        """Take no tasks for a while; with None, take them again."""
        if pause is None:
            self._paused_until = 0.0
        else:
            log.warning("taking no tasks for %.0f s: %s", pause.seconds, pause.reason)
            self._paused_until, self._pause_reason = self._clock.now() + pause.seconds, pause.reason
        await self._apply()

    async def beat(self) -> None:
        """Tell the store that this worker lives. Raises StoreUnavailable, WorkerIdTaken.

        A store that came back older may show a predecessor again, which is replaced again.
        """
        owner = await self.try_beat(None)
        if owner is not None and self.is_dead(owner.beat):
            owner = await self.try_beat(owner.beat)
        if owner is not None:
            raise WorkerIdTaken(owner.beat)

    def is_dead(self, owner: WorkerBeat) -> bool:
        """Whether an earlier incarnation has ended.

        The kernel shows it, as its lock in this spool is free; or it was replaced, and has not beaten since.
        """
        left, replaced = f"{owner.worker}/{owner.incarnation}", self._replaced
        if owner.host == self._identity.host and left in self._spool.cleared:
            return True
        return (
            replaced is not None
            and owner.incarnation == replaced.incarnation
            and owner.number <= replaced.number
        )

    async def try_beat(self, replaces: WorkerBeat | None) -> WorkerView | None:
        """Like `beat`, but return another incarnation that has the worker's id. Raises StoreUnavailable."""
        if self._load is None:
            await self.measure()
        load = self._load or NOT_MEASURED
        open_slots = self.open_slots
        self._number += 1
        beat = WorkerBeat(
            worker=self._identity.worker,
            incarnation=self._identity.incarnation,
            host=self._identity.host,
            address=self._identity.address,
            version=__version__,
            started_at=self._started_at,
            slots=self._slots,
            open_slots=open_slots.open,
            draining=self.draining.is_set(),
            limited_by=open_slots.reason,
            cpu_percent=load.cpu_percent,
            memory_percent=load.memory_percent,
            memory_available_bytes=self._meter.memory_available_bytes,
            disk_free_bytes=load.disk_free_bytes,
            disk_total_bytes=self._meter.disk_total_bytes,
            running=self._executor.running(),
            committed=self._runner.committed,
            failed=self._runner.failed,
            number=self._number,
            host_name=socket.gethostname(),
            control_queue=self._control_queue(),
            ended=self._spool.ended_incarnations[:MAX_ENDED_TOLD],
        )
        owner = await self._store.heartbeat(beat, self._settings.lease_seconds, replaces)
        if owner is None and replaces is not None:
            self._replaced = replaces
        return owner

    async def run(self) -> None:
        """Beat for ever. Raises StoreUnavailable once the store has been away for `reconnect_seconds`.

        Raises WorkerIdTaken when another incarnation took the worker's id while this one was silent.
        """
        loops = [
            asyncio.create_task(loop) for loop in (self._beat_on(), self._measure_on(), self._sweep_on())
        ]
        try:
            ended, _ = await asyncio.wait(loops, return_when=asyncio.FIRST_COMPLETED)
            for loop in ended:
                loop.result()
        finally:
            await cancel_and_wait(loops)

    async def _beat_on(self) -> None:
        """Beat when it is time, and a little after each change."""
        seconds = self._settings.heartbeat_seconds
        while True:
            await self._clock.sleep(seconds * EXTRA_BEAT_SHARE)
            await wait_for_event(self._changed, seconds * (1 - EXTRA_BEAT_SHARE))
            self._changed.clear()
            with surviving("a heartbeat", WorkerIdTaken):
                await self._beat_once()

    async def _beat_once(self) -> None:
        await self._apply()
        try:
            await self.beat()
            await self._renew()
        except StoreUnavailable as error:
            self._note_away(error)
        else:
            self._note_reached()

    async def _measure_on(self) -> None:
        """Measure the host each `heartbeat_seconds`, however many beats there are."""
        while True:
            await self._clock.sleep(self._settings.heartbeat_seconds)
            with surviving("measuring the host"):
                before = self._allowed.open
                await self.measure()
                if self._allowed.open != before:
                    await self._apply()
                    self.soon()

    async def _sweep_on(self) -> None:
        """Look now and then for jobs that are over."""
        while True:
            await self._clock.sleep(SWEEP_BEATS * self._settings.heartbeat_seconds)
            # The heartbeats report a store that is away, and end the worker if it stays away.
            with surviving("looking for jobs that are over"), contextlib.suppress(StoreUnavailable):
                await self._sweep()

    async def measure(self) -> None:
        """Measure the host and decide how many slots may take tasks; if that fails, nothing changes."""
        try:
            self._load = await self._make_room(await self._meter.measure())
        except (OSError, psutil.Error) as error:
            log.warning("the host cannot be measured: %s", error_text(error))
            return
        before = self._allowed
        self._allowed = pressure.decide(self._load, self._settings, slots=self._slots, current=before.open)
        if self._allowed.open != before.open:
            reason = self._allowed.reason or "the host is calm again"
            log.info("open slots: %d of %d (%s)", self._allowed.open, self._slots, reason)

    async def _make_room(self, load: HostLoad) -> HostLoad:
        """Where the disk is short of space, delete outputs that are kept for a resume, the oldest first."""
        for job in self._runner.kept:
            if not pressure.lacks_disk(load, self._settings):
                break
            with surviving("making room on the disk"), contextlib.suppress(StoreUnavailable):
                record = await self._store.get_job(job)
                if record is None or record.state.terminal:
                    log.warning("the spool's disk is short of space; the outputs kept of job %s go", job)
                    await self._runner.end_job(job)
            usage = await asyncio.to_thread(self._spool.disk_usage)
            load = msgspec.structs.replace(load, disk_free_bytes=usage.free)
        return load

    async def _apply(self) -> None:
        await self._runner.set_open_slots(self.open_slots.open)

    async def _renew(self) -> None:
        """Extend the leases; stop the attempts whose claims are gone."""
        for job, attempts in self._runner.leased().items():
            try:
                lost = await self._store.renew(
                    job, attempts, self._identity.incarnation, self._settings.lease_seconds
                )
            except BadMessage as error:
                log.error("the leases of job %s cannot be renewed: %s", job, error)
                continue
            gone = {AttemptId(job, task, attempts[task]) for task in set(lost)}
            self._runner.stop(gone, StopReason.LEASE_LOST)

    async def _sweep(self) -> None:
        """End the jobs in the spool that are over, in case the message of their end was missed."""
        jobs = await asyncio.to_thread(self._spool.jobs)
        self._unknown_since = {job: at for job, at in self._unknown_since.items() if job in jobs}
        for job in jobs:
            try:
                record = await self._store.get_job(job)
                kept = record is not None and await is_kept(self._store, record)
            except BadMessage as error:
                log.warning("whether job %s has ended is not known: %s", job, error)
                continue
            if record is not None:
                self._unknown_since.pop(job, None)
                over = record.state.terminal
            else:
                since = self._unknown_since.setdefault(job, self._clock.now())
                over = self._clock.now() - since > UNKNOWN_LEASES * self._settings.lease_seconds
            if over and not (kept and job in self._runner.kept):
                log.info("job %s has ended; deleting its files%s", job, ", but for its outputs" * kept)
                await self._runner.end_job(job, keep_outputs=kept)

    def _note_away(self, error: StoreUnavailable) -> None:
        if not self._away:
            log.warning("the store is away, running tasks go on: %s", error)
        self._away = True
        if self._clock.now() - self._reached > self._settings.reconnect_seconds:
            raise error

    def _note_reached(self) -> None:
        if self._away:
            log.info("the store is back")
        self._away = False
        self._reached = self._clock.now()
