"""The shuffle server over real loopback HTTP: what it gives, and to whom."""

import asyncio
import contextlib
import logging
import resource
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from mr.protocol.ids import AttemptId, Incarnation, JobId, TaskId, WorkerId
from mr.protocol.records import MapOutput
from mr.workers.shuffle.segment_index import write_index
from mr.workers.shuffle.transfer import connections
from mr.workers.shuffle.transfer import server as server_module
from mr.workers.shuffle.transfer.served_outputs import ServedOutputs
from mr.workers.shuffle.transfer.server import ListenFailed, ShuffleServer, advertised, parse_address
from mr.workers.shuffle.transfer.wire import FetchRequest, fetch_path, length_table

JOB = JobId("job-1")
#: Where a test would wait for ever if the server did not do its part.
STUCK_SECONDS = 20.0
ADMITTED = {"Authorization": "Bearer secret"}


def put(directory: Path, outputs: ServedOutputs, index: int, *segments: bytes) -> MapOutput:
    """Write a map output and offer it."""
    path = directory / f"map-{index}"
    with path.open("wb") as file:
        file.writelines(segments)
        write_index(file, [len(segment) for segment in segments])
    output = MapOutput(
        AttemptId(JOB, TaskId(f"map-{index:05d}"), 1),
        WorkerId("w1"),
        Incarnation("i1"),
        "",
        "",
        str(path),
    )
    outputs.add("secret", output)
    return output


class Reducer:
    """Asks the server and gives back status and body."""

    def __init__(self, session: aiohttp.ClientSession, port: int) -> None:
        self._session = session
        self._base = f"http://127.0.0.1:{port}"

    async def ask(
        self,
        maps: tuple[int, ...],
        partition: int = 0,
        offset: int = 0,
        headers: dict[str, str] = ADMITTED,
        path: str = "",
        body: Any = None,
    ) -> tuple[int, bytes]:
        request = FetchRequest(tuple((TaskId(f"map-{n:05d}"), 1) for n in maps), offset)
        url = self._base + (path or fetch_path(JOB, partition))
        data = msgspec.msgpack.encode(request) if body is None else body
        async with self._session.post(url, data=data, headers=headers) as response:
            return response.status, await response.read()


@pytest.fixture
async def outputs(tmp_path: Path) -> ServedOutputs:
    found = ServedOutputs()
    put(tmp_path, found, 0, b"aaa", b"", b"AAAAA")
    put(tmp_path, found, 1, b"", b"b", b"BB")
    return found


@pytest.fixture
async def reducer(outputs: ServedOutputs) -> AsyncIterator[Reducer]:
    server = ShuffleServer(outputs)
    port = await server.start("127.0.0.1", 0)
    async with aiohttp.ClientSession() as session:
        yield Reducer(session, port)
    await server.close()


async def test_one_answer_carries_the_segments_of_all_maps_in_the_order_asked(reducer: Reducer) -> None:
    assert await reducer.ask((0, 1), partition=2) == (200, length_table([5, 2]) + b"AAAAABB")
    assert await reducer.ask((1, 0), partition=2) == (200, length_table([2, 5]) + b"BBAAAAA")
    assert await reducer.ask((0, 1), partition=1) == (200, length_table([0, 1]) + b"b")
    assert await reducer.ask((), partition=1) == (200, length_table([]))


@pytest.mark.parametrize("offset", range(8))
async def test_an_answer_can_begin_at_any_byte(reducer: Reducer, offset: int) -> None:
    answer = await reducer.ask((0, 1), partition=2, offset=offset)
    assert answer == (200, length_table([5, 2]) + b"AAAAABB"[offset:])


async def test_an_offset_beyond_the_end_is_refused(reducer: Reducer) -> None:
    assert (await reducer.ask((0, 1), partition=2, offset=8))[0] == 416


async def test_large_segments_arrive_whole(
    tmp_path: Path, outputs: ServedOutputs, reducer: Reducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "TRANSFER_BYTES", 1000)
    data = bytes(range(256)) * 40
    put(tmp_path, outputs, 2, b"head", data, b"tail")
    assert await reducer.ask((2,), partition=1) == (200, length_table([len(data)]) + data)


