"""A TCP proxy on loopback that a test can cut, or make swallow what the server answers."""

import asyncio
import contextlib
from types import TracebackType

from tests.support.own_process import free_port

CHUNK_BYTES = 65536


class Proxy:
    """Forwards to `target_port`. One event loop, the test's own."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self.port = free_port()
        #: While set, what the server answers is dropped; the server still gets everything.
        self.swallows_answers = False
        #: Connections accepted so far.
        self.accepted = 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None] | None] = set()

    async def __aenter__(self) -> "Proxy":
        await self.heal()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.cut()

    async def heal(self) -> None:
        """Accept connections (again)."""
        self.swallows_answers = False
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def cut(self) -> None:
        """Break all connections, and refuse new ones until `heal`."""
        if self._server is not None:
            self._server.close()
            self._server = None
        await self.break_connections()

    async def break_connections(self) -> None:
        """Break all connections; new ones are accepted."""
        writers, self._writers = self._writers, set()
        for writer in writers:
            writer.transport.abort()
        for writer in writers:
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        if serving := {task for task in self._serving if task is not None}:
            await asyncio.wait(serving)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.current_task()
        self._serving.add(task)
        try:
            await self._forward(reader, writer)
        finally:
            self._serving.discard(task)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            writer.transport.abort()
            return
        self._writers.add(server_writer)
        await asyncio.gather(
            self._pump(reader, server_writer, answers=False), self._pump(server_reader, writer, answers=True)
        )

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool
    ) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(CHUNK_BYTES):
                if answers and self.swallows_answers:
                    continue
                writer.write(data)
                await writer.drain()
        self._writers.discard(writer)
        writer.transport.abort()
