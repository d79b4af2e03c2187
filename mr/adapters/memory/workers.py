"""Workers: the last heartbeat of each."""

from collections.abc import Callable, Sequence

from mr.adapters.memory.state import MemoryStoreServer, WorkerEntry
from mr.ports import WORKER_MEMORY_SECONDS
from mr.protocol.ids import Incarnation, WorkerId
from mr.protocol.records import WorkerBeat, WorkerView


class WorkerMethods:
    """The part of the memory store that knows who lives."""

    _now: Callable[[], float]
    _state: Callable[[], MemoryStoreServer]

    async def heartbeat(self, beat: WorkerBeat, lease_seconds: float) -> None:
        """Say that this worker lives."""
        self._state().workers[beat.worker] = WorkerEntry(beat, self._now(), lease_seconds)

    async def forget_worker(self, worker: WorkerId, incarnation: Incarnation) -> None:
        """Remove a worker, unless a newer life of it has registered."""
        entry = self._state().workers.get(worker)
        if entry is not None and entry.incarnation == incarnation:
            del self._state().workers[worker]

    async def workers(self) -> Sequence[WorkerView]:
        """All workers heard of within WORKER_MEMORY_SECONDS, by id."""
        now = self._now()
        for entry in self._state().workers.values():
            entry.at = min(entry.at, now)  # the clock was set back since
        ages = [(entry, now - entry.at) for _, entry in sorted(self._state().workers.items())]
        return [
            WorkerView(entry.beat, age, age < entry.lease_seconds)
            for entry, age in ages
            if age < WORKER_MEMORY_SECONDS
        ]
