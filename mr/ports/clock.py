"""Time as the engine sees it."""

from typing import Protocol


class Clock(Protocol):
    """Time, so that tests can control it."""

    def now(self) -> float:
        """Seconds since an arbitrary start, never going back: every decision goes by it."""

    def wall(self) -> float:
        """Seconds since the epoch, as right as the machine's clock: for display only."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""
