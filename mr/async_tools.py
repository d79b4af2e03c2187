"""Waiting for an event with a time limit, and for cancelled tasks to end."""

import asyncio
from collections.abc import Iterable
from typing import Any


async def wait_for_event(event: asyncio.Event, within_seconds: float) -> bool:
    """Wait for an event for at most `within_seconds`. Returns whether it came."""
    try:
        async with asyncio.timeout(within_seconds):
            await event.wait()
    except TimeoutError:
        return event.is_set()
    return True


async def cancel_and_wait(tasks: "Iterable[asyncio.Future[Any]]") -> None:
    """Cancel tasks and wait until they have ended. Their errors are ignored."""
    ending = list(tasks)
    for task in ending:
        task.cancel()
    await asyncio.gather(*ending, return_exceptions=True)
