"""Jobs as the coordinator writes them: a script each, fenced by epoch and generation."""

import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

from mr.adapters.redis import keys
from mr.adapters.redis.client import READ_CHUNK, flatten, milliseconds
from mr.adapters.redis.jobs import OPEN_FIELD, RedisJobs, by_task
from mr.errors import BadMessage, Deposed, StoreBehind
from mr.ports.scheduling import SchedulingStore
from mr.protocol.claims import RELEASED_KEPT, Claim, Placement
from mr.protocol.codec import pack, unpack
from mr.protocol.ids import Incarnation, JobId, TaskId, TaskKind, task_id, task_kind
from mr.protocol.jobs import JobSpec, Split
from mr.protocol.locations import result_locations
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

#: An index entry without a record is dropped at this age: the record of a younger one may still be written.
ORPHAN_SECONDS = 3600.0


class RedisScheduling(RedisJobs, SchedulingStore):
    """The SchedulingStore port on Redis."""

    async def _write(
        self, name: str, job: JobId, script_keys: Sequence[str], epoch: int, arguments: Sequence[Any]
    ) -> bool:
        """Run a script that writes a job, given the epoch and the generation. Raises Deposed, StoreBehind.

        False: the job is gone, and nothing was written.
        """
        known = self._acknowledged.of(job)
        answer = await self._client.script(name, script_keys, [epoch, known, *arguments])
        if answer == b"gone":
            return False
        if answer == b"behind":
            raise StoreBehind(f"the store has lost what it had acknowledged of job {job}")
        self._acknowledged.note(job, _generation(job, epoch, answer))
        return True

    async def _index(self, job: JobId, submitted_at: float) -> None:
        """Add a job to the list of jobs: before its record, so that no job is ever missing there."""
        await self._client.command("ZADD", keys.JOBS_KEY, "NX", submitted_at, job)

    async def create_job(self, spec: JobSpec, splits: Sequence[Split], record: JobRecord, epoch: int) -> bool:
        job = spec.job_id
        await self._index(job, spec.submitted_at)
        script_keys = [keys.job_key(job), keys.spec_key(job), keys.splits_key(job), keys.claims_key(job)]
        arguments = [uuid.uuid4().hex, pack(record), pack(spec), *flatten(_packed_splits(splits))]
        answer = await self._client.script("create_job", script_keys, [epoch, *arguments])
        if answer == b"exists":
            return False
        self._acknowledged.restart(job, answer)  # not `note`: an earlier job with this id may have expired
        return True

    async def save_job(self, record: JobRecord, tasks: Iterable[TaskRecord], epoch: int) -> None:
        script_keys = [keys.job_key(record.job_id), keys.tasks_key(record.job_id)]
        arguments = [pack(record), *_packed_tasks(tasks)]
        await self._write("save_job", record.job_id, script_keys, epoch, arguments)

    async def end_job(
        self,
        record: JobRecord,
        tasks: Iterable[TaskRecord],
        epoch: int,
        history_seconds: float,
        resume_seconds: float = 0.0,
    ) -> None:
        """As the port says; a map-only job's map results stay, as they are its parts."""
        job = record.job_id
        await self._index(job, record.submitted_at)  # the store may have been emptied meanwhile
        maps, reduces = (keys.results_key(job, kind) for kind in TaskKind)
        kept = [keys.job_key(job), keys.tasks_key(job), keys.logs_key(job)]
        needed = [keys.claims_key(job), keys.spec_key(job), keys.splits_key(job), keys.locations_key(job)]
        parts, others = (reduces, maps) if record.reduces > 0 else (maps, reduces)
        resume_ms = milliseconds(min(resume_seconds, history_seconds)) if resume_seconds > 0 else 0
        arguments = [pack(record), milliseconds(history_seconds), resume_ms, "1" if record.kept else ""]
        arguments += _packed_tasks(tasks)
        await self._write("end_job", job, [*kept, parts, *needed, others], epoch, arguments)

    async def ended_job(self, job: JobId) -> RestoredJob | None:
        spec, is_open = await self._client.commands(
            [("EXISTS", keys.spec_key(job)), ("HEXISTS", keys.claims_key(job), OPEN_FIELD)], atomic=True
        )
        return await self._read_whole(job) if spec and not is_open else None

    async def resume_job(self, job: RestoredJob, kept: Collection[TaskId], epoch: int) -> RestoredJob | None:
        name = job.spec.job_id
        script_keys = [keys.job_key(name), keys.spec_key(name), keys.claims_key(name), keys.splits_key(name)]
        script_keys += [keys.tasks_key(name), *(keys.results_key(name, kind) for kind in TaskKind)]
        script_keys += [keys.locations_key(name), keys.logs_key(name)]
        arguments: list[str | bytes | int] = [uuid.uuid4().hex, pack(job.record), pack(job.spec)]
        arguments.append(job.spec.resumed)
        for task, record in job.tasks.items():
            results = 6 if task_kind(task) is TaskKind.MAP else 7
            arguments += [task, pack(record), record.attempt, "1" if task in kept else "", results]
        opened = await self._write("resume_job", name, script_keys, epoch, arguments)
        return await self._read_whole(name) if opened else None

    async def reopen(self, job: JobId, lost: Mapping[TaskId, Placement], epoch: int) -> None:
        script_keys = [keys.job_key(job), keys.claims_key(job), keys.results_key(job, TaskKind.MAP)]
        script_keys += [keys.locations_key(job)]
        places = [word for task, at in lost.items() for word in (task, at.attempt, at.incarnation)]
        await self._write("reopen", job, script_keys, epoch, places)

    async def speculate(self, job: JobId, tasks: Sequence[TaskId], epoch: int) -> None:
        await self._write("speculate", job, [keys.job_key(job), keys.claims_key(job)], epoch, tasks)

    async def release_dead(
        self, job: JobId, leases: Iterable[tuple[TaskId, Incarnation]], epoch: int
    ) -> None:
        script_keys = [keys.job_key(job), keys.claims_key(job)]
        await self._write("release_dead", job, script_keys, epoch, [RELEASED_KEPT, *chain(*leases)])

    async def outcomes(self, job: JobId, tasks: Sequence[TaskId]) -> Mapping[TaskId, Outcome]:
        read_keys = [keys.claims_key(job), *(keys.results_key(job, kind) for kind in TaskKind)]
        reads = [("HMGET", key, *tasks) for key in read_keys] if tasks else []
        claims, *results = await self._read_current(job, reads) or ([], [], [])
        found: dict[TaskId, Outcome] = {}
        for task, claim, *kinds in zip(tasks, claims, *results, strict=True):
            result = next((data for data in kinds if data is not None), None)
            found[task] = Outcome(
                Claim() if claim is None else unpack(claim, Claim),
                None if result is None else unpack(result, TaskResult),
            )
        return found

    async def restore(
        self, epoch: int, known: Collection[JobId] = ()
    ) -> Sequence[RestoredJob | UnreadableJob]:
        restored: list[RestoredJob | UnreadableJob] = []
        for job in await self._unfinished():
            if job in known:
                continue
            script_keys = [keys.job_key(job), keys.claims_key(job)]
            try:
                answer = await self._client.script("adopt_job", script_keys, [epoch, 0])
                if answer != b"ended":
                    self._acknowledged.restart(job, _generation(job, epoch, answer))
                    restored.append(await self._read_whole(job))
            except BadMessage as error:
                restored.append(UnreadableJob(job, str(error), await self._readable_record(job)))
        return restored

    async def _readable_record(self, job: JobId) -> JobRecord | None:
        try:
            return await self.get_job(job)
        except BadMessage:
            return None

    async def _unfinished(self) -> list[JobId]:
        """The jobs whose tasks may run, oldest first."""
        index = await self._job_ids("ZRANGE")
        jobs: list[JobId] = []
        for job, is_open in await self._client.each(
            index, lambda job: ("HEXISTS", keys.claims_key(job), OPEN_FIELD)
        ):
            if isinstance(is_open, BadMessage):
                self._reader.tell(f"job {job}", is_open)
            elif is_open:
                jobs.append(job)
        return jobs

    async def _read_whole(self, job: JobId) -> RestoredJob:
        hashes = [keys.splits_key(job), keys.tasks_key(job), keys.claims_key(job)]
        hashes += [keys.results_key(job, kind) for kind in TaskKind]
        reads = [("HGET", keys.job_key(job), "record"), ("GET", keys.spec_key(job))]
        record, spec, splits, tasks, claims, maps, reduces = await self._client.commands(
            [*reads, *(("HGETALL", key) for key in hashes)], atomic=True
        )
        return RestoredJob(
            record=unpack(record, JobRecord),
            spec=unpack(spec, JobSpec),
            splits=tuple(sorted((unpack(s, Split) for s in splits.values()), key=lambda s: s.index)),
            tasks=by_task(tasks, TaskRecord),
            claims=by_task(claims, Claim),
            results=by_task({**maps, **reduces}, TaskResult),
        )

    async def forgotten(self, jobs: Iterable[JobId]) -> Sequence[JobId]:
        found: list[JobId] = []
        for job, generation in await self._client.each(
            list(jobs), lambda job: ("HGET", keys.job_key(job), "generation")
        ):
            if isinstance(generation, BadMessage):
                raise generation
            if int(generation or 0) < self._acknowledged.of(job):
                found.append(job)
        return found

    async def rewrite(self, job: RestoredJob, epoch: int, lease_seconds: float) -> None:
        name = job.spec.job_id
        await self._index(name, job.spec.submitted_at)
        script_keys = [keys.job_key(name), keys.spec_key(name), keys.claims_key(name)]
        script_keys += [keys.splits_key(name), keys.tasks_key(name)]
        script_keys += [*(keys.results_key(name, kind) for kind in TaskKind), keys.locations_key(name)]
        script_keys += [keys.logs_key(name)]
        arguments: list[str | bytes | int] = [milliseconds(lease_seconds), pack(job.record), pack(job.spec)]
        arguments += [job.spec.resumed, len(job.claims)]
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

    async def prune_jobs(self) -> None:
        """Remove from the list the jobs whose record has expired."""
        seconds, _ = await self._client.command("TIME")
        old = await self._client.command("ZRANGEBYSCORE", keys.JOBS_KEY, "-inf", seconds - ORPHAN_SECONDS)
        found = await self._client.each(
            old, lambda name: ("EXISTS", keys.job_key(JobId(name.decode(errors="replace"))))
        )
        orphans = [name for name, exists in found if not exists]
        for start in range(0, len(orphans), READ_CHUNK):
            await self._client.command("ZREM", keys.JOBS_KEY, *orphans[start : start + READ_CHUNK])

    async def put_refusal(self, refusal: Refusal, keep_seconds: float) -> None:
        arguments = [refusal.job_id, pack(refusal), milliseconds(keep_seconds), MAX_REFUSALS]
        await self._client.script("put_refusal", [keys.REFUSED_KEY, keys.REFUSED_INDEX_KEY], arguments)


def _generation(job: JobId, epoch: int, answer: Any) -> int:
    """The new generation, from a script's answer. Raises Deposed."""
    if answer == b"deposed":
        raise Deposed(f"job {job} was written by a newer coordinator than epoch {epoch}")
    return int(answer)


def _packed_tasks(tasks: Iterable[TaskRecord]) -> list[str | bytes]:
    return flatten({task.task_id: pack(task) for task in tasks})


def _packed_splits(splits: Sequence[Split]) -> dict[TaskId, bytes]:
    return {task_id(TaskKind.MAP, split.index): pack(split) for split in splits}
