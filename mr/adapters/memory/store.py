"""The StateStore port inside one process: claims by the pure functions of `mr.protocol.claims`."""

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import msgspec

from mr.adapters.acknowledged_writes import AcknowledgedWrites
from mr.adapters.lenient_reader import LenientReader
from mr.adapters.memory.code import CodeMethods
from mr.adapters.memory.leadership import LeadMethods
from mr.adapters.memory.notices import NoticeMethods
from mr.adapters.memory.orders import OrderMethods
from mr.adapters.memory.state import JobEntry, MemoryStoreServer
from mr.adapters.memory.workers import WorkerMethods
from mr.errors import BadMessage, Deposed, StoreBehind, StoreUnavailable
from mr.ports.claims import LOGS_FULL, ClaimReply
from mr.ports.jobs import RestoredJob
from mr.protocol import claims
from mr.protocol.claims import Claim, Placement, Verdict
from mr.protocol.codec import pack, unpack
from mr.protocol.ids import (
    Incarnation,
    JobId,
    TaskId,
    TaskKind,
    WorkerId,
    in_task_order,
    task_id,
    task_kind,
)
from mr.protocol.jobs import JobSpec, Split
from mr.protocol.locations import PackedOutputs, pack_outputs
from mr.protocol.records import JobRecord, MapOutput, Outcome, TaskRecord, TaskResult


