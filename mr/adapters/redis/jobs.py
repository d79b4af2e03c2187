"""Jobs as the coordinator writes them and as everybody reads them."""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, TypeVar

from mr.adapters.acknowledged_writes import AcknowledgedWrites
from mr.adapters.lenient_reader import LenientReader
from mr.adapters.redis import keys
from mr.adapters.redis.client import RedisLink, flatten
from mr.adapters.redis.leadership import milliseconds
from mr.errors import BadMessage, Deposed, StoreBehind
from mr.ports.jobs import RestoredJob
from mr.protocol.claims import RELEASED_KEPT, Claim, Placement
from mr.protocol.codec import pack, unpack
from mr.protocol.ids import Incarnation, JobId, TaskId, TaskKind, in_task_order, task_id, task_kind
from mr.protocol.jobs import JobSpec, Split
from mr.protocol.locations import PackedOutputs, result_locations
from mr.protocol.records import JobRecord, Outcome, TaskRecord, TaskResult

T = TypeVar("T")

#: Records fetched in one round trip.
READ_CHUNK = 500
#: An index entry without a record is dropped at this age: younger ones may be about to be written.
ORPHAN_SECONDS = 3600.0
#: Field of the claims hash that exists while the job may run tasks.
OPEN_FIELD = b"open"


def _packed_tasks(tasks: Iterable[TaskRecord]) -> list[str | bytes]:
    return flatten({task.task_id: pack(task) for task in tasks})


def _packed_splits(splits: Sequence[Split]) -> dict[TaskId, bytes]:
    return {task_id(TaskKind.MAP, split.index): pack(split) for split in splits}


