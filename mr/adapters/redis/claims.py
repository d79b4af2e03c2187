"""Claims as workers make them."""

import uuid
from collections.abc import Collection, Mapping, Sequence

import msgspec

from mr.adapters.redis import keys
from mr.adapters.redis.client import RedisClient, flatten
from mr.errors import BadMessage
from mr.ports.claims import LOGS_FULL, ClaimReply, ClaimStore
from mr.protocol.claims import RELEASED_KEPT, Placement, Verdict
from mr.protocol.codec import pack, unpack
from mr.protocol.ids import AttemptId, Incarnation, JobId, TaskId, TaskKind, WorkerId, task_kind
from mr.protocol.jobs import Split
from mr.protocol.locations import location_fields, result_locations
from mr.protocol.records import MapOutput, TaskResult


class RedisClaims(ClaimStore):
    """The ClaimStore port on Redis: a script each, equivalent to the functions of `mr.protocol.claims`."""

    _client: RedisClient

    async def claim(
        self, job: JobId, task: TaskId, worker: WorkerId, incarnation: Incarnation, lease_seconds: float
    ) -> ClaimReply:
        needs_split = "1" if task_kind(task) is TaskKind.MAP else ""
        verdict, attempt, packed, resumed = await self._client.script(
            "claim",
            [keys.claims_key(job), keys.splits_key(job)],
            [task, worker, incarnation, int(lease_seconds * 1000), uuid.uuid4().hex, needs_split],
        )
        answer = Verdict(verdict.decode())
        try:
            split = None if packed is None else unpack(packed, Split)
            return ClaimReply(answer, attempt, split, resumed)
        except BadMessage as error:
            return ClaimReply(answer, attempt, resumed=resumed, unreadable=str(error))

    async def renew(
        self, job: JobId, attempts: Mapping[TaskId, int], incarnation: Incarnation, lease_seconds: float
    ) -> Sequence[TaskId]:
        arguments = [incarnation, int(lease_seconds * 1000), *flatten(attempts)]
        stopped = await self._client.script("renew", [keys.claims_key(job)], arguments)
        return [TaskId(task.decode()) for task in stopped]

    async def commit(self, attempt: AttemptId, result: TaskResult, resumed: int = 0) -> bool:
        job, task, number = attempt
        script_keys = [keys.claims_key(job), keys.results_key(job, task_kind(task)), keys.locations_key(job)]
        arguments = [task, number, pack(result), resumed, *flatten(result_locations(result))]
        return bool(await self._client.script("commit", script_keys, arguments))

    async def relocate(
        self, job: JobId, moved: Mapping[TaskId, tuple[Placement, MapOutput]]
    ) -> Collection[TaskId]:
        script_keys = [keys.claims_key(job), keys.results_key(job, TaskKind.MAP), keys.locations_key(job)]
        recorded = await self._client.command("HMGET", script_keys[1], *moved) if moved else []
        arguments: list[str | bytes | int] = []
        for (task, (place, output)), packed in zip(moved.items(), recorded, strict=True):
            result = None if packed is None else unpack(packed, TaskResult)
            if result is None or not isinstance(result.output, MapOutput):
                continue
            if result.output == output or result.output.placement == place:
                changed = pack(msgspec.structs.replace(result, output=output))
                fields = location_fields(output)
                shared = next(field for field in fields if field != task)
                number = output.attempt.number
                arguments += [task, number, packed, changed, fields[task], shared, fields[shared]]
        found = await self._client.script("relocate", script_keys, arguments) if arguments else []
        return [TaskId(task.decode()) for task in found]

    async def release(self, attempt: AttemptId, incarnation: Incarnation) -> None:
        job, task, number = attempt
        arguments = [task, number, incarnation, RELEASED_KEPT]
        await self._client.script("release", [keys.claims_key(job)], arguments)

    async def put_log(self, attempt: AttemptId, text: str, limit_bytes: int) -> None:
        job, task, number = attempt
        script_keys = [keys.job_key(job), keys.logs_key(job)]
        arguments = [f"{task}/{number}", text.encode(errors="replace"), limit_bytes, LOGS_FULL]
        await self._client.script("put_log", script_keys, arguments)
