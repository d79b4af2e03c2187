"""Jobs as everybody reads them."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from mr.adapters.acknowledged_writes import AcknowledgedWrites
from mr.adapters.lenient_reader import LenientReader
from mr.adapters.redis import keys
from mr.adapters.redis.client import RedisClient, text_of
from mr.errors import StoreBehind
from mr.ports.jobs import JobStore
from mr.protocol.claims import Claim
from mr.protocol.codec import unpack
from mr.protocol.ids import JobId, TaskId, TaskKind, in_task_order
from mr.protocol.jobs import JobSpec
from mr.protocol.locations import PackedOutputs
from mr.protocol.records import JobRecord, Refusal, TaskRecord, TaskResult

T = TypeVar("T")

#: Field of the claims hash that exists while the job may run tasks.
OPEN_FIELD = b"open"


class RedisJobs(JobStore):
    """The JobStore port on Redis."""

    _client: RedisClient
    _reader: LenientReader
    _acknowledged: AcknowledgedWrites

    async def _job_ids(self, command: str) -> list[JobId]:
        """The ids of all jobs in the index, in the order of `command`."""
        index = await self._client.command(command, keys.JOBS_KEY, 0, -1)
        return [JobId(name) for name in self._reader.ids(index, "in the list of jobs,")]

    async def _read_current(self, job: JobId, reads: Sequence[Sequence[Any]]) -> list[Any]:
        """Read from a job in one transaction. Raises StoreBehind when acknowledged writes are missing."""
        known = self._acknowledged.of(job)
        generation, *found = await self._client.commands(
            [("HGET", keys.job_key(job), "generation"), *reads], atomic=True
        )
        if int(generation or 0) < known:
            raise StoreBehind(f"the store has lost what it had acknowledged of job {job}")
        return found

    async def get_job(self, job: JobId) -> JobRecord | None:
        data = await self._client.command("HGET", keys.job_key(job), "record")
        return None if data is None else unpack(data, JobRecord)

    async def list_jobs(self) -> Sequence[JobRecord]:
        index = await self._job_ids("ZREVRANGE")
        found = await self._client.each(index, lambda job: ("HGET", keys.job_key(job), "record"))
        records = [
            self._reader.read(data, JobRecord, f"job {job}") for job, data in found if data is not None
        ]
        return [record for record in records if record is not None]

    async def get_spec(self, job: JobId) -> JobSpec | None:
        data = await self._client.command("GET", keys.spec_key(job))
        return None if data is None else unpack(data, JobSpec)

    async def get_tasks(self, job: JobId) -> Sequence[TaskRecord]:
        return list(by_task(await self._client.command("HGETALL", keys.tasks_key(job)), TaskRecord).values())

    async def get_results(self, job: JobId, kind: TaskKind) -> Mapping[TaskId, TaskResult]:
        return by_task(await self._client.command("HGETALL", keys.results_key(job, kind)), TaskResult)

    async def map_outputs(self, job: JobId) -> PackedOutputs:
        return PackedOutputs(*await self._client.script("map_outputs", [keys.locations_key(job)], []))

    async def claims(self, job: JobId) -> Mapping[TaskId, Claim]:
        (found,) = await self._read_current(job, [("HGETALL", keys.claims_key(job))])
        return by_task(found, Claim)

    async def get_logs(self, job: JobId) -> Mapping[str, str]:
        found = await self._client.command("HGETALL", keys.logs_key(job))
        return dict(sorted((text_of(field), text_of(text)) for field, text in found.items()))

    async def get_refusal(self, job: JobId) -> Refusal | None:
        data = await self._client.command("HGET", keys.REFUSED_KEY, job)
        return None if data is None else unpack(data, Refusal)


def by_task(found: Mapping[bytes, bytes], kind: type[T]) -> dict[TaskId, T]:
    """Decode a hash of task id -> record, in order of kind and index."""
    fields = {
        TaskId(field.decode(errors="backslashreplace")): data
        for field, data in found.items()
        if field != OPEN_FIELD
    }
    return {task: unpack(data, kind) for task, data in in_task_order(fields).items()}