class JobWrites:
    """The coordinator's writes: one script each, refused to a deposed one and by a store that is behind."""

    _link: RedisLink
    _reader: LenientReader
    _acknowledged: AcknowledgedWrites

    async def _write(
        self, name: str, job: JobId, script_keys: Sequence[str], epoch: int, arguments: Sequence[Any]
    ) -> None:
        """Run a script that writes a job, given the epoch and the generation. Raises Deposed, StoreBehind."""
        known = self._acknowledged.of(job)
        answer = await self._link.script(name, script_keys, [epoch, known, *arguments])
        if answer == b"behind":
            raise StoreBehind(f"the store has lost what it had acknowledged of job {job}")
        self._acknowledged.note(job, _generation(job, epoch, answer))

    async def _index(self, job: JobId, submitted_at: float) -> None:
        """Enter a job into the list of jobs: before its record, so that none is ever missed."""
        await self._link.command("ZADD", keys.JOBS_KEY, "NX", submitted_at, job)

    async def create_job(self, spec: JobSpec, splits: Sequence[Split], record: JobRecord, epoch: int) -> bool:
        """Write a new job and open its claims. False: the id exists already."""
        job = spec.job_id
        await self._index(job, spec.submitted_at)
        script_keys = [keys.job_key(job), keys.spec_key(job), keys.splits_key(job), keys.claims_key(job)]
        arguments = [uuid.uuid4().hex, pack(record), pack(spec), *flatten(_packed_splits(splits))]
        answer = await self._link.script("create_job", script_keys, [epoch, *arguments])
        if answer == b"exists":
            return False
        self._acknowledged.restart(job, answer)  # not `note`: an earlier job of this id may have expired
        return True

    async def save_job(self, record: JobRecord, tasks: Iterable[TaskRecord], epoch: int) -> None:
        """Write a job's record and those of its changed tasks, in one step."""
        script_keys = [keys.job_key(record.job_id), keys.tasks_key(record.job_id)]
        await self._write(
            "save_job", record.job_id, script_keys, epoch, [pack(record), *_packed_tasks(tasks)]
        )

    async def reopen(self, job: JobId, lost: Mapping[TaskId, Placement], epoch: int) -> None:
        """Declare committed map outputs lost; one that is no longer where it is said to be stays."""
        script_keys = [keys.job_key(job), keys.claims_key(job), keys.results_key(job, TaskKind.MAP)]
        script_keys += [keys.locations_key(job)]
        places = [word for task, at in lost.items() for word in (task, at.attempt, at.incarnation)]
        await self._write("reopen", job, script_keys, epoch, places)

    async def speculate(self, job: JobId, tasks: Sequence[TaskId], epoch: int) -> None:
        """Allow each of these tasks a second holder."""
        await self._write("speculate", job, [keys.job_key(job), keys.claims_key(job)], epoch, tasks)

    async def release_dead(
        self, job: JobId, leases: Iterable[tuple[TaskId, Incarnation]], epoch: int
    ) -> None:
        """Give the leases of dead lives back."""
        script_keys = [keys.job_key(job), keys.claims_key(job)]
        await self._write("release_dead", job, script_keys, epoch, [RELEASED_KEPT, *chain(*leases)])

    async def end_job(
        self, record: JobRecord, tasks: Iterable[TaskRecord], epoch: int, history_seconds: float
    ) -> None:
        """Write the final records and close the claims; what stays expires. A map-only job's parts stay."""
        job = record.job_id
        maps, reduces = (keys.results_key(job, kind) for kind in TaskKind)
        script_keys = [keys.job_key(job), keys.tasks_key(job), keys.logs_key(job)]
        script_keys += [reduces if record.reduces > 0 else maps]
        script_keys += [
            keys.claims_key(job),
            keys.spec_key(job),
            keys.splits_key(job),
            keys.locations_key(job),
        ]
        script_keys += [maps] if record.reduces > 0 else []
        arguments = [pack(record), milliseconds(history_seconds), *_packed_tasks(tasks)]
        await self._write("end_job", job, script_keys, epoch, arguments)

    async def restore(self, epoch: int) -> Sequence[RestoredJob]:
        """Read every unfinished job and raise its epoch to ours, oldest first."""
        restored = []
        for job in await self._unfinished():
            script_keys = [keys.job_key(job), keys.claims_key(job)]
            try:
                answer = await self._link.script("adopt_job", script_keys, [epoch])
                if answer != b"ended":
                    self._acknowledged.restart(job, _generation(job, epoch, answer))
                    restored.append(await self._read_whole(job))
            except BadMessage as error:
                self._reader.tell(f"unfinished job {job}", error)
        return restored

    async def _unfinished(self) -> list[JobId]:
        """The jobs whose tasks may run, oldest first: few of a long history."""
        index = await _jobs_of(self._link, self._reader, "ZRANGE")
        jobs: list[JobId] = []
        for start in range(0, len(index), READ_CHUNK):
            chunk = index[start : start + READ_CHUNK]
            opened = await self._link.each([("HEXISTS", keys.claims_key(job), OPEN_FIELD) for job in chunk])
            for job, is_open in zip(chunk, opened, strict=True):
                if isinstance(is_open, BadMessage):
                    self._reader.tell(f"job {job}", is_open)
                elif is_open:
                    jobs.append(job)
        return jobs

    async def prune_jobs(self) -> None:
        """Drop from the list of jobs those whose record expired."""
        seconds, _ = await self._link.command("TIME")
        old = await self._link.command("ZRANGEBYSCORE", keys.JOBS_KEY, "-inf", seconds - ORPHAN_SECONDS)
        for start in range(0, len(old), READ_CHUNK):
            chunk = old[start : start + READ_CHUNK]
            known = await self._link.commands(
                [("EXISTS", keys.job_key(JobId(name.decode(errors="replace")))) for name in chunk]
            )
            orphans = [name for name, exists in zip(chunk, known, strict=True) if not exists]
            if orphans:
                await self._link.command("ZREM", keys.JOBS_KEY, *orphans)

    async def _read_whole(self, job: JobId) -> RestoredJob:
        hashes = [keys.splits_key(job), keys.tasks_key(job), keys.claims_key(job)]
        hashes += [keys.results_key(job, kind) for kind in TaskKind]
        reads = [("HGET", keys.job_key(job), "record"), ("GET", keys.spec_key(job))]
        record, spec, splits, tasks, claims, maps, reduces = await self._link.commands(
            [*reads, *(("HGETALL", key) for key in hashes)], atomic=True
        )
        return RestoredJob(
            record=unpack(record, JobRecord),
            spec=unpack(spec, JobSpec),
            splits=tuple(sorted((unpack(s, Split) for s in splits.values()), key=lambda s: s.index)),
            tasks=_by_task(tasks, TaskRecord),
            claims=_by_task(claims, Claim),
            results=_by_task({**maps, **reduces}, TaskResult),
        )

    async def forgotten(self, jobs: Iterable[JobId]) -> Sequence[JobId]:
        """Those of these jobs of which the server has lost writes that it had acknowledged."""
        known = list(jobs)
        found: list[JobId] = []
        for start in range(0, len(known), READ_CHUNK):
            chunk = known[start : start + READ_CHUNK]
            stored = await self._link.commands([("HGET", keys.job_key(job), "generation") for job in chunk])
            found += [
                job for job, n in zip(chunk, stored, strict=True) if int(n or 0) < self._acknowledged.of(job)
            ]
        return found

    async def rewrite(self, job: RestoredJob, epoch: int, lease_seconds: float) -> None:
        """Raise an unfinished job to what is known of it; what the server knows beyond that stays."""
        name = job.spec.job_id
        await self._index(name, job.spec.submitted_at)
        script_keys = [keys.job_key(name), keys.spec_key(name), keys.claims_key(name)]
        script_keys += [keys.splits_key(name), keys.tasks_key(name)]
        script_keys += [*(keys.results_key(name, kind) for kind in TaskKind), keys.locations_key(name)]
        arguments: list[str | bytes | int] = [milliseconds(lease_seconds), pack(job.record), pack(job.spec)]
        arguments.append(len(job.claims))
        for task, claim in job.claims.items():
            result = job.results.get(task)
            where = 6 if task_kind(task) is TaskKind.MAP else 7
            fields = {} if result is None else result_locations(result)
            place = next((field for field in fields if field != task), "")
            arguments += [task, pack(claim), where, b"" if result is None else pack(result)]
            arguments += [fields.get(task, b""), place, fields.get(place, b"")]
        for task, split in _packed_splits(job.splits).items():
            arguments += [4, task, split]
        for task, record in job.tasks.items():
            arguments += [5, task, pack(record)]
        await self._write("rewrite_job", name, script_keys, epoch, arguments)


