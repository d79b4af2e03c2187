"""Workers: the last heartbeat of each, and what it was asked to do."""

from collections.abc import Sequence

from mr.adapters.memory.client import MemoryClient
from mr.adapters.memory.state import WorkerEntry
from mr.ports.workers import WORKER_MEMORY_SECONDS, WorkerStore
from mr.protocol.ids import Incarnation, WorkerId
from mr.protocol.records import Pause, WorkerBeat, WorkerView


class MemoryWorkers(MemoryClient, WorkerStore):
    """The WorkerStore port in memory."""

    async def heartbeat(
        self, beat: WorkerBeat, lease_seconds: float, replaces: WorkerBeat | None = None
    ) -> WorkerView | None:
        workers, now = self._state().workers, self._now()
        entry = WorkerEntry(beat, now, lease_seconds)
        owner = workers.get(beat.worker)
        if owner is not None and owner.incarnation == beat.incarnation:
            entry.former, entry.former_until = owner.former, owner.former_until
        elif owner is not None and min(owner.at, now) + owner.lease_seconds > now:
            owner.at = min(owner.at, now)  # the clock was set back since then
            if replaces is not None and _same_beat(owner.beat, replaces):
                entry.former, entry.former_until = owner.incarnation, owner.at + owner.lease_seconds
            elif owner.former != beat.incarnation or owner.former_until <= now:
                return WorkerView(owner.beat, now - owner.at, True)
        workers[beat.worker] = entry
        return None

    async def forget_worker(self, worker: WorkerId, incarnation: Incarnation) -> None:
        entry = self._state().workers.get(worker)
        if entry is not None and entry.incarnation == incarnation:
            del self._state().workers[worker]

    async def workers(self) -> Sequence[WorkerView]:
        now = self._now()
        for entry in self._state().workers.values():
            entry.at = min(entry.at, now)  # the clock was set back since then
        ages = [(entry, now - entry.at) for _, entry in sorted(self._state().workers.items())]
        return [
            WorkerView(entry.beat, age, age < entry.lease_seconds)
            for entry, age in ages
            if age < WORKER_MEMORY_SECONDS
        ]

    async def pause_worker(self, worker: WorkerId, pause: Pause) -> None:
        self._state().pauses[worker] = (self._now() + pause.seconds, pause.reason)

    async def worker_pause(self, worker: WorkerId) -> Pause | None:
        until, reason = self._state().pauses.get(worker, (0.0, ""))
        seconds = until - self._now()
        return Pause(seconds, reason) if seconds > 0 else None

    async def drain_worker(self, worker: WorkerId, incarnation: Incarnation) -> None:
        self._state().drains[worker] = incarnation

    async def is_to_drain(self, worker: WorkerId, incarnation: Incarnation) -> bool:
        return self._state().drains.get(worker) == incarnation


def _same_beat(one: WorkerBeat, other: WorkerBeat) -> bool:
    return (one.incarnation, one.number) == (other.incarnation, other.number)
