"""A reducer's fetch over real loopback HTTP: whole, resumed, retried, and lost."""

import asyncio
import errno
import http.client
import os
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec
import pytest

from mr.protocol.failures import Loss
from mr.protocol.ids import Incarnation, JobId, TaskId, TaskKind, WorkerId, task_id
from mr.protocol.locations import pack_outputs
from mr.protocol.records import MapOutput
from mr.settings import Settings
from tests.support.orders import make_order, make_spec
from workers.orders import Origin, TaskOrder
from workers.shuffle import host_fetch
from workers.shuffle.buffer import MapBuffer
from workers.shuffle.fetch import InputLost, ShuffleSource, find_corrupt, open_sources
from workers.shuffle.outputs import Outputs
from workers.shuffle.segment import read_segment
from workers.shuffle.segment_index import find_segment
from workers.shuffle.server import ShuffleServer
from workers.shuffle.wire import FetchRequest, length_table

JOB = JobId("job-1")
TOKEN = "secret"


@pytest.fixture(autouse=True)
def no_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_fetch, "RETRY_BASE_SECONDS", 0.001)
    monkeypatch.setattr(host_fetch, "BUSY_RETRY_SECONDS", 0.001)


def make_output(directory: Path, index: int, words: list[str], address: str, worker: str = "w1") -> MapOutput:
    """Run a map's buffer: partition 0 gets every word, partition 1 none."""
    work_dir = directory / f"work-{worker}-{index}"
    work_dir.mkdir()
    buffer = MapBuffer(
        partitions=2,
        work_dir=work_dir,
        spill_rows=1000,
        spill_bytes=1 << 20,
        combiner=None,
        partitioner=lambda key, partitions: 0,
    )
    buffer.add(words, [index] * len(words))
    made = buffer.finish(directory / f"{worker}-{index}.segments")
    return MapOutput(
        task_id(TaskKind.MAP, index),
        1,
        WorkerId(worker),
        Incarnation("i"),
        address,
        f"host of {worker}",
        str(made.path),
    )


def make_reduce(
    directory: Path, outputs: list[MapOutput], host: str = "host of the reducer", **settings: object
) -> TaskOrder:
    order = make_order(directory, make_spec(token=TOKEN), "reduce-00000")
    return msgspec.structs.replace(
        order,
        map_outputs=pack_outputs(outputs),
        origin=Origin(WorkerId("r"), Incarnation("i"), "", host),
        settings=Settings(**settings),
    )


def damage(output: MapOutput, place: int) -> None:
    """Turn one bit of a map output's file."""
    data = bytearray(Path(output.path).read_bytes())
    data[place] ^= 1
    Path(output.path).write_bytes(data)


def segment_of(output: MapOutput) -> bytes:
    """The bytes of partition 0."""
    segment = find_segment(Path(output.path), 0)
    with segment.open() as file:
        return file.read(segment.bytes)


def words_of(source: ShuffleSource) -> list[str]:
    return [key for rows in read_segment(source) for key in rows.keys.array().to_pylist()]


def found_in(error: InputLost) -> list[Loss]:
    return [item.found for item in error.lost]


def lost_in(error: InputLost) -> list[tuple[str, int, str]]:
    return [(item.task_id, item.attempt, item.worker) for item in error.lost]


# --- from a real shuffle server


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[tuple[str, Outputs]]:
    outputs = Outputs()
    server = ShuffleServer(outputs)
    port = await server.start("127.0.0.1", 0)
    yield f"127.0.0.1:{port}", outputs
    await server.close()


async def test_segments_of_several_maps_come_in_map_order(
    tmp_path: Path, served: tuple[str, Outputs]
) -> None:
    address, offered = served
    outputs = [make_output(tmp_path, n, [f"word-{n}"], address) for n in range(3)]
    for output in outputs:
        offered.add(JOB, TOKEN, output)
    order = make_reduce(tmp_path, outputs)
    sources = await asyncio.to_thread(open_sources, order, 0)
    assert [words_of(source) for source in sources] == [["word-0"], ["word-1"], ["word-2"]]
    assert all(source.fetched for source in sources)
    assert {source.segment.path for source in sources} == {Path(order.work_dir) / "fetched-0"}


async def test_local_and_fetched_segments_are_mixed_in_map_order(
    tmp_path: Path, served: tuple[str, Outputs]
) -> None:
    address, offered = served
    outputs = [
        make_output(tmp_path, 0, ["far"], address, "far"),
        make_output(tmp_path, 1, ["near"], "127.0.0.1:1", "near"),
        make_output(tmp_path, 2, ["far too"], address, "far"),
    ]
    for output in (outputs[0], outputs[2]):
        offered.add(JOB, TOKEN, output)
    order = make_reduce(tmp_path, outputs, host="host of near")
    sources = await asyncio.to_thread(open_sources, order, 0)
    assert [(words_of(source), source.fetched) for source in sources] == [
        (["far"], True),
        (["near"], False),
        (["far too"], True),
    ]


