"""Who coordinates: a lease in the store, and epochs that only grow."""

from typing import Protocol


class LeadershipStore(Protocol):
    """Who coordinates: a lease in the store, and epochs that only grow."""

    async def acquire_lead(self, holder: str, lease_seconds: float, above_epoch: int) -> int | None:
        """Become the coordinator if none is: a new epoch above this one and all before. None: another is."""

    async def renew_lead(self, holder: str, lease_seconds: float) -> bool:
        """Stay the coordinator. False: the lease was lost (also when the store was emptied)."""

    async def leader(self) -> str | None:
        """Who coordinates, as of its last renewal; None when the lease ran out or was released."""

    async def last_epoch(self) -> int:
        """The highest epoch given so far; 0 before the first, also when the store was emptied."""

    async def release_lead(self, holder: str) -> None:
        """End the lead of `holder`, who steps down or is dead, so that another can lead at once."""

    async def coordinator_silence(self) -> float | None:
        """Seconds since a coordinator last held the lead; 0 while one does, None if none is remembered."""
