"""Tasks as workers see them: claims, leases, commits, logs. And the workers themselves."""

import uuid
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec

from mr.adapters.lenient_reader import LenientReader
from mr.adapters.redis import keys
from mr.adapters.redis.client import RedisLink, flatten
from mr.adapters.redis.jobs import READ_CHUNK
from mr.adapters.redis.leadership import milliseconds
from mr.errors import BadMessage
from mr.ports.claims import LOGS_FULL, ClaimReply
from mr.ports.workers import WORKER_MEMORY_SECONDS
from mr.protocol.claims import RELEASED_KEPT, Placement, Verdict
from mr.protocol.codec import pack, unpack
from mr.protocol.ids import Incarnation, JobId, TaskId, TaskKind, WorkerId, task_kind
from mr.protocol.jobs import Split
from mr.protocol.locations import location_fields, result_locations
from mr.protocol.records import MapOutput, TaskResult, WorkerBeat, WorkerView


class TaskMethods:
    """Claims: one script each, which says what `mr.protocol.claims` says."""

    _link: RedisLink

    async def claim(
        self, job: JobId, task: TaskId, worker: WorkerId, incarnation: Incarnation, lease_seconds: float
    ) -> ClaimReply:
        """Ask for the right to run a task. A map task without a split is GONE, too."""
        kind = task_kind(task)
        needs_split = "1" if kind is TaskKind.MAP else ""
        verdict, attempt, split, result = await self._link.script(
            "claim",
            [keys.claims_key(job), keys.splits_key(job), keys.results_key(job, kind)],
            [task, worker, incarnation, int(lease_seconds * 1000), uuid.uuid4().hex, needs_split],
        )
        answer = Verdict(verdict.decode())
        try:
            return ClaimReply(
                answer,
                attempt,
                None if split is None else unpack(split, Split),
                None if result is None else unpack(result, TaskResult),
            )
        except BadMessage as error:
            return ClaimReply(answer, attempt, unreadable=str(error))

    async def renew(
        self, job: JobId, attempts: Mapping[TaskId, int], incarnation: Incarnation, lease_seconds: float
    ) -> Sequence[TaskId]:
        """Extend leases; returns the tasks that are to stop."""
        arguments = [incarnation, int(lease_seconds * 1000), *flatten(attempts)]
        stopped = await self._link.script("renew", [keys.claims_key(job)], arguments)
        return [TaskId(task.decode()) for task in stopped]

    async def commit(self, job: JobId, task: TaskId, attempt: int, result: TaskResult) -> bool:
        """Record a result; False: another attempt's counts, or the job is over."""
        script_keys = [keys.claims_key(job), keys.results_key(job, task_kind(task)), keys.locations_key(job)]
        arguments = [task, attempt, pack(result), *flatten(result_locations(result))]
        return bool(await self._link.script("commit", script_keys, arguments))

    async def relocate(
        self, job: JobId, moved: Mapping[TaskId, tuple[Placement, MapOutput]]
    ) -> Collection[TaskId]:
        """Record that committed map outputs lie elsewhere now; returns those that were where said."""
        script_keys = [keys.claims_key(job), keys.results_key(job, TaskKind.MAP), keys.locations_key(job)]
        recorded = await self._link.command("HMGET", script_keys[1], *moved) if moved else []
        arguments: list[str | bytes | int] = []
        for (task, (place, output)), packed in zip(moved.items(), recorded, strict=True):
            result = None if packed is None else unpack(packed, TaskResult)
            if result is None or not isinstance(result.output, MapOutput):
                continue
            if result.output == output or result.output.placement == place:
                changed = pack(msgspec.structs.replace(result, output=output))
                fields = location_fields(output)
                shared = next(field for field in fields if field != task)
                arguments += [task, output.attempt, packed, changed, fields[task], shared, fields[shared]]
        found = await self._link.script("relocate", script_keys, arguments) if arguments else []
        return [TaskId(task.decode()) for task in found]

    async def release(self, job: JobId, task: TaskId, attempt: int) -> None:
        """Give the lease of a failed or stopped attempt back."""
        await self._link.script("release", [keys.claims_key(job)], [task, attempt, RELEASED_KEPT])

    async def put_log(self, job: JobId, task: TaskId, attempt: int, text: str, limit_bytes: int) -> None:
        """Keep what an attempt printed, within the bound; of a job that is not known, nothing."""
        script_keys = [keys.job_key(job), keys.logs_key(job)]
        arguments = [f"{task}/{attempt}", text.encode(errors="replace"), limit_bytes, LOGS_FULL]
        await self._link.script("put_log", script_keys, arguments)

    async def get_logs(self, job: JobId) -> Mapping[str, str]:
        """What attempts printed, by `task id/attempt`."""
        found = await self._link.command("HGETALL", keys.logs_key(job))
        texts = {_text(field): _text(text) for field, text in found.items()}
        return dict(sorted(texts.items()))


