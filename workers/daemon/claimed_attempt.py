"""An attempt whose claim this worker holds: its identity, its state, and why it was told to stop."""

import asyncio
from collections.abc import Awaitable
from enum import StrEnum
from typing import TypeVar

from mr.errors import MrError
from mr.ports.broker import Delivery
from mr.protocol.ids import AttemptId
from mr.protocol.jobs import Split
from mr.workers.daemon.lifecycle import AttemptEvent, AttemptState, advance

T = TypeVar("T")

#: States in which the store is to keep the lease.
_LEASED = frozenset({AttemptState.CLAIMED, AttemptState.RUNNING, AttemptState.COMMITTING})


class StopReason(StrEnum):
    """Why an attempt is no longer wanted."""

    JOB_ENDED = "its job has ended"
    SUPERSEDED = "another attempt committed first"
    LEASE_LOST = "its lease was lost"
    WORKER_STOPPING = "its worker is stopping"


class Stopped(Exception):
    """An attempt was told to stop before its commit: nothing that it made is wanted."""


class HeldAttempt:
    """A granted claim, from the claim to the acknowledgement of its delivery."""

    def __init__(self, id: AttemptId, split: Split | None, delivery: Delivery, resumed: int = 0) -> None:
        """`resumed` as in the ClaimReply."""
        self.id = id
        self.resumed = resumed
        self.split = split
        self.delivery = delivery
        self.state = AttemptState.CLAIMED
        self.stop_reason: StopReason | None = None
        #: Set when the attempt has left this worker.
        self.ended = asyncio.Event()

    @property
    def leased(self) -> bool:
        """Whether its lease is to be renewed."""
        return self.state in _LEASED

    @property
    def stopping(self) -> bool:
        """Whether it was told to stop before its commit."""
        return self.state is AttemptState.STOPPING

    def advance(self, event: AttemptEvent) -> None:
        """Enter the next state. Raises IllegalTransition."""
        self.state = advance(self.state, event)

    def stop(self, reason: StopReason) -> None:
        """Ask it to stop. The first reason counts; from the commit on there is no effect."""
        self.advance(AttemptEvent.STOP)
        if self.stopping and self.stop_reason is None:
            self.stop_reason = reason

    def check(self) -> None:
        """Raise Stopped if it was told to stop."""
        if self.stopping:
            raise Stopped

    async def unless_stopped(self, work: Awaitable[T]) -> T:
        """Wait for a step before the commit. Raises Stopped if a stop came meanwhile."""
        try:
            result = await work
        except (MrError, OSError):
            self.check()
            raise
        self.check()
        return result
