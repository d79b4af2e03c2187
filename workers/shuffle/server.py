"""The worker's HTTP server for map outputs: one answer streams all segments a reducer wants from here.

The bytes go from the page cache to the socket by sendfile; the event loop only says which.
"""

import asyncio
import logging
import socket
from pathlib import Path
from typing import BinaryIO

import msgspec
from aiohttp import web

from mr.errors import MrError
from mr.protocol.ids import JobId, is_id
from mr.telling import why
from workers.shuffle.outputs import FileRegion, Outputs
from workers.shuffle.wire import MAX_REQUEST_BYTES, MSGPACK, FetchRequest, fetch_path

log = logging.getLogger(__name__)

#: Answers under way at once; one more is told to come again.
MAX_TRANSFERS = 128
#: Bytes handed to the kernel at a time, and how long a reducer may take to receive them.
TRANSFER_BYTES = 16 * 1024 * 1024
TRANSFER_SECONDS = 120.0
#: Bytes copied at a time where the kernel cannot send a file.
COPY_BYTES = 256 * 1024

_EVERYWHERE = ("0.0.0.0", "::")
#: An address reserved for documentation: reached by the default route, belongs to nobody.
_NOBODY = ("192.0.2.1", 9)


class ListenFailed(MrError):
    """The shuffle server cannot listen. Choose another --listen HOST:PORT."""

    exit_code = 2


class ShuffleServer:
    """Serves `outputs` on one address from `start` to `close`."""

    def __init__(self, outputs: Outputs) -> None:
        self._outputs = outputs
        self._transfers = 0
        self._runner: web.AppRunner | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port, which the system chooses for port 0. Raises ListenFailed."""
        application = web.Application(client_max_size=MAX_REQUEST_BYTES)
        application.router.add_post(fetch_path(JobId("{job}"), 0)[:-1] + "{partition}", self._answer)
        self._runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port, reuse_address=True)
        try:
            await site.start()
        except OSError as error:
            await self.close()
            raise ListenFailed(
                f"cannot listen on {host}:{port}: {why(error)}; choose another --listen"
            ) from error
        bound: int = self._runner.addresses[0][1]
        return bound

    async def close(self) -> None:
        """Stop listening and break off what is under way."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        job = JobId(request.match_info["job"])
        refusal = self._refusal(request, job)
        if refusal is not None:
            return refusal
        try:
            partition = int(request.match_info["partition"])
            wanted = msgspec.msgpack.decode(await request.read(), type=FetchRequest)
        except (ValueError, msgspec.DecodeError) as error:
            return web.Response(status=400, text=f"not a request: {error}")
        if partition < 0 or wanted.offset < 0:
            return web.Response(status=400, text="partition and offset must not be negative")
        regions, missing = self._find(job, partition, wanted)
        if missing:
            return web.Response(status=404, body=msgspec.msgpack.encode(missing), content_type=MSGPACK)
        total = sum(region.bytes for region in regions)
        if wanted.offset > total:
            return web.Response(status=416, text=f"the answer has {total} bytes")
        if self._transfers >= MAX_TRANSFERS:
            return web.Response(status=503, headers={"Retry-After": "1"})
        self._transfers += 1
        try:
            return await self._stream(request, regions, wanted.offset, total - wanted.offset)
        finally:
            self._transfers -= 1

    def _refusal(self, request: web.Request, job: JobId) -> web.Response | None:
        """Say why the request gets nothing, or None."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            return web.Response(status=401, headers={"WWW-Authenticate": "Bearer"})
        if not is_id(job) or not self._outputs.knows(job):
            return web.Response(status=404, body=msgspec.msgpack.encode([]), content_type=MSGPACK)
        if not self._outputs.admits(job, token):
            return web.Response(status=403)
        return None

    def _find(
        self, job: JobId, partition: int, wanted: FetchRequest
    ) -> tuple[list[FileRegion], list[tuple[str, int]]]:
        """The wanted segments, and those that are not here (any more)."""
        regions: list[FileRegion] = []
        missing: list[tuple[str, int]] = []
        for task, attempt in wanted.outputs:
            region = self._outputs.find(job, task, attempt, partition)
            if region is None or not _is_whole(region):
                missing.append((task, attempt))
            else:
                regions.append(region)
        return regions, missing

    async def _stream(
        self, request: web.Request, regions: list[FileRegion], skip: int, length: int
    ) -> web.StreamResponse:
        """Send the regions one after the other, without their first `skip` bytes."""
        response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
        response.content_length = length
        await response.prepare(request)
        for region in regions:
            if skip >= region.bytes:
                skip -= region.bytes
                continue
            try:
                await self._send(request, response, region, skip)
            except (OSError, TimeoutError) as error:
                # Too late for a status: the reducer sees a short answer and asks for the rest.
                log.info("a transfer of %s broke off: %s", region.path.name, error)
                if request.transport is not None:
                    request.transport.abort()
                return response
            skip = 0
        await response.write_eof()
        return response

    async def _send(
        self, request: web.Request, response: web.StreamResponse, region: FileRegion, skip: int
    ) -> None:
        start, end = region.offset + skip, region.offset + region.bytes
        with _open(region.path) as file:
            while start < end:
                count = min(TRANSFER_BYTES, end - start)
                async with asyncio.timeout(TRANSFER_SECONDS):
                    await _send_file(request, response, file, start, count)
                start += count


async def _send_file(
    request: web.Request, response: web.StreamResponse, file: BinaryIO, start: int, count: int
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


def _is_whole(region: FileRegion) -> bool:
    """Whether the file is there and long enough."""
    try:
        return region.path.stat().st_size >= region.offset + region.bytes
    except OSError:
        return False


def parse_address(listen: str) -> tuple[str, int]:
    """Read `HOST:PORT`, `:PORT` or `[IPV6]:PORT`. Raises ListenFailed."""
    host, colon, port = listen.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise ListenFailed(f"--listen {listen!r} is not HOST:PORT, such as 0.0.0.0:7070")
    return host.strip("[]") or "0.0.0.0", int(port)


def advertised(host: str, port: int, advertise: str | None) -> str:
    """What reducers are told: `advertise` (HOST or HOST:PORT) if given, else what is listened on."""
    if advertise:
        has_port = ":" in advertise.rpartition("]")[2] if "]" in advertise else advertise.count(":") == 1
        bracketed = f"[{advertise}]" if advertise.count(":") > 1 and "]" not in advertise else advertise
        return advertise if has_port else f"{bracketed}:{port}"
    if host in _EVERYWHERE:
        host = own_address()
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def own_address() -> str:
    """The address of this host towards others; loopback when it has no route to anywhere."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(_NOBODY)  # of a datagram socket: nothing is sent, only a route is chosen
        except OSError:
            return "127.0.0.1"
        address: str = probe.getsockname()[0]
        return address