class WorkerMethods:
    """Workers: a hash each, which holds the truth, and an index of them by time."""

    _link: RedisLink
    _reader: LenientReader

    async def heartbeat(
        self, beat: WorkerBeat, lease_seconds: float, replaces: WorkerBeat | None = None
    ) -> WorkerView | None:
        """Say that this worker lives. Returns None, or who has its id."""
        arguments: list[Any] = [pack(beat), beat.incarnation, beat.number, milliseconds(lease_seconds)]
        arguments += [milliseconds(WORKER_MEMORY_SECONDS)]
        arguments += ["", ""] if replaces is None else [replaces.incarnation, replaces.number]
        now_ms, *owner = await self._link.script("heartbeat", [keys.worker_key(beat.worker)], arguments)
        if owner:
            return self._owner(beat.worker, now_ms, *owner)
        await self._link.command("ZADD", keys.WORKERS_KEY, now_ms, beat.worker)
        return None

    def _owner(
        self,
        worker: WorkerId,
        now_ms: int,
        packed: bytes,
        life: bytes,
        number: bytes,
        at_ms: bytes,
        lease: bytes,
    ) -> WorkerView:
        """Who has an id; of one whose heartbeat cannot be read, what the store itself knows."""
        beat = self._reader.read(packed, WorkerBeat, f"worker {worker}") or WorkerBeat(
            worker=worker,
            incarnation=Incarnation(_text(life)),
            number=int(number),
            host="",
            address="",
            version="",
            started_at=0.0,
            slots=0,
            open_slots=0,
        )
        age_ms = max(0, now_ms - int(at_ms))
        return WorkerView(beat, age_ms / 1000, age_ms < int(lease))

    async def forget_worker(self, worker: WorkerId, incarnation: Incarnation) -> None:
        """Remove a worker, unless another life has its id. Its place in the index ends with its time there:
        another life may have taken it since."""
        await self._link.script("forget_worker", [keys.worker_key(worker)], [incarnation])

    async def workers(self) -> Sequence[WorkerView]:
        """All workers heard of within WORKER_MEMORY_SECONDS, by id."""
        seconds, microseconds = await self._link.command("TIME")
        now_ms = seconds * 1000 + microseconds // 1000
        oldest_ms = now_ms - milliseconds(WORKER_MEMORY_SECONDS)
        _, index = await self._link.commands(
            [
                ("ZREMRANGEBYSCORE", keys.WORKERS_KEY, "-inf", oldest_ms),
                ("ZRANGE", keys.WORKERS_KEY, 0, -1),
            ]
        )
        workers = [WorkerId(name) for name in self._reader.ids(sorted(index), "in the list of workers,")]
        views = []
        for start in range(0, len(workers), READ_CHUNK):
            chunk = workers[start : start + READ_CHUNK]
            reads = [("HMGET", keys.worker_key(worker), "beat", "at_ms", "lease_ms") for worker in chunk]
            for worker, found in zip(chunk, await self._link.each(reads), strict=True):
                try:
                    view = _view(found, now_ms)
                except BadMessage as error:
                    self._reader.tell(f"worker {worker}", error)
                    continue
                if view is None:
                    continue
                if view.age_seconds < 0:
                    await self._link.script("age_worker", [keys.worker_key(worker)], [])
                views.append(msgspec.structs.replace(view, age_seconds=max(0.0, view.age_seconds)))
        return views


def _text(data: bytes) -> str:
    return data.decode(errors="replace")


def _view(found: Sequence[bytes | None] | BadMessage, now_ms: int) -> WorkerView | None:
    """One worker's heartbeat, of a negative age where the clock was set back. None: it has none.

    Raises BadMessage.
    """
    if isinstance(found, BadMessage):
        raise found
    packed, at_ms, lease_ms = found
    if packed is None:
        return None
    try:
        age_ms, lease = now_ms - int(at_ms or ""), int(lease_ms or "")
    except ValueError as error:
        raise BadMessage(f"a stored time of a heartbeat cannot be read: {error}") from error
    return WorkerView(unpack(packed, WorkerBeat), age_ms / 1000, age_ms < lease)
