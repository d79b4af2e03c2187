"""Workers: the last heartbeat of each."""

from collections.abc import Callable, Sequence

from mr.adapters.memory.state import MemoryStoreServer, WorkerEntry
from mr.ports.workers import WORKER_MEMORY_SECONDS
from mr.protocol.ids import Incarnation, WorkerId
from mr.protocol.records import WorkerBeat, WorkerView


class WorkerMethods:
    """The part of the memory store that knows who lives."""

    _now: Callable[[], float]
    _state: Callable[[], MemoryStoreServer]

    async def heartbeat(
        self, beat: WorkerBeat, lease_seconds: float, replaces: WorkerBeat | None = None
    ) -> WorkerView | None:
        """Say that this worker lives. Returns None, or who has its id."""
        workers, now = self._state().workers, self._now()
        entry = WorkerEntry(beat, now, lease_seconds)
        owner = workers.get(beat.worker)
        if owner is not None and owner.incarnation == beat.incarnation:
            entry.former, entry.former_until = owner.former, owner.former_until
        elif owner is not None and min(owner.at, now) + owner.lease_seconds > now:
            owner.at = min(owner.at, now)  # the clock was set back since
            if replaces is not None and _same_beat(owner.beat, replaces):
                entry.former, entry.former_until = owner.incarnation, owner.at + owner.lease_seconds
            elif owner.former != beat.incarnation or owner.former_until <= now:
                return WorkerView(owner.beat, now - owner.at, True)
        workers[beat.worker] = entry
        return None

    async def forget_worker(self, worker: WorkerId, incarnation: Incarnation) -> None:
        """Remove a worker, unless another life has its id."""
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


def _same_beat(one: WorkerBeat, other: WorkerBeat) -> bool:
    return (one.incarnation, one.number) == (other.incarnation, other.number)
