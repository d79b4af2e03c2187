"""The virtual clock, one source of chance, the clocks on the walls, and the trace of what happens."""

import asyncio
from collections.abc import Callable
from contextvars import copy_context
from random import Random

from mr.ports.clock import Clock
from tests.simulation.loop import START, VirtualLoop

#: Seconds since the epoch at the start, by a clock that is right.
EPOCH = 1_000_000.0


class WallClock:
    """A clock that somebody may set, forth and back."""

    def __init__(self, world: "World", name: str) -> None:
        self._world = world
        self.name = name
        self.offset = 0.0

    def read(self) -> float:
        """Seconds since the epoch, as far as it knows."""
        return EPOCH + self._world.now - START + self.offset

    def jump(self, seconds: float) -> None:
        """Be set."""
        self.offset += seconds
        self._world.say(f"the clock of {self.name} jumps by {seconds:.1f} s")


class World:
    """Time, chance and trouble."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.chance = Random(seed)
        self.loop = VirtualLoop(self.chance)
        self._context = copy_context()
        #: Faults strike until then; afterwards everything heals.
        self.trouble_until = START + self.chance.uniform(10.0, 60.0)
        self.trace: list[str] = []

    @property
    def now(self) -> float:
        """Virtual seconds."""
        return self.loop.time()

    @property
    def troubled(self) -> bool:
        """Whether faults still strike."""
        return self.now < self.trouble_until

    def after(self, seconds: float, call: Callable[..., object], *arguments: object) -> None:
        """Plan a call that belongs to no daemon."""
        self.loop.call_later(seconds, call, *arguments, context=self._context)

    def say(self, line: str) -> None:
        """Note something in the trace."""
        self.trace.append(f"{self.loop.time() - START:9.3f}  {line}")

    def delay(self, most: float = 0.05) -> float:
        """A short time on a wire: mostly quick, seldom long."""
        chance = self.chance
        return most * chance.random() * (20 if chance.random() < 0.03 else 1) + 0.0005

    def now_and_then(self, per_second: float, call: Callable[[], object]) -> None:
        """Make a call at drawn moments, so many a second on average, while faults strike."""
        if per_second <= 0.0:
            return
        seconds = self.chance.expovariate(per_second)

        def strike() -> None:
            call()
            self.now_and_then(per_second, call)

        if self.now + seconds < self.trouble_until:
            self.after(seconds, strike)

    def strikes(self, probability: float) -> bool:
        """Whether a fault of this probability strikes now."""
        return probability > 0.0 and self.chance.random() < probability and self.troubled


class SimulatedClock(Clock):
    """The Clock port: decisions go by the virtual time, and the wall clock may jump."""

    def __init__(self, world: World, wall: WallClock) -> None:
        self._world = world
        self._wall = wall

    def now(self) -> float:
        """Virtual seconds; they never jump."""
        return self._world.now

    def wall(self) -> float:
        """What the clock on the wall shows."""
        return self._wall.read()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)