async def test_local_reads_can_be_switched_off(tmp_path: Path, served: tuple[str, Outputs]) -> None:
    address, offered = served
    output = make_output(tmp_path, 0, ["word"], address)
    offered.add(JOB, TOKEN, output)
    order = make_reduce(tmp_path, [output], host=output.host, shuffle_local_reads=False)
    (source,) = await asyncio.to_thread(open_sources, order, 0)
    assert source.fetched


async def test_missing_outputs_are_lost_and_the_others_are_not(
    tmp_path: Path, served: tuple[str, Outputs]
) -> None:
    address, offered = served
    outputs = [make_output(tmp_path, n, ["word"], address) for n in range(3)]
    offered.add(JOB, TOKEN, outputs[1])
    with pytest.raises(InputLost, match="2 map outputs are lost") as caught:
        await asyncio.to_thread(open_sources, make_reduce(tmp_path, outputs), 0)
    assert lost_in(caught.value) == [("map-00000", 1, "w1"), ("map-00002", 1, "w1")]


async def test_a_worker_that_knows_nothing_of_the_job_has_lost_all_of_its_outputs(
    tmp_path: Path, served: tuple[str, Outputs]
) -> None:
    outputs = [make_output(tmp_path, n, ["word"], served[0]) for n in range(2)]
    with pytest.raises(InputLost) as caught:
        await asyncio.to_thread(open_sources, make_reduce(tmp_path, outputs), 0)
    assert len(caught.value.lost) == 2


async def test_a_damaged_segment_is_lost_and_named(tmp_path: Path, served: tuple[str, Outputs]) -> None:
    address, offered = served
    outputs = [make_output(tmp_path, n, ["word"] * 50, address) for n in range(2)]
    for output in outputs:
        offered.add(JOB, TOKEN, output)
    damage(outputs[1], len(segment_of(outputs[1])) - 30)
    with pytest.raises(InputLost, match="fail their checksum") as caught:
        await asyncio.to_thread(open_sources, make_reduce(tmp_path, outputs), 0)
    assert lost_in(caught.value) == [("map-00001", 1, "w1")]
    assert found_in(caught.value) == [Loss.DAMAGED]


# --- without a server


async def test_a_partition_without_records_has_no_sources(
    tmp_path: Path, served: tuple[str, Outputs]
) -> None:
    outputs = [make_output(tmp_path, 0, ["word"], served[0]), make_output(tmp_path, 1, ["word"], "", "w2")]
    served[1].add(JOB, TOKEN, outputs[0])
    assert await asyncio.to_thread(open_sources, make_reduce(tmp_path, outputs), 1) == []


async def test_the_lengths_are_told_as_soon_as_they_are_known(
    tmp_path: Path, served: tuple[str, Outputs]
) -> None:
    outputs = [make_output(tmp_path, 0, ["far"], served[0]), make_output(tmp_path, 1, ["near"], "", "w2")]
    served[1].add(JOB, TOKEN, outputs[0])
    told: list[int] = []
    await asyncio.to_thread(open_sources, make_reduce(tmp_path, outputs), 0, told.append)
    far, near = (len(segment_of(output)) for output in outputs)
    assert told == [near, far, 0]


def test_a_worker_that_is_gone_has_lost_its_outputs(tmp_path: Path) -> None:
    outputs = [make_output(tmp_path, 0, ["word"], "127.0.0.1:1")]
    with pytest.raises(InputLost, match=r"w1 at 127.0.0.1:1: .*refused.* \(tried for 0.0 s\)"):
        open_sources(make_reduce(tmp_path, outputs, fetch_patience_seconds=0.0), 0)


def test_a_local_file_that_is_gone_and_that_nobody_serves_is_lost(tmp_path: Path) -> None:
    output = make_output(tmp_path, 0, ["word"], "")
    assert len(open_sources(make_reduce(tmp_path, [output]), 0)) == 1
    Path(output.path).unlink()
    order = msgspec.structs.replace(make_reduce_again(tmp_path), map_outputs=pack_outputs([output]))
    with pytest.raises(InputLost, match="serves none and their files are gone"):
        open_sources(order, 0)


def make_reduce_again(directory: Path) -> TaskOrder:
    other = directory / "again"
    other.mkdir()
    return make_reduce(other, [])


