"""Workers: their heartbeats, and what they are asked to do."""

from collections.abc import Sequence
from typing import Protocol

from mr.protocol.ids import Incarnation, WorkerId
from mr.protocol.records import (
    Pause,
    WorkerBeat,
    WorkerView,
)

#: `StateStore.workers` leaves out workers not heard of for this long.
WORKER_MEMORY_SECONDS = 3600.0


class WorkerStore(Protocol):
    """Workers: their heartbeats, and what they are asked to do."""

    async def heartbeat(
        self, beat: WorkerBeat, lease_seconds: float, replaces: WorkerBeat | None = None
    ) -> WorkerView | None:
        """Say that this worker lives, and what it does. Returns None, or who has its id: nothing is written.

        An id belongs to one life at a time, until that one leaves or is silent for its lease. Another gets
        it sooner where `replaces` is still the owner's last beat. The owner takes it back by beating again
        before its lease would have run out.
        """

    async def forget_worker(self, worker: WorkerId, incarnation: Incarnation) -> None:
        """Remove a worker that leaves in good order, unless another life has its id."""

    async def workers(self) -> Sequence[WorkerView]:
        """All workers heard of within WORKER_MEMORY_SECONDS, live or not, by id."""

    async def pause_worker(self, worker: WorkerId, pause: Pause) -> None:
        """Ask a worker to take no tasks for a while."""

    async def worker_pause(self, worker: WorkerId) -> Pause | None:
        """What is left of a worker's pause; None when there is none."""

    async def drain_worker(self, worker: WorkerId, incarnation: Incarnation) -> None:
        """Ask one life of a worker to finish what it runs and leave."""

    async def is_to_drain(self, worker: WorkerId, incarnation: Incarnation) -> bool:
        """Whether this life of a worker was asked to leave."""
