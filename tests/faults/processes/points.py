"""Named points at which a process of a test cluster waits, once a test has armed them.

A test arms a point by a file in a directory. The first process that comes to the point renames the
file, which says who waits there, and goes on when the file is gone. The product knows nothing of
it: the points lie in what the test's daemons put around the ports (`ports.py`), around files
(`disk.py`) and around the entry of a task's process (`child.py`).
"""

import os
from pathlib import Path
from typing import NamedTuple

from tests.support.waiting import eventually, until

#: No test holds a process for so long.
HOLD_SECONDS = 600.0

_SEPARATOR = "~"
_ARMED, _REACHED = "armed", "reached"


class Reached(NamedTuple):
    """A process that waits at a point."""

    path: Path
    #: Name of the daemon, also where a task's process waits.
    daemon: str
    pid: int
    #: The task it is about; empty if it is about none.
    task: str

    def release(self) -> None:
        """Let it go on."""
        self.path.unlink(missing_ok=True)


class Points:
    """The points as a process comes to them."""

    def __init__(self, directory: Path, daemon: str) -> None:
        self._directory = directory
        self._daemon = daemon

    async def reach(self, point: str, task: str = "") -> None:
        """Wait here if the point is armed."""
        reached = self._take(point, task)
        if reached is not None:
            await eventually(lambda: not reached.exists(), f"release from {point}", HOLD_SECONDS)

    def hold(self, point: str, task: str = "") -> None:
        """The same in a thread, or in a process without a loop."""
        reached = self._take(point, task)
        if reached is not None:
            until(lambda: not reached.exists(), f"release from {point}", HOLD_SECONDS)

    def _take(self, point: str, task: str) -> Path | None:
        armed = self._directory / _SEPARATOR.join((_ARMED, point))
        names = (_REACHED, point, self._daemon, str(os.getpid()), task)
        reached = self._directory / _SEPARATOR.join(names)
        try:
            armed.rename(reached)
        except FileNotFoundError:
            return None
        return reached


class Arming:
    """The points as a test sees them."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def arm(self, point: str) -> None:
        """Have the next process that comes to the point wait there."""
        (self._directory / _SEPARATOR.join((_ARMED, point))).touch()

    def reached(self, point: str) -> Reached | None:
        """Who waits at the point."""
        for path in self._directory.glob(_SEPARATOR.join((_REACHED, point, "*"))):
            _, _, daemon, pid, task = path.name.split(_SEPARATOR)
            return Reached(path, daemon, int(pid), task)
        return None

    def disarm(self) -> None:
        """Release who waits, and arm nothing."""
        for path in self._directory.iterdir():
            path.unlink(missing_ok=True)