async def test_many_small_segments_are_sent_together(
    tmp_path: Path, outputs: ServedOutputs, reducer: Reducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "COPY_BYTES", 100)
    lengths = [7, 90, 0, 30, 100, 1, 99, 250, 3]
    bodies = [bytes([number]) * length for number, length in enumerate(lengths)]
    for number, body in enumerate(bodies, start=2):
        put(tmp_path, outputs, number, body)
    for offset in (0, 6, 97, 480):
        answer = await reducer.ask(tuple(range(2, 11)), offset=offset)
        assert answer == (200, length_table(lengths) + b"".join(bodies)[offset:])


async def test_where_the_kernel_cannot_send_files_they_are_copied(
    tmp_path: Path, outputs: ServedOutputs, reducer: Reducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object, **__: object) -> int:
        raise asyncio.SendfileNotAvailableError

    monkeypatch.setattr(asyncio.get_running_loop(), "sendfile", refuse)
    monkeypatch.setattr(server_module, "COPY_BYTES", 3)
    data = bytes(range(256))
    put(tmp_path, outputs, 2, b"head", data, b"tail")
    answer = await reducer.ask((2,), partition=1, offset=5)
    assert answer == (200, length_table([len(data)]) + data[5:])


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": "Basic secret"}, 401),
        ({"Authorization": "Bearer "}, 401),
        ({"Authorization": "Bearer secre"}, 403),
        ({"Authorization": "Bearer secret2"}, 403),
    ],
)
async def test_without_the_job_s_token_there_is_nothing(
    reducer: Reducer, headers: dict[str, str], status: int
) -> None:
    assert await reducer.ask((0,), headers=headers) == (status, b"")


async def test_one_job_s_token_does_not_open_another_job(
    tmp_path: Path, outputs: ServedOutputs, reducer: Reducer
) -> None:
    other = put(tmp_path, ServedOutputs(), 0, b"x")
    moved = other.attempt._replace(job=JobId("job-2"))
    outputs.add("other", msgspec.structs.replace(other, attempt=moved))
    assert (await reducer.ask((0,), path=fetch_path(JobId("job-2"), 0)))[0] == 403


async def test_missing_outputs_are_named(tmp_path: Path, outputs: ServedOutputs, reducer: Reducer) -> None:
    (tmp_path / "map-1").unlink()
    status, body = await reducer.ask((0, 1, 7), partition=2)
    assert status == 404
    assert msgspec.msgpack.decode(body) == [["map-00001", 1], ["map-00007", 1]]


@pytest.mark.parametrize("kept", [0, 5, 40])
async def test_a_file_that_was_cut_short_is_missing(tmp_path: Path, reducer: Reducer, kept: int) -> None:
    path = tmp_path / "map-0"
    path.write_bytes(path.read_bytes()[:kept])
    assert (await reducer.ask((0,), partition=2))[0] == 404


async def test_another_attempt_s_output_is_missing(outputs: ServedOutputs, reducer: Reducer) -> None:
    outputs.remove(AttemptId(JOB, TaskId("map-00000"), 2))
    assert (await reducer.ask((0,)))[0] == 200
    outputs.remove(AttemptId(JOB, TaskId("map-00000"), 1))
    assert (await reducer.ask((0,)))[0] == 404


async def test_nothing_of_an_ended_job_is_given(outputs: ServedOutputs, reducer: Reducer) -> None:
    outputs.remove_job(JOB)
    assert (await reducer.ask((0,)))[0] == 404


@pytest.mark.parametrize("partition", ["9", "-1", "x", "0%2f1"])
async def test_a_wrong_partition_is_refused(reducer: Reducer, partition: str) -> None:
    status, _ = await reducer.ask((0,), path=f"/v1/jobs/{JOB}/partitions/{partition}")
    assert status in (400, 404)


