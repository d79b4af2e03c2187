"""Proxies that a test without an event loop of its own can use, and a cluster that lies behind them."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.support.cluster import Cluster
from tests.support.own_process import free_port
from tests.support.proxy import Proxy, Spoil

#: A broker that is silent for about twice as long is taken for dead.
AMQP_HEARTBEAT_SECONDS = 2
#: No change of a proxy takes longer.
CHANGE_SECONDS = 30.0


class Links:
    """An event loop in a thread, and the proxies on it."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="links", daemon=True)
        self._links: list[Link] = []

    def __enter__(self) -> "Links":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for link in self._links:
            link.cut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def to(self, target_port: int) -> "Link":
        """A new link to a port of this machine."""
        link = Link(self, target_port)
        self._links.append(link)
        return link

    def heal(self) -> None:
        """Make all links whole."""
        for link in self._links:
            link.heal()

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something on the event loop, to its end."""
        asyncio.run_coroutine_threadsafe(work, self._loop).result(CHANGE_SECONDS)


class Link:
    """A proxy that is changed from another thread."""

    def __init__(self, links: Links, target_port: int) -> None:
        self._links = links
        self.proxy = Proxy(target_port)
        self.heal()

    @property
    def port(self) -> int:
        """Where the proxy listens."""
        return self.proxy.port

    def heal(self) -> None:
        """Accept connections, and pass on everything as it is."""
        self._links.run(self.proxy.heal())

    def cut(self) -> None:
        """Break all connections, and refuse new ones."""
        self._links.run(self.proxy.cut())

    def break_connections(self) -> None:
        """Break all connections; new ones are accepted."""
        self._links.run(self.proxy.break_connections())

    def hold(self, *, requests: bool = True, answers: bool = True) -> None:
        """Let nothing through, in both directions or one; the connections stay open."""

        async def hold() -> None:
            for held, passes in (
                (requests, self.proxy.passes_requests),
                (answers, self.proxy.passes_answers),
            ):
                if held:
                    passes.clear()

        self._links.run(hold())

    def slow(self, *, delay_seconds: float = 0.0, bytes_per_second: int = 0) -> None:
        """Let answers come late, or few bytes a second."""
        self.proxy.delay_seconds, self.proxy.bytes_per_second = delay_seconds, bytes_per_second

    def spoil(self, spoil: Spoil) -> None:
        """Spoil answers from now on."""
        self.proxy.spoil = spoil


class LinkedCluster(Cluster):
    """Each daemon reaches RabbitMQ and Redis over links of its own, and so do its peers each worker."""

    def __init__(
        self,
        links: Links,
        directory: Path,
        rabbitmq_port: int,
        redis_port: int,
        extra: Callable[[str], dict[str, str]],
        **options: Any,
    ) -> None:
        """`extra` gives further variables of a daemon."""
        self._extra = extra
        urls = (f"amqp://guest:guest@127.0.0.1:{rabbitmq_port}/%2F", f"redis://127.0.0.1:{redis_port}/0")
        super().__init__(directory, *urls, **options)
        daemons = ("coordinator", *self.names)
        self._listen = {name: free_port() for name in self.names}
        self.broker = {name: links.to(rabbitmq_port) for name in daemons}
        self.store = {name: links.to(redis_port) for name in daemons}
        #: From the other workers to this one.
        self.shuffle = {name: links.to(port) for name, port in self._listen.items()}

    def daemon_environment(self, name: str) -> dict[str, str]:
        """What a daemon sees."""
        broker = (
            f"amqp://guest:guest@127.0.0.1:{self.broker[name].port}/%2F?heartbeat={AMQP_HEARTBEAT_SECONDS}"
        )
        return (
            super().daemon_environment(name)
            | self._extra(name)
            | {
                "MR_BROKER_URL": broker,
                "MR_REDIS_URL": f"redis://127.0.0.1:{self.store[name].port}/0",
            }
        )

    def addresses(self, name: str) -> tuple[str, str]:
        """Where a worker listens, and what it tells the others."""
        return f"127.0.0.1:{self._listen[name]}", f"127.0.0.1:{self.shuffle[name].port}"

    def spool_of(self, name: str) -> Path:
        """The `--spool` of a worker."""
        return self.spool / name
