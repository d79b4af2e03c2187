"""Keeps the store complete: the code of unfinished jobs, and all that the store has lost of jobs."""

import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from mr.coordinator.core.commands import CloseJob
from mr.coordinator.core.events import Event, JobBroken, JobRestored
from mr.coordinator.core.job_records import unreadable_record
from mr.coordinator.effects import Effects
from mr.error_text import fault
from mr.errors import BadJob, StoreBehind
from mr.guards import FATAL, surviving
from mr.ports.clock import Clock
from mr.ports.code import CodeStore
from mr.ports.scheduling import SchedulingStore
from mr.protocol.ids import CodeId, JobId
from mr.protocol.jobs import CodeManifest, JobSpec
from mr.protocol.records import JobRecord, RestoredJob, UnreadableJob
from mr.settings import Settings

log = logging.getLogger(__name__)

#: Ended jobs that are ended again in a store that forgot it, and how many tasks they may have together.
ENDED_JOBS = 100
ENDED_TASKS = 20_000


@dataclass(frozen=True, slots=True)
class _Code:
    """The code of one job. `bundle` is empty if the store had lost it before it could be read."""

    manifest: CodeManifest
    bundle: bytes
    #: Who asked for the job.
    sender: str


@dataclass(frozen=True, slots=True)
class _Ended:
    """How a job ended, and when, by the monotonic clock."""

    command: CloseJob
    at: float


class UnfinishedStore(SchedulingStore, CodeStore, Protocol):
    """Where unfinished jobs and their code are kept."""


