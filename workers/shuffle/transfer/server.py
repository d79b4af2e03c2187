"""The worker's HTTP server for map outputs: one answer streams all segments a reducer wants from here.

The bytes of large segments go from the page cache to the socket by sendfile. Whatever waits for the disk
does so in a thread: the event loop also carries the worker's heartbeat.
"""

import asyncio
import logging
import socket
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import msgspec
from aiohttp import web

from mr.error_text import error_text
from mr.errors import MrError, SegmentCorrupt
from mr.protocol.codec import UNDECODABLE
from mr.protocol.ids import AttemptId, JobId, TaskId, is_id
from mr.workers.shuffle.segment_index import SegmentRef, find_segment
from mr.workers.shuffle.transfer.connections import BoundedServer, bounds
from mr.workers.shuffle.transfer.served_outputs import ServedOutputs
from mr.workers.shuffle.transfer.wire import (
    MAX_REQUEST_BYTES,
    MSGPACK,
    FetchRequest,
    length_table,
    parse_path,
)

log = logging.getLogger(__name__)

#: Bytes handed to the kernel at a time, and how long a reducer may take to receive them.
TRANSFER_BYTES = 16 * 1024 * 1024
TRANSFER_SECONDS = 120.0
#: Bytes copied at a time, of small segments and where the kernel cannot send a file.
COPY_BYTES = 256 * 1024

_EVERYWHERE = ("0.0.0.0", "::")
#: An address reserved for documentation: reached by the default route, belongs to nobody.
_NOBODY = ("192.0.2.1", 9)


class ListenFailed(MrError):
    """The shuffle server cannot listen. Choose another --listen HOST:PORT."""

    exit_code = 2