class MemoryStore(LeadMethods, NoticeMethods, CodeMethods, WorkerMethods, OrderMethods):
    """One client's view of a `MemoryStoreServer`; without one it makes its own.

    `now` is the store's clock, in seconds since the epoch.
    """

    def __init__(self, now: Callable[[], float] = time.time, server: MemoryStoreServer | None = None) -> None:
        self.server = server or MemoryStoreServer()
        self._now = now
        self._connected = False
        self._reader = LenientReader()
        self._acknowledged = AcknowledgedWrites()

    async def connect(self) -> None:
        """Connect; cannot fail."""
        self._connected = True

    async def close(self) -> None:
        """Disconnect."""
        self._connected = False

    async def warnings(self) -> Sequence[str]:
        """Nothing to warn of: what is in memory ends with the process anyway."""
        self._state()
        return ()

    async def server_time(self) -> float:
        """Seconds since the epoch, by the clock given."""
        self._state()
        return self._now()

    def _state(self) -> MemoryStoreServer:
        if not self._connected:
            raise StoreUnavailable("the store connection is closed")
        return self.server

    def _now_ms(self) -> int:
        return int(self._now() * 1000)

    def _find(self, job: JobId) -> JobEntry | None:
        entry = self._state().jobs.get(job)
        if entry is not None and entry.expires_at <= self._now():
            del self.server.jobs[job]
            return None
        return entry

    def _write(self, job: JobId, epoch: int, *, mends: bool = False) -> JobEntry:
        """Fetch a job's entry for a coordinator's write, made if need be. Raises Deposed, StoreBehind.

        `mends`: the write leaves nothing lost, however much the server had lost.
        """
        entry = self._find(job) or JobEntry()
        if entry.epoch > epoch:
            raise Deposed(f"job {job} was written by epoch {entry.epoch}; this coordinator has {epoch}")
        known = self._acknowledged.of(job)
        if not mends:
            self._check_generation(job, entry)
        entry.epoch = epoch
        entry.generation = max(entry.generation, known) + 1
        self._state().jobs[job] = entry
        self._acknowledged.note(job, entry.generation)
        return entry

    def _check_generation(self, job: JobId, entry: JobEntry) -> None:
        if entry.generation < self._acknowledged.of(job):
            raise StoreBehind(f"the store has lost what it had acknowledged of job {job}")

    # --- jobs, as the coordinator writes them

    async def create_job(self, spec: JobSpec, splits: Sequence[Split], record: JobRecord, epoch: int) -> bool:
        """Write a new job and open its claims. False: the id exists already."""
        if self._find(spec.job_id) is not None:
            return False
        entry = self._write(spec.job_id, epoch, mends=True)
        entry.record, entry.submitted_at, entry.spec = pack(record), spec.submitted_at, spec
        entry.splits = {task_id(TaskKind.MAP, split.index): split for split in splits}
        entry.open = True
        return True

    async def save_job(self, record: JobRecord, tasks: Iterable[TaskRecord], epoch: int) -> None:
        """Write a job's record and those of its changed tasks."""
        entry = self._write(record.job_id, epoch)
        entry.record = pack(record)
        entry.tasks.update({task.task_id: pack(task) for task in tasks})

    async def reopen(self, job: JobId, lost: Mapping[TaskId, Placement], epoch: int) -> None:
        """Declare committed map outputs lost; one that is no longer where it is said to be stays."""
        entry = self._write(job, epoch)
        for task, place in lost.items():
            claim = entry.claims.get(task, Claim())
            data = entry.results[TaskKind.MAP].get(task)
            recorded = place if data is None else _placement(unpack(data, TaskResult))
            if entry.open and claims.is_placed(claim, recorded, place):
                entry.claims[task] = claims.reopen(claim, place.attempt)
                entry.results[TaskKind.MAP].pop(task, None)

    async def speculate(self, job: JobId, tasks: Sequence[TaskId], epoch: int) -> None:
        """Allow each of these tasks a second holder."""
        entry = self._write(job, epoch)
        for task in tasks:
            if entry.open:
                entry.claims[task] = claims.speculate(entry.claims.get(task, Claim()))

    async def release_dead(
        self, job: JobId, leases: Iterable[tuple[TaskId, Incarnation]], epoch: int
    ) -> None:
        """Give the leases of dead lives back."""
        entry = self._write(job, epoch)
        for task, incarnation in leases:
            if entry.open and task in entry.claims:
                entry.claims[task] = claims.release_dead(entry.claims[task], incarnation)

    async def end_job(
        self, record: JobRecord, tasks: Iterable[TaskRecord], epoch: int, history_seconds: float
    ) -> None:
        """Write the final records and close the claims; what stays expires."""
        entry = self._write(record.job_id, epoch, mends=True)
        entry.record = pack(record)
        entry.tasks.update({task.task_id: pack(task) for task in tasks})
        entry.open, entry.spec = False, None
        entry.splits, entry.claims = {}, {}
        if record.reduces > 0:
            entry.results[TaskKind.MAP] = {}
        entry.expires_at = self._now() + history_seconds

    async def restore(self, epoch: int) -> Sequence[RestoredJob]:
        """Read every unfinished job and raise its epoch to ours."""
        restored = []
        for job, entry in sorted(self._state().jobs.items(), key=lambda item: item[1].submitted_at):
            if not entry.open or entry.spec is None:
                continue
            self._write(job, epoch, mends=True)
            self._acknowledged.restart(job, entry.generation)
            try:
                restored.append(_read_whole(entry, entry.spec))
            except BadMessage as error:
                self._reader.tell(f"unfinished job {job}", error)
        return restored

    async def forgotten(self, jobs: Iterable[JobId]) -> Sequence[JobId]:
        """Those of these jobs of which the server has lost writes that it had acknowledged."""
        entries = {job: self._find(job) or JobEntry() for job in jobs}
        return [job for job, entry in entries.items() if entry.generation < self._acknowledged.of(job)]

    async def rewrite(self, job: RestoredJob, epoch: int, lease_seconds: float) -> None:
        """Raise an unfinished job to what is known of it; what the server knows beyond that stays."""
        entry = self._write(job.spec.job_id, epoch, mends=True)
        if not entry.open:
            fresh = JobEntry(epoch=entry.epoch, generation=entry.generation)
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
        """Drop the jobs whose time is over."""
        for job in list(self._state().jobs):
            self._find(job)

    async def claims(self, job: JobId) -> Mapping[TaskId, Claim]:
        """All claims of a job that were ever asked for."""
        entry = self._find(job) or JobEntry()
        self._check_generation(job, entry)
        return in_task_order(entry.claims)

    async def outcomes(self, job: JobId, tasks: Sequence[TaskId]) -> Mapping[TaskId, Outcome]:
        """What is recorded of each of these tasks."""
        entry = self._find(job) or JobEntry()
        self._check_generation(job, entry)
        found: dict[TaskId, Outcome] = {}
        for task in tasks:
            data = entry.results[task_kind(task)].get(task)
            result = None if data is None else unpack(data, TaskResult)
            found[task] = Outcome(entry.claims.get(task, Claim()), result)
        return found

    # --- jobs, as everybody reads them

    async def get_job(self, job: JobId) -> JobRecord | None:
        """A job's record."""
        entry = self._find(job)
        return None if entry is None or not entry.record else unpack(entry.record, JobRecord)

    async def list_jobs(self) -> Sequence[JobRecord]:
        """All jobs still remembered, newest first."""
        known = sorted(self._state().jobs, key=lambda job: (-self.server.jobs[job].submitted_at, job))
        entries = [(job, entry) for job in known if (entry := self._find(job)) is not None and entry.record]
        records = [self._reader.read(entry.record, JobRecord, f"job {job}") for job, entry in entries]
        return [record for record in records if record is not None]

    async def get_spec(self, job: JobId) -> JobSpec | None:
        """An unfinished job's spec."""
        entry = self._find(job)
        return None if entry is None else entry.spec

    async def get_tasks(self, job: JobId) -> Sequence[TaskRecord]:
        """The accounts of all tasks of a job, in order of task id."""
        entry = self._find(job)
        return (
            []
            if entry is None
            else [unpack(data, TaskRecord) for data in in_task_order(entry.tasks).values()]
        )

    async def get_results(self, job: JobId, kind: TaskKind) -> Mapping[TaskId, TaskResult]:
        """The committed results of one kind of task."""
        entry = self._find(job)
        found = {} if entry is None else entry.results[kind]
        return {task: unpack(data, TaskResult) for task, data in in_task_order(found).items()}

    async def map_outputs(self, job: JobId) -> PackedOutputs:
        """Where the committed map outputs lie."""
        results = await self.get_results(job, TaskKind.MAP)
        return pack_outputs(r.output for r in results.values() if isinstance(r.output, MapOutput))

    # --- tasks, as workers see them

    async def claim(
        self, job: JobId, task: TaskId, worker: WorkerId, incarnation: Incarnation, lease_seconds: float
    ) -> ClaimReply:
        """Ask for the right to run a task. A map task without a split is GONE, too."""
        entry = self._find(job)
        kind = task_kind(task)
        if entry is None or not entry.open or (kind is TaskKind.MAP and task not in entry.splits):
            return ClaimReply(Verdict.GONE)
        before = entry.claims.get(task, Claim())
        verdict, after = claims.grant(before, worker, incarnation, self._now_ms(), int(lease_seconds * 1000))
        entry.claims[task] = after
        if verdict is Verdict.GRANTED:
            return ClaimReply(verdict, after.attempt, entry.splits.get(task))
        if verdict is Verdict.COMMITTED:
            try:
                result = unpack(entry.results[kind][task], TaskResult)
            except BadMessage as error:
                return ClaimReply(verdict, after.winner, unreadable=str(error))
            return ClaimReply(verdict, after.winner, result=result)
        return ClaimReply(verdict)

    async def renew(
        self, job: JobId, attempts: Mapping[TaskId, int], incarnation: Incarnation, lease_seconds: float
    ) -> Sequence[TaskId]:
        """Extend leases; returns the tasks that are to stop."""
        entry = self._find(job)
        if entry is None or not entry.open:
            return list(attempts)
        expires_ms = self._now_ms() + int(lease_seconds * 1000)
        stopped = []
        for task, attempt in attempts.items():
            after = claims.renew(entry.claims.get(task, Claim()), incarnation, attempt, expires_ms)
            if after is None:
                stopped.append(task)
            else:
                entry.claims[task] = after
        return stopped

    async def commit(self, job: JobId, task: TaskId, attempt: int, result: TaskResult) -> bool:
        """Record a result; False: another attempt's counts, or the job is over."""
        entry = self._find(job)
        if entry is None or not entry.open:
            return False
        before, results = entry.claims.get(task, Claim()), entry.results[task_kind(task)]
        after = claims.commit(before, attempt)
        if after is None or (before.winner == attempt and results.get(task) != pack(result)):
            return False
        entry.claims[task] = after
        results[task] = pack(result)
        return True

    async def relocate(
        self, job: JobId, moved: Mapping[TaskId, tuple[Placement, MapOutput]]
    ) -> Collection[TaskId]:
        """Record that committed map outputs lie elsewhere now; returns those that were where said."""
        entry = self._find(job)
        if entry is None or not entry.open:
            return []
        results = entry.results[TaskKind.MAP]
        relocated = []
        for task, (place, output) in moved.items():
            if task not in results:
                continue
            result = unpack(results[task], TaskResult)
            if claims.is_placed(entry.claims.get(task, Claim()), _placement(result), place):
                results[task] = pack(msgspec.structs.replace(result, output=output))
                relocated.append(task)
            elif result.output == output:
                relocated.append(task)
        return relocated

    async def release(self, job: JobId, task: TaskId, attempt: int) -> None:
        """Give the lease of a failed or stopped attempt back."""
        entry = self._find(job)
        if entry is not None and task in entry.claims:
            entry.claims[task] = claims.release(entry.claims[task], attempt)

    async def put_log(self, job: JobId, task: TaskId, attempt: int, text: str, limit_bytes: int) -> None:
        """Keep what an attempt printed, within the bound; of a job that is not known, nothing."""
        entry = self._find(job)
        if entry is None or entry.logs_full:
            return
        name = f"{task}/{attempt}"
        more_bytes = _text_bytes(text) - _text_bytes(entry.logs.get(name, ""))
        if entry.logs_bytes + more_bytes > limit_bytes:
            entry.logs_full, text = True, LOGS_FULL
        else:
            entry.logs_bytes += more_bytes
        entry.logs[name] = text

    async def get_logs(self, job: JobId) -> Mapping[str, str]:
        """What attempts printed, by `task id/attempt`."""
        entry = self._find(job)
        return {} if entry is None else dict(sorted(entry.logs.items()))


def _placement(result: TaskResult) -> Placement | None:
    """Where a map's output is recorded to be; None for an output part, which is in no worker's spool."""
    return result.output.placement if isinstance(result.output, MapOutput) else None


def _text_bytes(text: str) -> int:
    return len(text.encode(errors="replace"))


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
