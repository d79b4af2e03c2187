"""A TCP proxy on loopback that a test can cut, stop or slow down, or make spoil what the server answers."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Literal

from tests.support.own_process import free_port

CHUNK_BYTES = 65536
#: A limited rate is kept by passing on a share of it, then waiting for that share of a second.
SHARES_A_SECOND = 20


@dataclass
class Spoil:
    """What happens to an answer after its first `after_bytes`.

    The next byte is flipped, the connection is reset or closed in good order, or nothing more comes.
    """

    how: Literal["flip", "reset", "truncate", "stall"]
    after_bytes: int
    #: Connections that it still happens to.
    times: int = 1_000_000


class Proxy:
    """Forwards to `target_port`. One event loop, the test's own."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self.port = free_port()
        #: While set, what the server answers is dropped; the server still gets everything.
        self.swallows_answers = False
        #: While clear, what comes from that side is held back, as in a network that loses packets.
        self.passes_requests = asyncio.Event()
        self.passes_answers = asyncio.Event()
        #: How much later answers arrive.
        self.delay_seconds = 0.0
        #: Most bytes a second of each connection's answers; 0 = no limit.
        self.bytes_per_second = 0
        self.spoil: Spoil | None = None
        #: Changes requests, if set.
        self.change_request: Callable[[bytes], bytes] | None = None
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
        """Accept connections (again), and pass everything on as it is."""
        self.swallows_answers = False
        self.delay_seconds, self.bytes_per_second = 0.0, 0
        self.spoil = self.change_request = None
        self.passes_requests.set()
        self.passes_answers.set()
        if self._server is None:
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
        serving = {task for task in self._serving if task is not None}
        for task in serving:  # some wait for what will not come any more
            task.cancel()
        for writer in writers:
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        if serving:
            await asyncio.wait(serving)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.current_task()
        self._serving.add(task)
        try:
            await self._forward(reader, writer)
        except asyncio.CancelledError:
            writer.transport.abort()
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
            self._pump(reader, server_writer, self._pass_request),
            self._pump(server_reader, writer, self._pass_answer),
        )

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        passing: Callable[[bytes, int], Awaitable[tuple[bytes, str]]],
    ) -> None:
        passed = 0
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(self.bytes_per_second // SHARES_A_SECOND or CHUNK_BYTES):
                sent, end = await passing(data, passed)
                passed += len(data)
                writer.write(sent)
                await writer.drain()
                if end == "stall":
                    await asyncio.Event().wait()
                if end == "truncate":
                    writer.close()
                    await writer.wait_closed()
                if end:
                    break
        self._writers.discard(writer)
        writer.transport.abort()

    async def _pass_request(self, data: bytes, passed: int) -> tuple[bytes, str]:
        await self.passes_requests.wait()
        return self.change_request(data) if self.change_request else data, ""

    async def _pass_answer(self, data: bytes, passed: int) -> tuple[bytes, str]:
        """What goes on of an answer of which `passed` bytes went before, and how the connection then ends."""
        if self.bytes_per_second:
            await asyncio.sleep(1 / SHARES_A_SECOND)
        if self.delay_seconds:
            await asyncio.sleep(self.delay_seconds)
        await self.passes_answers.wait()
        if self.swallows_answers:
            return b"", ""
        spoil = self.spoil
        if spoil is None or not spoil.times or not passed <= spoil.after_bytes < passed + len(data):
            return data, ""
        spoil.times -= 1
        at = spoil.after_bytes - passed
        if spoil.how == "flip":
            return data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :], ""
        return data[:at], spoil.how
