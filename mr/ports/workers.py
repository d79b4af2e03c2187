"""Workers: their heartbeats, and the requests that they pause or leave."""

from collections.abc import Sequence
from typing import Protocol

from mr.protocol.ids import Incarnation, WorkerId
from mr.protocol.records import Pause, WorkerBeat, WorkerView

#: `WorkerStore.workers` leaves out workers that have been silent for this long.
WORKER_MEMORY_SECONDS = 3600.0


class WorkerStore(Protocol):
    """A worker id belongs to one incarnation at a time: one run of the worker's daemon."""

    async def heartbeat(
        self, beat: WorkerBeat, lease_seconds: float, replaces: WorkerBeat | None = None
    ) -> WorkerView | None:
        """Say that this worker lives, and what it does. Returns who else has its id: nothing is written then.

        An id is free once its owner has left or has been silent for its lease. Another incarnation gets it
        sooner if `replaces` still is the owner's last beat; the owner takes it back if it beats again before
        its lease would have run out.
        """

    async def forget_worker(self, worker: WorkerId, incarnation: Incarnation) -> None:
        """Remove a worker that leaves in good order, unless another incarnation has its id."""

    async def workers(self) -> Sequence[WorkerView]:
        """All workers heard of within WORKER_MEMORY_SECONDS, live or not, by id."""

    async def pause_worker(self, worker: WorkerId, pause: Pause) -> None:
        """Ask a worker to take no tasks for a while."""

    async def worker_pause(self, worker: WorkerId) -> Pause | None:
        """What is left of a worker's pause; None when there is none."""

    async def drain_worker(self, worker: WorkerId, incarnation: Incarnation) -> None:
        """Ask one incarnation of a worker to finish what it runs and leave."""

    async def is_to_drain(self, worker: WorkerId, incarnation: Incarnation) -> bool:
        """Whether this incarnation of a worker was asked to leave."""
