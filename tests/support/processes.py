"""Waiting for what other processes do, by looking: there is nobody who could tell."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import psutil


async def until(condition: Callable[[], object]) -> None:
    """Look every hundredth of a second until `condition` holds; the test's own time-out ends it."""
    while not condition():  # noqa: ASYNC110 - what is waited for happens outside of this loop
        await asyncio.sleep(0.01)


async def appear(path: Path) -> str:
    """Wait until a file has content, and return it."""
    await until(lambda: path.exists() and path.read_text())
    return path.read_text()  # noqa: ASYNC240 - one small file


async def gone(pid: int) -> None:
    """Wait until a process has ended (a zombie whose parent was killed counts as ended)."""

    def ended() -> bool:
        try:
            return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    await until(ended)
