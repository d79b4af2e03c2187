"""What workers are asked to do, on Redis: keys that expire by themselves."""

from mr.adapters.redis import keys
from mr.adapters.redis.client import RedisLink
from mr.adapters.redis.leadership import milliseconds
from mr.ports.workers import WORKER_MEMORY_SECONDS
from mr.protocol.ids import Incarnation, WorkerId
from mr.protocol.records import Pause


class OrderMethods:
    """Pauses and drains, which a control message only wakes a worker to look at."""

    _link: RedisLink

    async def pause_worker(self, worker: WorkerId, pause: Pause) -> None:
        """Ask a worker to take no tasks for a while."""
        lasting_ms = max(1, milliseconds(pause.seconds))
        reason = pause.reason.encode(errors="replace")
        await self._link.command("SET", keys.pause_key(worker), reason, "PX", lasting_ms)

    async def worker_pause(self, worker: WorkerId) -> Pause | None:
        """What is left of a worker's pause."""
        key = keys.pause_key(worker)
        reason, left_ms = await self._link.commands([("GET", key), ("PTTL", key)], atomic=True)
        return None if reason is None else Pause(left_ms / 1000, reason.decode(errors="replace"))

    async def drain_worker(self, worker: WorkerId, incarnation: Incarnation) -> None:
        """Ask one life of a worker to finish what it runs and leave."""
        lasting_ms = milliseconds(WORKER_MEMORY_SECONDS)
        await self._link.command("SET", keys.drain_key(worker), incarnation, "PX", lasting_ms)

    async def is_to_drain(self, worker: WorkerId, incarnation: Incarnation) -> bool:
        """Whether this life of a worker was asked to leave."""
        found = await self._link.command("GET", keys.drain_key(worker))
        return bool(found == incarnation.encode())
