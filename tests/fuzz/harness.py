"""Runs targets on drawn input: in bounded time and memory, and what fails is shortened and kept as a file."""

import asyncio
import hashlib
import random
import resource
import signal
import time
import traceback
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import msgspec

#: A kind of input and its bytes; what the kinds are is the target's.
Part = tuple[str, bytes]
Case = list[Part]

#: Memory that one case may take, and how long a shortening may take.
CASE_BYTES = 400 << 20
SHORTENING_SECONDS = 60.0


#: How much longer a case may take by the clock, as the machine may do other work as well.
PATIENCE = 6


class Target(Protocol):
    """What is fed with input. `check` raises, whatever it may be, when the input has done harm."""

    name: str
    #: Longest time for one case: of CPU, and PATIENCE times that by the clock.
    case_seconds: float

    def draw(self, rng: random.Random) -> Case:
        """Make a case."""

    def check(self, case: Case) -> Awaitable[None]:
        """Feed it. Any subset of a case is a case."""

    async def close(self) -> None:
        """Give back what it holds."""


class Finding(msgspec.Struct):
    """A case that does harm."""

    target: str
    case: Case
    error: str = ""

    def keep(self, directory: Path) -> Path:
        """Write it to a file."""
        directory.mkdir(parents=True, exist_ok=True)
        data = msgspec.msgpack.encode(Finding(self.target, self.case))
        path = directory / f"{self.target}-{hashlib.sha256(data).hexdigest()[:12]}.msgpack"
        path.write_bytes(data)
        return path

    @classmethod
    def read(cls, path: Path) -> "Finding":
        """Read such a file."""
        return msgspec.msgpack.decode(path.read_bytes(), type=Finding)


class TooSlow(BaseException):
    """A case took longer than it may. Not an Exception, so that nothing takes it for one of its own."""


class TooLarge(Exception):
    """A case took more memory than it may."""


class Fuzzer:
    """One target in one event loop."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self._runner = asyncio.Runner()
        self.cases = 0
        self.inputs = 0

    def close(self) -> None:
        """End the target and the loop."""
        self._runner.run(self.target.close())
        self._runner.close()

    def run(self, seed: str, seconds: float) -> Finding | None:
        """Feed cases drawn from a seed for a time; the first that does harm, shortened."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            case = self.target.draw(random.Random(f"{self.target.name}/{seed}/{self.cases}"))
            self.cases += 1
            self.inputs += len(case)
            if error := self.feed(case):
                return self._shortened(case, error)
        return None

    def feed(self, case: Case) -> str:
        """Feed one case; returns what went wrong, empty if nothing did."""
        try:
            with _bounded(self.target.case_seconds):
                self._runner.run(_awaited(self.target.check(case)))
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001 - the fuzzer's outermost frame: told as a finding
            return traceback.format_exc()
        return ""

    def _shortened(self, case: Case, error: str) -> Finding:
        """Leave out what the harm does not need."""
        until = time.monotonic() + SHORTENING_SECONDS
        size = len(case) // 2
        while size and time.monotonic() < until:
            start = 0
            while start < len(case) and time.monotonic() < until:
                fewer = case[:start] + case[start + size :]
                found = self.feed(fewer)
                if found:
                    case, error = fewer, found
                else:
                    start += size
            size //= 2
        return Finding(self.target.name, case, error)


async def _awaited(work: Awaitable[None]) -> None:
    await work


@contextmanager
def _bounded(seconds: float) -> Iterator[None]:
    """Raise TooSlow after a time, and TooLarge when much more memory was needed than before."""

    def ring(*_: object) -> None:
        raise TooSlow(f"after {seconds:g} s")

    before = _peak_bytes()
    timers = {
        signal.SIGPROF: (signal.ITIMER_PROF, seconds),
        signal.SIGALRM: (signal.ITIMER_REAL, PATIENCE * seconds),
    }
    former = {number: signal.signal(number, ring) for number in timers}
    for timer, limit in timers.values():
        signal.setitimer(timer, limit)
    try:
        yield
    finally:
        for timer, _ in timers.values():
            signal.setitimer(timer, 0)
        for number, handler in former.items():
            signal.signal(number, handler)
    if (grown := _peak_bytes() - before) > CASE_BYTES:
        raise TooLarge(f"the case took {grown >> 20} MiB")


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
