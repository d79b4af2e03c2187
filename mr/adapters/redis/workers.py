"""Workers: their heartbeats, and what they are asked to do, in keys that expire by themselves."""

from collections.abc import Sequence
from typing import Any

import msgspec

from mr.adapters.lenient_reader import LenientReader
from mr.adapters.redis import keys
from mr.adapters.redis.client import RedisClient, milliseconds, text_of
from mr.errors import BadMessage
from mr.ports.workers import WORKER_MEMORY_SECONDS, WorkerStore
from mr.protocol.codec import pack, unpack
from mr.protocol.ids import Incarnation, WorkerId
from mr.protocol.records import Pause, WorkerBeat, WorkerView


class RedisWorkers(WorkerStore):
    """The WorkerStore port on Redis: a hash for each worker decides, and a sorted set lists them by time."""

    _client: RedisClient
    _reader: LenientReader

    async def heartbeat(
        self, beat: WorkerBeat, lease_seconds: float, replaces: WorkerBeat | None = None
    ) -> WorkerView | None:
        arguments: list[Any] = [pack(beat), beat.incarnation, beat.number, milliseconds(lease_seconds)]
        arguments += [milliseconds(WORKER_MEMORY_SECONDS)]
        arguments += ["", ""] if replaces is None else [replaces.incarnation, replaces.number]
        now_ms, *owner = await self._client.script("heartbeat", [keys.worker_key(beat.worker)], arguments)
        if owner:
            return self._owner(beat.worker, now_ms, *owner)
        await self._client.commands(
            [
                ("ZADD", keys.WORKERS_KEY, now_ms, beat.worker),
                ("ZREMRANGEBYSCORE", keys.WORKERS_KEY, "-inf", _oldest(now_ms)),
            ]
        )
        return None

    def _owner(
        self,
        worker: WorkerId,
        now_ms: int,
        packed: bytes,
        incarnation: bytes,
        number: bytes,
        at_ms: bytes,
        lease: bytes,
    ) -> WorkerView:
        """Who has an id; if its heartbeat cannot be read, what the store itself knows of it."""
        beat = self._reader.read(packed, WorkerBeat, f"worker {worker}") or WorkerBeat(
            worker=worker,
            incarnation=Incarnation(text_of(incarnation)),
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
        """As the port says. Its entry in the index stays until it is old: another incarnation may have the
        id by now."""
        await self._client.script("forget_worker", [keys.worker_key(worker)], [incarnation])

    async def workers(self) -> Sequence[WorkerView]:
        seconds, microseconds = await self._client.command("TIME")
        now_ms = seconds * 1000 + microseconds // 1000
        index = await self._client.command("ZRANGEBYSCORE", keys.WORKERS_KEY, _oldest(now_ms), "+inf")
        workers = [WorkerId(name) for name in self._reader.ids(sorted(index), "in the list of workers,")]
        fields = ("beat", "at_ms", "lease_ms")
        views = []
        for worker, found in await self._client.each(
            workers, lambda worker: ("HMGET", keys.worker_key(worker), *fields)
        ):
            try:
                view = _view(found, now_ms)
            except BadMessage as error:
                self._reader.tell(f"worker {worker}", error)
                continue
            if view is None or view.age_seconds >= WORKER_MEMORY_SECONDS:
                continue
            if view.age_seconds < 0:
                await self._client.script("age_worker", [keys.worker_key(worker)], [])
            views.append(msgspec.structs.replace(view, age_seconds=max(0.0, view.age_seconds)))
        return views

    async def pause_worker(self, worker: WorkerId, pause: Pause) -> None:
        reason = pause.reason.encode(errors="replace")
        await self._client.command("SET", keys.pause_key(worker), reason, "PX", milliseconds(pause.seconds))

    async def worker_pause(self, worker: WorkerId) -> Pause | None:
        key = keys.pause_key(worker)
        reason, left_ms = await self._client.commands([("GET", key), ("PTTL", key)], atomic=True)
        return None if reason is None else Pause(left_ms / 1000, text_of(reason))

    async def drain_worker(self, worker: WorkerId, incarnation: Incarnation) -> None:
        lasting_ms = milliseconds(WORKER_MEMORY_SECONDS)
        await self._client.command("SET", keys.drain_key(worker), incarnation, "PX", lasting_ms)

    async def is_to_drain(self, worker: WorkerId, incarnation: Incarnation) -> bool:
        found = await self._client.command("GET", keys.drain_key(worker))
        return bool(found == incarnation.encode())


def _oldest(now_ms: int) -> int:
    """When a worker that is still listed was last heard of, at the latest."""
    return now_ms - milliseconds(WORKER_MEMORY_SECONDS)


def _view(found: Sequence[bytes | None] | BadMessage, now_ms: int) -> WorkerView | None:
    """One worker's heartbeat, its age negative if the clock was set back. None: there is none.

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
