"""Jobs as the coordinator writes them: claims by the pure functions of `mr.protocol.claims`."""

from collections.abc import Collection, Iterable, Mapping, Sequence

from mr.adapters.memory.client import MemoryClient
from mr.adapters.memory.state import JobEntry, recorded_placement
from mr.errors import BadMessage, Deposed
from mr.ports.scheduling import SchedulingStore
from mr.protocol import claims
from mr.protocol.claims import Claim, Placement
from mr.protocol.codec import pack, unpack
from mr.protocol.ids import Incarnation, JobId, TaskId, TaskKind, in_task_order, task_id, task_kind
from mr.protocol.jobs import JobSpec, Split
from mr.protocol.records import (
    MAX_REFUSALS,
    JobRecord,
    Outcome,
    Refusal,
    RestoredJob,
    TaskRecord,
    TaskResult,
    UnreadableJob,
)


class MemoryScheduling(MemoryClient, SchedulingStore):
    """The SchedulingStore port in memory."""

    def _write(self, job: JobId, epoch: int, *, repairs: bool = False) -> JobEntry:
        """Fetch a job's entry for a write; makes a missing one. Raises Deposed, StoreBehind.

        `repairs`: the write leaves nothing lost, however much the server had lost.
        """
        entry = self._find(job) or JobEntry()
        _check_epoch(job, entry, epoch)
        if not repairs:
            self._check_generation(job, entry)
        entry.epoch = epoch
        entry.generation = max(entry.generation, self._acknowledged.of(job)) + 1
        self._state().jobs[job] = entry
        self._acknowledged.note(job, entry.generation)
        return entry

    async def create_job(self, spec: JobSpec, splits: Sequence[Split], record: JobRecord, epoch: int) -> bool:
        if self._find(spec.job_id) is not None:
            return False
        entry = self._state().jobs[spec.job_id] = JobEntry(epoch=epoch, generation=1)
        self._acknowledged.restart(spec.job_id, 1)  # an earlier job with this id may have expired
        entry.record, entry.submitted_at, entry.spec = pack(record), spec.submitted_at, spec
        entry.splits = {task_id(TaskKind.MAP, split.index): split for split in splits}
        entry.open = True
        return True

    async def save_job(self, record: JobRecord, tasks: Iterable[TaskRecord], epoch: int) -> None:
        entry = self._write(record.job_id, epoch)
        entry.record = pack(record)
        entry.tasks.update({task.task_id: pack(task) for task in tasks})

    async def end_job(
        self,
        record: JobRecord,
        tasks: Iterable[TaskRecord],
        epoch: int,
        history_seconds: float,
        resume_seconds: float = 0.0,
    ) -> None:
        """As the port says; a map-only job's map results stay, as they are its parts."""
        entry = self._write(record.job_id, epoch, repairs=True)
        entry.record = pack(record)
        entry.tasks.update({task.task_id: pack(task) for task in tasks})
        entry.open = False
        entry.submitted_at = entry.submitted_at or record.submitted_at
        if not record.kept or resume_seconds <= 0:
            entry.results[TaskKind.MAP if record.reduces > 0 else TaskKind.REDUCE] = {}
        if resume_seconds <= 0:
            entry.drop_kept()
        entry.kept_until = self._now() + resume_seconds
        entry.expires_at = self._now() + history_seconds

    async def ended_job(self, job: JobId) -> RestoredJob | None:
        entry = self._find(job)
        if entry is None or entry.open or entry.spec is None:
            return None
        return _read_whole(entry, entry.spec)

    async def resume_job(self, job: RestoredJob, kept: Collection[TaskId], epoch: int) -> RestoredJob | None:
        name = job.spec.job_id
        entry = self._find(name)
        if entry is None or entry.open or entry.spec is None:
            return None
        entry = self._write(name, epoch)
        entry.record, entry.spec, entry.open = pack(job.record), job.spec, True
        entry.resumed = job.spec.resumed
        entry.kept_until = entry.expires_at = float("inf")
        for task, record in job.tasks.items():
            entry.tasks[task] = pack(record)
            results = entry.results[task_kind(task)]
            claim = claims.resume(
                entry.claims.get(task, Claim()), task in kept and task in results, record.attempt
            )
            if not claim.winner:
                results.pop(task, None)
            if claim != Claim():
                entry.claims[task] = claim
        return _read_whole(entry, entry.spec)

    async def reopen(self, job: JobId, lost: Mapping[TaskId, Placement], epoch: int) -> None:
        entry = self._write(job, epoch)
        for task, place in lost.items():
            claim = entry.claims.get(task, Claim())
            data = entry.results[TaskKind.MAP].get(task)
            recorded = place if data is None else recorded_placement(unpack(data, TaskResult))
            if entry.open and claims.is_placed(claim, recorded, place):
                entry.claims[task] = claims.reopen(claim, place.attempt)
                entry.results[TaskKind.MAP].pop(task, None)

    async def speculate(self, job: JobId, tasks: Sequence[TaskId], epoch: int) -> None:
        entry = self._write(job, epoch)
        for task in tasks:
            if entry.open:
                entry.claims[task] = claims.speculate(entry.claims.get(task, Claim()))

    async def release_dead(
        self, job: JobId, leases: Iterable[tuple[TaskId, Incarnation]], epoch: int
    ) -> None:
        entry = self._write(job, epoch)
        for task, incarnation in leases:
            if entry.open and task in entry.claims:
                entry.claims[task] = claims.release_dead(entry.claims[task], incarnation)

    async def outcomes(self, job: JobId, tasks: Sequence[TaskId]) -> Mapping[TaskId, Outcome]:
        entry = self._find_current(job)
        found: dict[TaskId, Outcome] = {}
        for task in tasks:
            data = entry.results[task_kind(task)].get(task)
            result = None if data is None else unpack(data, TaskResult)
            found[task] = Outcome(entry.claims.get(task, Claim()), result)
        return found

    async def restore(
        self, epoch: int, known: Collection[JobId] = ()
    ) -> Sequence[RestoredJob | UnreadableJob]:
        restored: list[RestoredJob | UnreadableJob] = []
        for job, entry in sorted(self._state().jobs.items(), key=lambda item: item[1].submitted_at):
            if not entry.open or entry.spec is None or job in known:
                continue
            _check_epoch(job, entry, epoch)
            entry.epoch, entry.generation = epoch, entry.generation + 1
            self._acknowledged.restart(job, entry.generation)
            try:
                restored.append(_read_whole(entry, entry.spec))
            except BadMessage as error:
                record = self._reader.read(entry.record, JobRecord, f"the record of job {job}")
                restored.append(UnreadableJob(job, str(error), record))
        return restored

    async def forgotten(self, jobs: Iterable[JobId]) -> Sequence[JobId]:
        entries = {job: self._find(job) or JobEntry() for job in jobs}
        return [job for job, entry in entries.items() if entry.generation < self._acknowledged.of(job)]

    async def rewrite(self, job: RestoredJob, epoch: int, lease_seconds: float) -> None:
        entry = self._write(job.spec.job_id, epoch, repairs=True)
        if not entry.open or entry.resumed < job.spec.resumed:
            fresh = JobEntry(epoch=entry.epoch, generation=entry.generation, resumed=job.spec.resumed)
            entry = self.server.jobs[job.spec.job_id] = fresh
        entry.record, entry.submitted_at, entry.spec = pack(job.record), job.spec.submitted_at, job.spec
        entry.splits = {task_id(TaskKind.MAP, split.index): split for split in job.splits}
        entry.tasks.update({task: pack(record) for task, record in job.tasks.items()})
        entry.open, entry.expires_at = True, float("inf")
        expires_ms = self._now_ms() + int(lease_seconds * 1000)
        for task, known in job.claims.items():
            before = entry.claims.get(task, Claim())
            after = entry.claims[task] = claims.catch_up(before, known, expires_ms)
            results = entry.results[task_kind(task)]
            if not after.winner:
                results.pop(task, None)
            elif before.winner <= after.fenced_attempt:
                results[task] = pack(job.results[task])

    async def prune_jobs(self) -> None:
        for job in list(self._state().jobs):
            self._find(job)

    async def put_refusal(self, refusal: Refusal, keep_seconds: float) -> None:
        refusals = self._state().refusals
        refusals.pop(refusal.job_id, None)
        refusals[refusal.job_id] = (pack(refusal), self._now() + keep_seconds)
        for oldest in list(refusals)[:-MAX_REFUSALS]:
            del refusals[oldest]


def _check_epoch(job: JobId, entry: JobEntry, epoch: int) -> None:
    if entry.epoch > epoch:
        raise Deposed(f"job {job} was written by epoch {entry.epoch}; this coordinator has {epoch}")


def _read_whole(entry: JobEntry, spec: JobSpec) -> RestoredJob:
    results = {**entry.results[TaskKind.MAP], **entry.results[TaskKind.REDUCE]}
    return RestoredJob(
        record=unpack(entry.record, JobRecord),
        spec=spec,
        splits=tuple(sorted(entry.splits.values(), key=lambda split: split.index)),
        tasks={task: unpack(data, TaskRecord) for task, data in in_task_order(entry.tasks).items()},
        claims=in_task_order(entry.claims),
        results={task: unpack(data, TaskResult) for task, data in in_task_order(results).items()},
    )