def _generation(job: JobId, epoch: int, answer: Any) -> int:
    """The new generation out of a script's answer. Raises Deposed."""
    if answer == b"deposed":
        raise Deposed(f"job {job} was written by a newer coordinator than epoch {epoch}")
    return int(answer)


async def _jobs_of(link: RedisLink, reader: LenientReader, command: str) -> list[JobId]:
    """The ids of all jobs in the index, in the order of `command`."""
    index = await link.command(command, keys.JOBS_KEY, 0, -1)
    return [JobId(name) for name in reader.ids(index, "in the list of jobs,")]


def _by_task(found: Mapping[bytes, bytes], kind: type[T]) -> dict[TaskId, T]:
    """Decode a hash of task id -> record, in order of kind and index."""
    fields = {
        TaskId(field.decode(errors="backslashreplace")): data
        for field, data in found.items()
        if field != OPEN_FIELD
    }
    return {task: unpack(data, kind) for task, data in in_task_order(fields).items()}


class JobReads:
    """What everybody may read of jobs."""

    _link: RedisLink
    _reader: LenientReader
    _acknowledged: AcknowledgedWrites

    async def claims(self, job: JobId) -> Mapping[TaskId, Claim]:
        """All claims of a job that were ever asked for."""
        (found,) = await self._read_current(job, [("HGETALL", keys.claims_key(job))])
        return _by_task(found, Claim)

    async def _read_current(self, job: JobId, reads: Sequence[Sequence[Any]]) -> list[Any]:
        """Read of one job, in one transaction. Raises StoreBehind when acknowledged writes are missing."""
        known = self._acknowledged.of(job)
        generation, *found = await self._link.commands(
            [("HGET", keys.job_key(job), "generation"), *reads], atomic=True
        )
        if int(generation or 0) < known:
            raise StoreBehind(f"the store has lost what it had acknowledged of job {job}")
        return found

    async def outcomes(self, job: JobId, tasks: Sequence[TaskId]) -> Mapping[TaskId, Outcome]:
        """What is recorded of each of these tasks, in one transaction."""
        script_keys = [keys.claims_key(job), *(keys.results_key(job, kind) for kind in TaskKind)]
        reads = [("HMGET", key, *tasks) for key in script_keys] if tasks else []
        claims, *results = await self._read_current(job, reads) or ([], [], [])
        found: dict[TaskId, Outcome] = {}
        for task, claim, *kinds in zip(tasks, claims, *results, strict=True):
            result = next((data for data in kinds if data is not None), None)
            found[task] = Outcome(
                Claim() if claim is None else unpack(claim, Claim),
                None if result is None else unpack(result, TaskResult),
            )
        return found

    async def get_job(self, job: JobId) -> JobRecord | None:
        """A job's record."""
        data = await self._link.command("HGET", keys.job_key(job), "record")
        return None if data is None else unpack(data, JobRecord)

    async def list_jobs(self) -> Sequence[JobRecord]:
        """All jobs still remembered, newest first."""
        index = await _jobs_of(self._link, self._reader, "ZREVRANGE")
        records: list[JobRecord] = []
        for start in range(0, len(index), READ_CHUNK):
            chunk = index[start : start + READ_CHUNK]
            found = await self._link.each([("HGET", keys.job_key(job), "record") for job in chunk])
            read = (
                self._reader.read(data, JobRecord, f"job {job}")
                for job, data in zip(chunk, found, strict=True)
                if data is not None
            )
            records += [record for record in read if record is not None]
        return records

    async def get_spec(self, job: JobId) -> JobSpec | None:
        """An unfinished job's spec."""
        data = await self._link.command("GET", keys.spec_key(job))
        return None if data is None else unpack(data, JobSpec)

    async def get_tasks(self, job: JobId) -> Sequence[TaskRecord]:
        """The accounts of all tasks of a job, in order of task id."""
        return list(_by_task(await self._link.command("HGETALL", keys.tasks_key(job)), TaskRecord).values())

    async def get_results(self, job: JobId, kind: TaskKind) -> Mapping[TaskId, TaskResult]:
        """The committed results of one kind of task."""
        return _by_task(await self._link.command("HGETALL", keys.results_key(job, kind)), TaskResult)

    async def map_outputs(self, job: JobId) -> PackedOutputs:
        """Where the committed map outputs lie."""
        return PackedOutputs(*await self._link.script("map_outputs", [keys.locations_key(job)], []))
