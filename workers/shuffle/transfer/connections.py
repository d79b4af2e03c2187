"""Connections to the shuffle server: so many at once, each with so long to ask, for one request.

The worker needs descriptors of its own (broker, store, children, segment files). Clients that connect and
send nothing, or half a header, must not use them up: a connection too many replaces the oldest that has not
sent its request yet. One that is being served is never closed for another.
"""

import asyncio
import functools
import resource
from collections.abc import Awaitable, Callable

from aiohttp import web

#: A connection that has not sent its whole request by then is closed.
REQUEST_SECONDS = 10.0
#: Most transfers and most connections at once, however many files the process may open.
MAX_TRANSFERS = 128
MAX_CONNECTIONS = 1024


def bounds() -> tuple[int, int]:
    """Most transfers and most connections of this process: half of its descriptors stay the worker's own.

    A transfer takes three: its connection, the file that is sent, and one that is being looked up.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    half = MAX_CONNECTIONS * 2 if soft == resource.RLIM_INFINITY else soft // 2
    transfers = max(1, min(MAX_TRANSFERS, half // 4))
    return transfers, max(2, min(MAX_CONNECTIONS, half - 2 * transfers))


class BoundedServer(web.Server):
    """aiohttp's server with those bounds. `answer` calls `has_asked` when it has read a request."""

    def __init__(
        self,
        answer: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        most: int,
        max_request_bytes: int,
    ) -> None:
        loop = asyncio.get_running_loop()
        sized = functools.partial(web.BaseRequest, loop=loop, client_max_size=max_request_bytes)
        super().__init__(answer, request_factory=sized, access_log=None)
        self._most = most
        self._open = 0
        #: Those that have not asked yet, the oldest first, with what closes them.
        self._waiting: dict[web.RequestHandler, asyncio.TimerHandle] = {}

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        """A connection was accepted."""
        super().connection_made(handler, transport)
        self._open += 1
        if self._open > self._most and self._waiting:
            self._drop(next(iter(self._waiting)))
        self._waiting[handler] = asyncio.get_running_loop().call_later(REQUEST_SECONDS, self._drop, handler)

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        """A connection has ended."""
        super().connection_lost(handler, exc)
        self._open -= 1
        self._forget(handler)

    def has_asked(self, handler: web.RequestHandler) -> None:
        """A connection's request has come; it may take as long as the answer takes."""
        self._forget(handler)

    def _drop(self, handler: web.RequestHandler) -> None:
        self._forget(handler)
        handler.force_close()

    def _forget(self, handler: web.RequestHandler) -> None:
        timer = self._waiting.pop(handler, None)
        if timer is not None:
            timer.cancel()
