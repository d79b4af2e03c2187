"""What workers are asked to do, inside one process."""

from collections.abc import Callable

from mr.adapters.memory.state import MemoryStoreServer
from mr.protocol.ids import Incarnation, WorkerId
from mr.protocol.records import Pause


class OrderMethods:
    """Pauses and drains, which a control message only wakes a worker to look at."""

    _now: Callable[[], float]
    _state: Callable[[], MemoryStoreServer]

    async def pause_worker(self, worker: WorkerId, pause: Pause) -> None:
        """Ask a worker to take no tasks for a while."""
        self._state().pauses[worker] = (self._now() + pause.seconds, pause.reason)

    async def worker_pause(self, worker: WorkerId) -> Pause | None:
        """What is left of a worker's pause."""
        until, reason = self._state().pauses.get(worker, (0.0, ""))
        seconds = until - self._now()
        return Pause(seconds, reason) if seconds > 0 else None

    async def drain_worker(self, worker: WorkerId, incarnation: Incarnation) -> None:
        """Ask one life of a worker to finish what it runs and leave."""
        self._state().drains[worker] = incarnation

    async def is_to_drain(self, worker: WorkerId, incarnation: Incarnation) -> bool:
        """Whether this life of a worker was asked to leave."""
        return self._state().drains.get(worker) == incarnation