@pytest.mark.parametrize("job", ["..%2f..%2fetc", "%2e%2e", "job-9"])
async def test_a_job_that_is_not_here_is_unknown(reducer: Reducer, job: str) -> None:
    assert (await reducer.ask((0,), path=f"/v1/jobs/{job}/partitions/0"))[0] == 404


@pytest.mark.parametrize("body", [b"", b"\xc1", b"{}", msgspec.msgpack.encode({"outputs": "x"})])
async def test_a_body_that_is_no_request_is_refused(reducer: Reducer, body: bytes) -> None:
    assert (await reducer.ask((0,), body=body))[0] == 400


@contextlib.asynccontextmanager
async def bounded(
    outputs: ServedOutputs, monkeypatch: pytest.MonkeyPatch, transfers: int, connections: int
) -> AsyncIterator[int]:
    """A server with these bounds, by its port."""
    monkeypatch.setattr(server_module, "bounds", lambda: (transfers, connections))
    server = ShuffleServer(outputs)
    yield await server.start("127.0.0.1", 0)
    await server.close()


async def test_more_transfers_than_allowed_are_told_to_come_again(
    outputs: ServedOutputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bounded(outputs, monkeypatch, 0, 4) as port, aiohttp.ClientSession() as session:
        assert (await Reducer(session, port).ask((0,)))[0] == 503


async def test_an_output_asked_for_twice_is_refused(reducer: Reducer) -> None:
    assert (await reducer.ask((0, 1, 0)))[0] == 400


@pytest.mark.parametrize("sent", [b"", b"POST /v1/jobs/job-1/partitions/0 HTTP/1.1\r\nHost: x\r\n"])
async def test_connections_that_do_not_ask_give_way_to_those_that_do(
    outputs: ServedOutputs, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(connections, "REQUEST_SECONDS", 3600.0)
    async with bounded(outputs, monkeypatch, 2, 4) as port:
        idle = []
        for _ in range(20):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(sent)
            idle.append((reader, writer))
        async with aiohttp.ClientSession() as session:
            assert (await Reducer(session, port).ask((0,)))[0] == 200
        # All but as many as there may be were closed, the oldest first.
        async with asyncio.timeout(STUCK_SECONDS):
            for reader, _ in idle[:16]:
                assert await reader.read() == b""
        for _, writer in idle:
            writer.close()


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"POST /v1/jobs/job-1/partitions/0 HTT",
        b"POST /v1/jobs/job-1/partitions/0 HTTP/1.1\r\nHost: x\r\n"
        b"Authorization: Bearer secret\r\nContent-Length: 9\r\n\r\nx",
    ],
)
async def test_half_a_request_is_not_waited_for(
    outputs: ServedOutputs, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(connections, "REQUEST_SECONDS", 0.05)
    async with bounded(outputs, monkeypatch, 2, 4) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        async with asyncio.timeout(STUCK_SECONDS):
            assert await reader.read() == b""
        writer.close()


@pytest.mark.parametrize("whole", [True, False], ids=["before the answer", "in its request"])
async def test_a_reducer_that_is_gone_is_no_error_of_the_worker(
    outputs: ServedOutputs, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, whole: bool
) -> None:
    looking, gone, lost = asyncio.Event(), threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    find, connection_lost = server_module._find, connections.BoundedServer.connection_lost

    def wait_and_find(*arguments: Any) -> Any:
        loop.call_soon_threadsafe(looking.set)
        assert gone.wait(STUCK_SECONDS)
        return find(*arguments)

    def note_lost(*arguments: Any) -> None:
        connection_lost(*arguments)
        lost.set()

    monkeypatch.setattr(server_module, "_find", wait_and_find)
    monkeypatch.setattr(connections.BoundedServer, "connection_lost", note_lost)
    body = msgspec.msgpack.encode(FetchRequest(((TaskId("map-00000"), 1),)))
    head = f"POST {fetch_path(JOB, 0)} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer secret\r\n"
    async with bounded(outputs, monkeypatch, 2, 4) as port, asyncio.timeout(STUCK_SECONDS):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + (body if whole else body[:1]))
        if whole:
            await looking.wait()
        else:
            await writer.drain()
        writer.close()
        await lost.wait()
        gone.set()
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_an_answer_under_way_is_never_broken_off_for_others(
    tmp_path: Path, outputs: ServedOutputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = bytes(8 * 1024 * 1024)
    put(tmp_path, outputs, 2, data)
    monkeypatch.setattr(connections, "REQUEST_SECONDS", 0.01)
    async with bounded(outputs, monkeypatch, 2, 2) as port, aiohttp.ClientSession() as session:
        request = msgspec.msgpack.encode(FetchRequest(((TaskId("map-00002"), 1),)))
        url = f"http://127.0.0.1:{port}{fetch_path(JOB, 0)}"
        async with session.post(url, data=request, headers=ADMITTED) as response:
            for _ in range(5):  # each is dropped in its turn, the transfer is not
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                assert await reader.read() == b""
                writer.close()
            assert len(await response.read()) == len(length_table([0])) + len(data)


@pytest.mark.parametrize("limit", [64, 256, 400, 1024, 1 << 20, resource.RLIM_INFINITY])
def test_half_of_the_descriptors_stay_the_worker_s_own(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (limit, limit))
    transfers, most = connections.bounds()
    assert 0 < transfers <= connections.MAX_TRANSFERS and transfers < most <= connections.MAX_CONNECTIONS
    assert limit == resource.RLIM_INFINITY or most + 2 * transfers <= limit // 2


async def test_a_port_that_is_taken_is_one_clear_error() -> None:
    first, second = ShuffleServer(ServedOutputs()), ShuffleServer(ServedOutputs())
    port = await first.start("127.0.0.1", 0)
    with pytest.raises(ListenFailed, match=f"cannot listen on 127.0.0.1:{port}"):
        await second.start("127.0.0.1", port)
    await first.close()


@pytest.mark.parametrize(
    ("listen", "expected"),
    [("127.0.0.1:0", ("127.0.0.1", 0)), (":80", ("0.0.0.0", 80)), ("[::1]:9", ("::1", 9))],
)
def test_addresses_are_read(listen: str, expected: tuple[str, int]) -> None:
    assert parse_address(listen) == expected


@pytest.mark.parametrize("listen", ["host", "host:", "host:x", "host:70000"])
def test_what_is_not_an_address_is_refused(listen: str) -> None:
    with pytest.raises(ListenFailed, match="not HOST:PORT"):
        parse_address(listen)


@pytest.mark.parametrize(
    ("host", "advertise", "expected"),
    [
        ("10.0.0.1", None, "10.0.0.1:7"),
        ("::1", None, "[::1]:7"),
        ("0.0.0.0", "worker-1", "worker-1:7"),
        ("0.0.0.0", "worker-1:8000", "worker-1:8000"),
        ("0.0.0.0", "fd00::1", "[fd00::1]:7"),
        ("0.0.0.0", "[fd00::1]:8000", "[fd00::1]:8000"),
    ],
)
def test_what_reducers_are_told(host: str, advertise: str | None, expected: str) -> None:
    assert advertised(host, 7, advertise) == expected


def test_a_worker_that_listens_everywhere_tells_an_address_that_others_can_reach() -> None:
    host, _, port = advertised("0.0.0.0", 7, None).rpartition(":")
    assert host not in ("", "0.0.0.0")
    assert port == "7"


@pytest.mark.parametrize(
    ("headers", "body"),
    [({"Content-Encoding": "deflate"}, b"no deflated data"), ({}, b"\x81\xa7outputs\x91\x92\xa1\xff\x01")],
)
async def test_a_body_that_cannot_be_decoded_is_the_reducers_fault(
    reducer: Reducer, headers: dict[str, str], body: bytes
) -> None:
    assert (await reducer.ask((), headers={**ADMITTED, **headers}, body=body))[0] == 400


async def test_a_token_of_any_bytes_is_compared(outputs: ServedOutputs) -> None:
    """aiohttp decodes a header as UTF-8 with lone surrogates for what is none."""
    assert not outputs.admits(JOB, "s\udcfbcret")
    assert outputs.admits(JOB, "secret")