def test_the_damaged_among_local_segments_are_found(tmp_path: Path) -> None:
    outputs = [make_output(tmp_path, n, ["word"] * 50, "") for n in range(3)]
    sources = open_sources(make_reduce(tmp_path, outputs), 0)
    assert find_corrupt(sources) == []
    damage(outputs[0], len(segment_of(outputs[0])) - 30)
    Path(outputs[2].path).unlink()
    assert [source.output.task_id for source in find_corrupt(sources)] == ["map-00000", "map-00002"]


# --- from a server that fails as told


class Flaky:
    """An HTTP server that gives the bytes of some files, each answer as the next word of its script says."""

    def __init__(self, segments: list[bytes]) -> None:
        self.lengths = [len(segment) for segment in segments]
        self.data = b"".join(segments)
        self.script: list[str] = []
        self.requests: list[FetchRequest] = []
        flaky = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                flaky.requests.append(msgspec.msgpack.decode(body, type=FetchRequest))
                flaky.answer(self, flaky.script.pop(0) if flaky.script else "all")

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def answer(self, handler: BaseHTTPRequestHandler, how: str) -> None:
        rest = self.data[self.requests[-1].offset :]
        if how.isdecimal() or how == "missing":
            body = msgspec.msgpack.encode([]) if how == "missing" else b""
            handler.send_response(404 if body else int(how))
            handler.send_header("Content-Length", str(len(body)))
            handler.end_headers()
            handler.wfile.write(body)
            return
        lengths = [n + 1 for n in self.lengths] if how == "other lengths" else self.lengths
        table = length_table(lengths)
        claimed = len(table) + len(rest) + (5 if how == "longer" else 0)
        handler.send_response(200)
        handler.send_header("Content-Length", str(claimed))
        handler.end_headers()
        if how == "half":
            rest = rest[: len(rest) // 2]
        elif how == "damaged":
            rest = rest[:-20] + bytes([rest[-20] ^ 1]) + rest[-19:]
        handler.wfile.write(table + rest)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.server_port}"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def flaky(tmp_path: Path) -> Iterator[tuple[Flaky, TaskOrder]]:
    words = [f"word-{n:05d}" for n in range(500)]
    made = [make_output(tmp_path, n, words, "") for n in range(2)]
    server = Flaky([segment_of(output) for output in made])
    outputs = [msgspec.structs.replace(output, address=server.address) for output in made]
    yield server, make_reduce(tmp_path, outputs)
    server.close()


def test_one_request_brings_everything(flaky: tuple[Flaky, TaskOrder]) -> None:
    server, order = flaky
    sources = open_sources(order, 0)
    assert [len(words_of(source)) for source in sources] == [500, 500]
    (request,) = server.requests
    assert request.outputs == ((TaskId("map-00000"), 1), (TaskId("map-00001"), 1))


