"""What lies between a daemon and a server or a peer: delays, cuts of one direction, answers that get lost."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from mr.errors import ClusterUnreachable
from tests.simulation.world import World

T = TypeVar("T")

#: A broker drops a connection over which it hears nothing for so long, and a client does the same.
SILENCE_SECONDS = 10.0


class Link:
    """One daemon's way to one server."""

    def __init__(
        self, world: World, name: str, patience_seconds: float, away: type[ClusterUnreachable], lost: float
    ) -> None:
        """`away` is raised when a cut lasts longer than `patience_seconds`; `lost`: answers, as a share."""
        self.world = world
        self.name = name
        self._patience_seconds = patience_seconds
        self._away = away
        self._lost = lost
        self._there_until = 0.0
        self._back_until = 0.0
        #: Extra seconds on each way.
        self.slow_until = 0.0

    def cut(self, seconds: float, *, there: bool, back: bool) -> None:
        """Let nothing through for a while, in one direction or in both."""
        until = self.world.now + seconds
        if there:
            self._there_until = max(until, self._there_until)
        if back:
            self._back_until = max(until, self._back_until)
        ways = "both ways" if there and back else "there" if there else "back"
        self.world.say(f"{self.name} is cut {ways} for {seconds:.1f} s")

    def heal(self) -> None:
        """Let everything through."""
        self._there_until = self._back_until = 0.0

    @property
    def back_delay(self) -> float:
        """How long something takes that is sent now from the server to the daemon."""
        return max(self._back_until - self.world.now, 0.0) + self.world.delay()

    def _slowness(self) -> float:
        return self.world.chance.uniform(0.5, 4.0) if self.world.now < self.slow_until else 0.0

    async def call(self, work: Callable[[], Awaitable[T]], *, reads: bool = False) -> T:
        """Have the server do something, once or, if its answer is lost, again. Raises `away`."""
        deadline = self.world.now + self._patience_seconds
        while True:
            await asyncio.sleep(self.world.delay() + self._slowness())
            await self._wait(deadline, lambda: self._there_until)
            answer = await work()
            if not reads:
                await asyncio.sleep(self.world.delay())
            lost = not reads and self.world.strikes(self._lost)
            if self.world.now >= self._back_until and not lost:
                return answer
            self.world.say(f"an answer to {self.name} is lost")
            await self._wait(deadline, lambda: self._back_until)

    async def _wait(self, deadline: float, until: Callable[[], float]) -> None:
        """Wait for the end of a cut. Raises `away` at the deadline."""
        while until() > self.world.now:
            if until() > deadline:
                await asyncio.sleep(max(deadline - self.world.now, 0.0))
                raise self._away(f"{self.name} is away")
            await asyncio.sleep(until() - self.world.now + 0.01)


class Peers:
    """The network among the hosts: which one reaches which."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._cut_until: dict[tuple[str, str], float] = {}

    def cut(self, source: str, target: str, seconds: float) -> None:
        """Let no connection from one host to another come about for a while."""
        self._world.say(f"{source} does not reach {target} for {seconds:.1f} s")
        self._cut_until[source, target] = self._world.now + seconds

    def heal(self) -> None:
        """Let everybody reach everybody."""
        self._cut_until.clear()

    def reaches(self, source: str, target: str) -> bool:
        """Whether a connection would come about."""
        return self._cut_until.get((source, target), 0.0) <= self._world.now
