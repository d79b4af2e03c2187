"""Waiting for a condition with a deadline: no test sleeps to let something happen."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import psutil

T = TypeVar("T")

#: Between two looks at the condition.
POLL_SECONDS = 0.01
#: Only a failing test waits this long.
DEADLINE_SECONDS = 40.0


async def eventually(
    check: Callable[[], T | Awaitable[T]], what: str = "", timeout: float = DEADLINE_SECONDS
) -> T:
    """Call `check` until it returns something true, which is returned. AssertionError after the deadline."""
    deadline = time.monotonic() + timeout
    while True:
        found = check()
        if inspect.isawaitable(found):
            found = await found
        if found:
            return found
        _expect_before(deadline, what, check)
        await asyncio.sleep(POLL_SECONDS)


def until(check: Callable[[], T], what: str = "", timeout: float = DEADLINE_SECONDS) -> T:
    """The same where no event loop runs."""
    deadline = time.monotonic() + timeout
    while True:
        found = check()
        if found:
            return found
        _expect_before(deadline, what, check)
        time.sleep(POLL_SECONDS)


def _expect_before(deadline: float, what: str, check: Callable[[], object]) -> None:
    assert time.monotonic() < deadline, f"never came: {what or inspect.getsource(check).strip()}"


async def appear(path: Path) -> str:
    """Wait until a file has content, and return it."""
    await eventually(lambda: path.exists() and path.read_text(), f"content of {path}")
    return path.read_text()  # noqa: ASYNC240 - one small file


async def gone(pid: int) -> None:
    """Wait until a process has ended (a zombie whose parent was killed counts as ended)."""

    def ended() -> bool:
        try:
            return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    await eventually(ended, f"the end of process {pid}")
