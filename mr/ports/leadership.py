"""Who coordinates: a lease in the store, and epochs that only grow."""

from typing import Protocol


class LeadershipStore(Protocol):
    """At most one coordinator leads at a time, each under a higher epoch than the one before."""

    async def acquire_lead(self, holder: str, lease_seconds: float, above_epoch: int) -> int | None:
        """Lead, if nobody else does: a new epoch above `above_epoch` and all before. None: another leads."""

    async def renew_lead(self, holder: str, lease_seconds: float) -> bool:
        """Go on leading. False: the lease was lost, possibly because the store was emptied."""

    async def leader(self) -> str | None:
        """Who leads, as of its last renewal; None when the lease has run out or was released."""

    async def last_epoch(self) -> int:
        """The highest epoch given so far; 0 before the first, and after the store was emptied."""

    async def release_lead(self, holder: str) -> None:
        """End the lead of `holder`, which steps down or is dead, so that another can lead at once."""

    async def coordinator_silence(self) -> float | None:
        """Seconds since a coordinator last led; 0 while one does, None when none is remembered."""