class ShuffleServer:
    """Serves `outputs` on one address from `start` to `close`."""

    def __init__(self, outputs: ServedOutputs) -> None:
        self._outputs = outputs
        self._transfers = 0
        self._max_transfers, most = bounds()
        self._backlog = min(128, most)
        self._server = BoundedServer(self._answer, most, MAX_REQUEST_BYTES)
        self._runner: web.ServerRunner | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port, which the system chooses for port 0. Raises ListenFailed."""
        self._runner = web.ServerRunner(self._server, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port, reuse_address=True, backlog=self._backlog)
        try:
            await site.start()
        except OSError as error:
            await self.close()
            raise ListenFailed(
                f"cannot listen on {host}:{port}: {error_text(error)}; choose another --listen"
            ) from error
        bound: int = self._runner.addresses[0][1]
        return bound

    async def close(self) -> None:
        """Stop listening and abort the transfers that are under way."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a connection's one request."""
        try:
            response = await self._reply(request)
        except ConnectionError as error:  # its reducer was killed, or gave up: nobody reads an answer
            log.info("a request for %s was dropped: %s", request.rel_url.raw_path, error)
            response = web.Response(status=499)
        response.force_close()
        return response

    async def _reply(self, request: web.BaseRequest) -> web.StreamResponse:
        job, partition = parse_path(request.rel_url.raw_path) or (JobId(""), -1)
        if partition < 0 or request.method != "POST":
            return web.Response(status=404, text="no such thing is served here")
        refusal = self._refusal(request, job)
        if refusal is not None:
            return refusal
        try:
            wanted = msgspec.msgpack.decode(await request.read(), type=FetchRequest)
        except (*UNDECODABLE, web.RequestPayloadError, ConnectionError) as error:
            return web.Response(status=400, text=f"not a request: {error}")
        if wanted.offset < 0 or len(set(wanted.outputs)) < len(wanted.outputs):
            return web.Response(status=400, text="each output is asked for once, from no negative offset")
        self._server.has_asked(request.protocol)
        if self._transfers >= self._max_transfers:
            return web.Response(status=503, headers={"Retry-After": "1"})
        self._transfers += 1
        try:
            return await self._give(request, job, partition, wanted)
        finally:
            self._transfers -= 1

    def _refusal(self, request: web.BaseRequest, job: JobId) -> web.Response | None:
        """The answer that refuses a request; None if it may be served."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            return web.Response(status=401, headers={"WWW-Authenticate": "Bearer"})
        if not is_id(job) or not self._outputs.knows(job):
            return web.Response(status=404, body=msgspec.msgpack.encode([]), content_type=MSGPACK)
        if not self._outputs.admits(job, token):
            return web.Response(status=403)
        return None

    async def _give(
        self, request: web.BaseRequest, job: JobId, partition: int, wanted: FetchRequest
    ) -> web.StreamResponse:
        """Answer with the wanted segments, or with those that are not here (any more)."""
        files = [(self._outputs.find(AttemptId(job, *name)), name) for name in wanted.outputs]
        segments, missing = await asyncio.to_thread(_find, files, partition)
        if missing:
            return web.Response(status=404, body=msgspec.msgpack.encode(missing), content_type=MSGPACK)
        total = sum(segment.bytes for segment in segments)
        if wanted.offset > total:
            return web.Response(status=416, text=f"the segments have {total} bytes")
        table = length_table([segment.bytes for segment in segments])
        response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
        response.force_close()
        response.content_length = len(table) + total - wanted.offset
        await response.prepare(request)
        try:
            async with asyncio.timeout(TRANSFER_SECONDS):
                await response.write(table)
            for batch in _batches(_from(segments, wanted.offset)):
                await _send(request, response, batch)
        except (OSError, TimeoutError) as error:
            # Too late for a status: the reducer sees a short answer and asks for the rest.
            log.info("a transfer of %s partition %d broke off: %s", job, partition, error)
            if request.transport is not None:
                request.transport.abort()
            return response
        await response.write_eof()
        return response


def _find(
    files: Sequence[tuple[Path | None, tuple[TaskId, int]]], partition: int
) -> tuple[list[SegmentRef], list[tuple[TaskId, int]]]:
    """The segments of a partition, and the outputs without a whole file. Blocks on the disk."""
    segments: list[SegmentRef] = []
    missing: list[tuple[TaskId, int]] = []
    for path, name in files:
        try:
            if path is None:
                raise FileNotFoundError(name)
            segments.append(find_segment(path, partition))
        except (OSError, SegmentCorrupt):
            missing.append(name)
    return segments, missing


def _from(segments: Iterable[SegmentRef], offset: int) -> Iterator[SegmentRef]:
    """The segments without their first `offset` bytes, and without the empty ones."""
    for segment in segments:
        skip = min(offset, segment.bytes)
        offset -= skip
        if segment.bytes > skip:
            yield SegmentRef(segment.path, segment.start + skip, segment.bytes - skip)


def _batches(segments: Iterable[SegmentRef]) -> Iterator[list[SegmentRef]]:
    """Runs of segments that are read at once: neighbours up to COPY_BYTES together; larger ones alone."""
    batch: list[SegmentRef] = []
    total = 0
    for segment in segments:
        if batch and total + segment.bytes > COPY_BYTES:
            yield batch
            batch, total = [], 0
        batch.append(segment)
        total += segment.bytes
    if batch:
        yield batch


async def _send(request: web.BaseRequest, response: web.StreamResponse, batch: list[SegmentRef]) -> None:
    """Send a large segment by sendfile, several small ones as one buffer to save calls."""
    if batch[0].bytes < COPY_BYTES:
        data = await asyncio.to_thread(_read_all, batch)
        async with asyncio.timeout(TRANSFER_SECONDS):
            await response.write(data)
        return
    (segment,) = batch
    start, end = segment.start, segment.start + segment.bytes
    file = await asyncio.to_thread(_open, segment.path)
    try:
        while start < end:
            count = min(TRANSFER_BYTES, end - start)
            async with asyncio.timeout(TRANSFER_SECONDS):
                await _send_file(request, response, file, start, count)
            start += count
    finally:
        file.close()


def _read_all(segments: Sequence[SegmentRef]) -> bytes:
    """The bytes of several segments, one after the other. Raises OSError, also for a file cut short."""
    parts = []
    for segment in segments:
        with segment.open() as file:
            parts.append(file.read(segment.bytes))
        if len(parts[-1]) < segment.bytes:
            raise OSError(f"{segment.path.name} was cut short")
    return b"".join(parts)


async def _send_file(
    request: web.BaseRequest, response: web.StreamResponse, file: BinaryIO, start: int, count: int
) -> None:
    """Send `count` bytes of `file` from `start`. Raises OSError: reducer gone, file too short."""
    if request.transport is None:
        raise ConnectionResetError("the reducer hung up")
    try:
        sent = await asyncio.get_running_loop().sendfile(
            request.transport, file, start, count, fallback=False
        )
    except (asyncio.SendfileNotAvailableError, NotImplementedError):
        sent = await _copy_file(response, file, start, count)
    if sent != count:
        raise OSError(f"the file ended {count - sent} bytes early")


def _open(path: Path) -> BinaryIO:
    return open(path, "rb")


async def _copy_file(response: web.StreamResponse, file: BinaryIO, start: int, count: int) -> int:
    file.seek(start)
    left = count
    while left and (data := await asyncio.to_thread(file.read, min(COPY_BYTES, left))):
        await response.write(data)
        left -= len(data)
    return count - left


def parse_address(listen: str) -> tuple[str, int]:
    """Read `HOST:PORT`, `:PORT` or `[IPV6]:PORT`. Raises ListenFailed."""
    host, colon, port = listen.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise ListenFailed(f"--listen {listen!r} is not HOST:PORT, such as 0.0.0.0:7070")
    return host.strip("[]") or "0.0.0.0", int(port)


def advertised(host: str, port: int, advertise: str | None) -> str:
    """The address for reducers: `advertise` (HOST or HOST:PORT) if given, else the one listened on."""
    if advertise:
        has_port = ":" in advertise.rpartition("]")[2] if "]" in advertise else advertise.count(":") == 1
        bracketed = f"[{advertise}]" if advertise.count(":") > 1 and "]" not in advertise else advertise
        return advertise if has_port else f"{bracketed}:{port}"
    if host in _EVERYWHERE:
        host = own_address()
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def own_address() -> str:
    """The address under which others reach this host; loopback if it has no route."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(_NOBODY)  # a datagram socket: this only chooses a route and sends nothing
        except OSError:
            return "127.0.0.1"
        address: str = probe.getsockname()[0]
        return address
