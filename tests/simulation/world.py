"""A virtual clock with a heap of things to come, one source of chance, and a trace."""

import heapq
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any, TypeVar

T = TypeVar("T")


def now_or_never(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never waits: the memory store's methods are such."""
    try:
        work.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("the coroutine waits, but there is no event loop in a simulation")


class World:
    """Time, chance and trouble. Everything that happens is a call planned with `after`."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.chance = Random(seed)
        self.now = 1000.0
        #: Faults strike until then; afterwards everything heals.
        self.trouble_until = self.now + self.chance.uniform(20.0, 120.0)
        self.trace: list[str] = []
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._planned = 0

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        """Plan a call."""
        self._planned += 1
        heapq.heappush(self._heap, (self.now + seconds, self._planned, call))

    def step(self) -> bool:
        """Make the next planned call. False when there is none."""
        if not self._heap:
            return False
        self.now, _, call = heapq.heappop(self._heap)
        call()
        return True

    def say(self, line: str) -> None:
        """Note something in the trace."""
        self.trace.append(f"{self.now - 1000.0:9.3f}  {line}")

    def delay(self, most: float = 0.2) -> float:
        """A short time on a wire: mostly quick, seldom long."""
        return self.chance.uniform(0.001, most) * (10 if self.chance.random() < 0.03 else 1)

    def strikes(self, probability: float) -> bool:
        """Whether a fault of this probability strikes now."""
        return self.chance.random() < probability and self.now < self.trouble_until
