"""Jobs as everybody reads them."""

from collections.abc import Mapping, Sequence

from mr.adapters.memory.client import MemoryClient
from mr.adapters.memory.state import JobEntry
from mr.ports.jobs import JobStore
from mr.protocol.claims import Claim
from mr.protocol.codec import unpack
from mr.protocol.ids import JobId, TaskId, TaskKind, in_task_order
from mr.protocol.jobs import JobSpec
from mr.protocol.locations import PackedOutputs, pack_outputs
from mr.protocol.records import JobRecord, MapOutput, Refusal, TaskRecord, TaskResult


class MemoryJobs(MemoryClient, JobStore):
    """The JobStore port in memory."""

    async def get_job(self, job: JobId) -> JobRecord | None:
        entry = self._find(job)
        return None if entry is None or not entry.record else unpack(entry.record, JobRecord)

    async def list_jobs(self) -> Sequence[JobRecord]:
        known = sorted(self._state().jobs, key=lambda job: (-self.server.jobs[job].submitted_at, job))
        entries = [(job, entry) for job in known if (entry := self._find(job)) is not None and entry.record]
        records = [self._reader.read(entry.record, JobRecord, f"job {job}") for job, entry in entries]
        return [record for record in records if record is not None]

    async def get_spec(self, job: JobId) -> JobSpec | None:
        return (self._find(job) or JobEntry()).spec

    async def get_tasks(self, job: JobId) -> Sequence[TaskRecord]:
        tasks = in_task_order((self._find(job) or JobEntry()).tasks)
        return [unpack(data, TaskRecord) for data in tasks.values()]

    async def get_results(self, job: JobId, kind: TaskKind) -> Mapping[TaskId, TaskResult]:
        results = in_task_order((self._find(job) or JobEntry()).results[kind])
        return {task: unpack(data, TaskResult) for task, data in results.items()}

    async def map_outputs(self, job: JobId) -> PackedOutputs:
        results = await self.get_results(job, TaskKind.MAP)
        return pack_outputs(r.output for r in results.values() if isinstance(r.output, MapOutput))

    async def claims(self, job: JobId) -> Mapping[TaskId, Claim]:
        return in_task_order(self._find_current(job).claims)

    async def get_logs(self, job: JobId) -> Mapping[str, str]:
        return dict(sorted((self._find(job) or JobEntry()).logs.items()))

    async def get_refusal(self, job: JobId) -> Refusal | None:
        packed, until = self._state().refusals.get(job, (b"", 0.0))
        return unpack(packed, Refusal) if until > self._now() else None