class StoredJobs:
    """The unfinished jobs, and those that ended recently.

    `snapshot` returns all that is known of an unfinished one; `hold_lead` keeps the lead or raises Deposed.
    """

    def __init__(
        self,
        settings: Settings,
        store: UnfinishedStore,
        clock: Clock,
        effects: Effects,
        snapshot: Callable[[JobId], RestoredJob | None],
        hold_lead: Callable[[], Awaitable[None]],
    ) -> None:
        self._settings = settings
        self._store = store
        self._clock = clock
        self._effects = effects
        self._snapshot = snapshot
        self._hold_lead = hold_lead
        self._codes: dict[JobId, _Code] = {}
        self._ended: OrderedDict[JobId, _Ended] = OrderedDict()
        #: Jobs that were written back and have not been read again yet.
        self._written_back: dict[JobId, None] = {}
        #: Jobs that could not be written back, and why.
        self._broken: dict[JobId, str] = {}
        #: Whether the store came back older, and may show jobs as unfinished that ended long ago.
        self._came_back = False

    # --- what there is

    def is_unfinished(self, job_id: JobId) -> bool:
        """Whether a job was accepted and has not ended."""
        return job_id in self._codes

    def check_share(self, sender: str) -> None:
        """Refuse a sender that has too many unfinished jobs already. Raises BadJob."""
        most = self._settings.max_jobs_per_sender
        if most and sum(code.sender == sender for code in self._codes.values()) >= most:
            who = f"the sender {sender!r} has" if sender else "senders who do not say who they are have"
            raise BadJob(
                f"{who} {most} unfinished jobs (max_jobs_per_sender); submit it again when some ended"
            )

    def ended(self, job_id: JobId) -> JobRecord | None:
        """The last record of a job that ended recently; None for any other."""
        found = self._ended.get(job_id)
        return None if found is None else found.command.record

    def note_ended(self, command: CloseJob) -> None:
        """Note that a job's end is in the store."""
        job_id = command.record.job_id
        self._codes.pop(job_id, None)
        self._ended[job_id] = _Ended(command, self._clock.now())
        tasks = sum(len(ended.command.tasks) for ended in self._ended.values())
        while len(self._ended) > ENDED_JOBS or (tasks > ENDED_TASKS and len(self._ended) > 1):
            _, oldest = self._ended.popitem(last=False)
            tasks -= len(oldest.command.tasks)

    def forget_end(self, job_id: JobId) -> None:
        """Forget how a job ended: it was resumed."""
        self._ended.pop(job_id, None)

    # --- code

    async def take_code(self, spec: JobSpec, bundle: bytes) -> None:
        """Keep the code of an unfinished job, here and in the store. Jobs share the bytes of equal code."""
        shared = (code.bundle for code in self._codes.values() if code.bundle == bundle)
        self._codes[spec.job_id] = _Code(spec.code, next(shared, bundle), spec.sender)
        await self.keep_code(spec.job_id)

    async def keep_all_code(self) -> None:
        """Keep the code of unfinished jobs from expiring under them."""
        for job_id in list(self._codes):
            with surviving(f"keeping the code of job {job_id}"):
                await self.keep_code(job_id)

    async def keep_code(self, job_id: JobId) -> None:
        """Extend the time for which the store keeps a job's code; put it back if it is lost."""
        code = self._codes.get(job_id)
        if code is None:
            return
        seconds, code_id = self._settings.code_seconds, CodeId(code.manifest.code_id)
        if not await self._store.keep_code(code_id, seconds) and code.bundle:
            await self._store.put_code(code_id, code.bundle, code.manifest, seconds)

    # --- a predecessor's jobs

    async def restore(self) -> list[Event]:
        """Take over the unfinished jobs of the store that are not known here."""
        stored = await self._store.restore(self._effects.epoch, {*self._codes, *self._ended})
        new = {job.spec.job_id: job for job in stored if isinstance(job, RestoredJob)}
        finished = await self._effects.finished({name: job.spec.output for name, job in new.items()})
        for name, job in new.items():
            with surviving(f"keeping the code of job {name}"):
                bundle = await self._store.get_code(job.spec.code_id)
                await self.take_code(job.spec, bundle or b"")
            log.info("job %s taken over in state %s", name, job.record.state)
        now, time_of_day = self._clock.now(), self._clock.wall()
        events: list[Event] = [JobRestored(now, job, name in finished) for name, job in new.items()]
        for found in stored:
            if isinstance(found, UnreadableJob):
                log.error("job %s cannot be taken over, so it fails: %s", found.job_id, found.reason)
                record = found.record or unreadable_record(found.job_id, time_of_day)
                events.append(JobBroken(now, found.job_id, found.reason, record))
        return events

    # --- a store that has lost data

    async def forgotten(self) -> bool:
        """Whether the store has lost acknowledged writes of these jobs."""
        kept_since = self._clock.now() - self._settings.history_seconds / 2
        self._ended = OrderedDict((name, job) for name, job in self._ended.items() if job.at > kept_since)
        return bool(await self._store.forgotten([*self._codes, *self._ended]))

    async def write_back_all(self) -> None:
        """Write back all jobs of which the store has lost writes."""
        self._came_back = True
        await self.write_back(await self._store.forgotten([*self._codes, *self._ended]))

    async def write_back(self, jobs: Iterable[JobId]) -> None:
        """Write back what the store has lost of these jobs. No event may be handled meanwhile.

        Raises Deposed: another that leads would never hear of what is written back.
        """
        for job_id in jobs:
            await self._hold_lead()
            try:
                await self._write_one_back(job_id)
            except (*FATAL, StoreBehind):
                raise
            except Exception as error:
                log.exception("job %s cannot be written back", job_id)
                self._broken[job_id] = fault(error)

    async def _write_one_back(self, job_id: JobId) -> None:
        job, ended = self._snapshot(job_id), self._ended.get(job_id)
        if job is not None:
            log.warning("job %s is written back into the store, which had forgotten some of it", job_id)
            await self.keep_code(job_id)
            await self._store.rewrite(job, self._effects.epoch, self._settings.lease_seconds)
            self._written_back[job_id] = None
        elif ended is not None:
            log.warning("job %s is ended again in the store, which had forgotten it", job_id)
            await self._effects.persist([ended.command])

    async def news(self) -> list[Event]:
        """Events for the jobs that were written back, and for jobs in the store that are not known here."""
        broken, self._broken = self._broken, {}
        events: list[Event] = [JobBroken(self._clock.now(), job, cause) for job, cause in broken.items()]
        while self._written_back:
            job_id, _ = self._written_back.popitem()
            event = await self._effects.read_written_back(job_id)
            if event is None:
                await self.write_back_all()
            else:
                events.append(event)
        if self._came_back:
            self._came_back = False
            events += await self.restore()
        return events
