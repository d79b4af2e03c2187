"""Every await of a component is a point at which anything may have happened: makes the points countable.

Ports are wrapped so that each call waits once before and once after its effect. A test lets something
happen at the n-th such point, for every n until the work is over.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

#: Turns of the loop that whatever happens at a point gets before the work goes on.
_TURNS = 5


class AwaitPoints:
    """Counts the awaits and, at the one numbered `at` (from 1), starts `act` beside the work."""

    def __init__(self) -> None:
        self.count = 0
        self.at = 0
        self.act: Callable[[], Awaitable[object]] | None = None
        #: What was started; None while the point has not been reached.
        self.acting: asyncio.Future[object] | None = None
        self.names: list[str] = []

    async def point(self, name: str) -> None:
        """Wait as a port does: others run meanwhile."""
        self.count += 1
        self.names.append(name)
        await asyncio.sleep(0)
        if self.count == self.at and self.act is not None and self.acting is None:
            self.acting = asyncio.ensure_future(self.act())
            for _ in range(_TURNS):
                await asyncio.sleep(0)

    def wrap(self, port: Any) -> Any:
        """The same object, with a point before and one after each of its asynchronous calls."""
        return _Wrapped(port, self)

    def replace_threads(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Have `asyncio.to_thread` run its function here, between two points."""

        async def to_thread(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            name = getattr(function, "__name__", str(function))
            await self.point(f"before {name}")
            try:
                return function(*args, **kwargs)
            finally:
                await self.point(f"after {name}")

        monkeypatch.setattr(asyncio, "to_thread", to_thread)


class _Wrapped:
    def __init__(self, port: Any, points: AwaitPoints) -> None:
        self._port = port
        self._points = points

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._port, name)
        if not asyncio.iscoroutinefunction(found):
            return found

        async def call(*args: Any, **kwargs: Any) -> Any:
            await self._points.point(f"before {name}")
            try:
                return await found(*args, **kwargs)
            finally:
                await self._points.point(f"after {name}")

        return call
