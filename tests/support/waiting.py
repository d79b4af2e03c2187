"""Wait for a condition with a deadline: tests never sleep to let something happen."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

#: Between two looks at the condition.
POLL_SECONDS = 0.01


async def eventually(check: Callable[[], T | Awaitable[T]], timeout: float = 10.0, what: str = "") -> T:
    """Look until `check()` is true and return what it gave; AssertionError after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        found = check()
        if inspect.isawaitable(found):
            found = await found
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what or inspect.getsource(check).strip()}")
        await asyncio.sleep(POLL_SECONDS)


def eventually_sync(check: Callable[[], T], timeout: float = 10.0, what: str = "") -> T:
    """The same outside of an event loop."""
    deadline = time.monotonic() + timeout
    while True:
        found = check()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what or inspect.getsource(check).strip()}")
        time.sleep(POLL_SECONDS)
