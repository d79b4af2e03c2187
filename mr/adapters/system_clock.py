"""The Clock port on the machine's own clocks."""

import asyncio
import time

from mr.ports.clock import Clock


class SystemClock(Clock):
    """The machine's clocks, on the running event loop."""

    def now(self) -> float:
        """Seconds since some start, never going back."""
        return time.monotonic()

    def wall(self) -> float:
        """Seconds since the epoch; somebody may set it back."""
        return time.time()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)