def test_a_broken_transfer_goes_on_where_it_stopped(flaky: tuple[Flaky, TaskOrder]) -> None:
    server, order = flaky
    server.script = ["half", "half"]
    sources = open_sources(order, 0)
    assert [len(words_of(source)) for source in sources] == [500, 500]
    size = len(server.data)
    half = size // 2
    assert [request.offset for request in server.requests] == [0, half, half + (size - half) // 2]


def test_lengths_that_change_between_two_answers_are_not_believed(flaky: tuple[Flaky, TaskOrder]) -> None:
    server, order = flaky
    server.script = ["half", "other lengths"]
    with pytest.raises(InputLost, match="other lengths than a moment ago"):
        open_sources(order, 0)


def test_a_transfer_that_came_damaged_is_made_again_from_the_start(flaky: tuple[Flaky, TaskOrder]) -> None:
    server, order = flaky
    server.script = ["damaged"]
    assert len(open_sources(order, 0)) == 2
    assert [request.offset for request in server.requests] == [0, 0]


@pytest.mark.parametrize("status", ["503", "500"])
def test_a_busy_server_is_asked_again(flaky: tuple[Flaky, TaskOrder], status: str) -> None:
    server, order = flaky
    server.script = [status, status]
    assert len(open_sources(order, 0)) == 2
    assert len(server.requests) == 3


def test_being_busy_is_no_failed_try(flaky: tuple[Flaky, TaskOrder]) -> None:
    server, order = flaky
    server.script = ["503"] * 9
    assert len(open_sources(order, 0)) == 2
    assert len(server.requests) == 10


def impatient(order: TaskOrder) -> TaskOrder:
    """The same order, with as little patience as there can be: two tries."""
    return msgspec.structs.replace(order, settings=Settings(fetch_patience_seconds=0.0))


def test_a_server_that_stays_busy_has_lost_nothing(
    flaky: tuple[Flaky, TaskOrder], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, order = flaky
    monkeypatch.setattr(host_fetch, "BUSY_SECONDS", 0.0)
    server.script = ["503"] * 9
    with pytest.raises(InputLost, match=r"cannot be had yet: .* busy for 0 s") as caught:
        open_sources(order, 0)
    assert caught.value.lost == ()


def test_a_server_that_keeps_failing_could_not_be_reached(flaky: tuple[Flaky, TaskOrder]) -> None:
    server, order = flaky
    server.script = ["500"] * 9
    with pytest.raises(InputLost, match="HTTP status 500") as caught:
        open_sources(impatient(order), 0)
    assert found_in(caught.value) == [Loss.UNREACHABLE] * 2
    assert len(server.requests) == 2


def test_a_server_that_says_nothing_could_not_be_reached(
    flaky: tuple[Flaky, TaskOrder], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, order = flaky
    monkeypatch.setattr(host_fetch, "SILENCE_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # connected by the kernel, accepted by nobody
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        outputs = [msgspec.structs.replace(output, address=address) for output in order.map_outputs.unpack()]
        order = msgspec.structs.replace(impatient(order), map_outputs=pack_outputs(outputs))
        with pytest.raises(InputLost, match="timed out") as caught:
            open_sources(order, 0)
    assert found_in(caught.value) == [Loss.UNREACHABLE] * 2


def test_what_is_lost_at_one_worker_ends_the_wait_for_the_others(flaky: tuple[Flaky, TaskOrder]) -> None:
    server, order = flaky
    server.script = ["missing"]
    first, second = order.map_outputs.unpack()
    elsewhere = msgspec.structs.replace(second, address="127.0.0.1:1", worker=WorkerId("w2"))
    patient = Settings(fetch_patience_seconds=3600.0)
    order = msgspec.structs.replace(order, map_outputs=pack_outputs([first, elsewhere]), settings=patient)
    with pytest.raises(InputLost) as caught:
        open_sources(order, 0)
    assert found_in(caught.value) == [Loss.MISSING, Loss.UNREACHABLE]


def test_tries_that_bring_something_are_not_counted(flaky: tuple[Flaky, TaskOrder]) -> None:
    server, order = flaky
    server.script = ["half"] * 6
    assert len(open_sources(order, 0)) == 2
    assert len(server.requests) == 7


@pytest.mark.parametrize(
    ("how", "found"),
    [
        ("missing", Loss.MISSING),
        ("longer", Loss.DAMAGED),
        ("403", Loss.UNREACHABLE),
        ("404", Loss.UNREACHABLE),  # without a body that a worker would send: some other server
    ],
)
def test_what_another_try_cannot_mend_is_told_at_once(
    flaky: tuple[Flaky, TaskOrder], how: str, found: Loss
) -> None:
    server, order = flaky
    server.script = [how]
    with pytest.raises(InputLost) as caught:
        open_sources(order, 0)
    assert found_in(caught.value) == [found] * 2
    assert len(server.requests) == 1


def test_a_full_disk_is_not_a_lost_input(flaky: tuple[Flaky, TaskOrder]) -> None:
    _, order = flaky
    Path(order.work_dir).rmdir()
    with pytest.raises(FileNotFoundError):
        open_sources(order, 0)


@pytest.mark.parametrize("number", [errno.EHOSTUNREACH, errno.ETIMEDOUT, errno.ENETDOWN, errno.EIO])
def test_what_the_network_raises_amid_a_transfer_is_no_failure_of_our_disk(
    flaky: tuple[Flaky, TaskOrder], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    server, order = flaky
    read = http.client.HTTPResponse.read
    failing = [True]

    def read_or_fail(response: http.client.HTTPResponse, size: int | None = None) -> bytes:
        if failing and response.length == len(server.data) // 2:
            failing.clear()
            raise OSError(number, os.strerror(number))
        return read(response, size)

    monkeypatch.setattr(http.client.HTTPResponse, "read", read_or_fail)
    half = msgspec.structs.replace(order.settings, fetch_bytes=len(server.data) - len(server.data) // 2)
    assert len(open_sources(msgspec.structs.replace(order, settings=half), 0)) == 2
    assert not failing and [request.offset for request in server.requests] == [0, half.fetch_bytes]


def test_a_disk_that_fills_amid_a_transfer_is_no_broken_transfer(flaky: tuple[Flaky, TaskOrder]) -> None:
    server, order = flaky
    (Path(order.work_dir) / "fetched-0").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left on device"):
        open_sources(order, 0)
    assert len(server.requests) == 1
