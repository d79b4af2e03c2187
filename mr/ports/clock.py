"""Time as the engine sees it."""

from typing import Protocol


class Clock(Protocol):
    """Time, so that tests can turn it."""

    def now(self) -> float:
        """Seconds that never go back, from some start: what every decision is taken by."""

    def wall(self) -> float:
        """Seconds since the epoch, as far as the machine's clock is right: for display alone."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""
