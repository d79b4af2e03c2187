"""A reducer's fetch from a server that fails as told: resumed, retried, given up."""

import errno
import http.client
import os
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec
import pytest

from mr.protocol.failures import Loss
from mr.protocol.ids import JobId, TaskId, WorkerId
from mr.protocol.locations import pack_outputs
from mr.settings import Settings
from mr.workers.messages import RunTask
from mr.workers.shuffle.transfer import host_fetch
from mr.workers.shuffle.transfer.fetch import InputLost, open_sources
from mr.workers.shuffle.transfer.wire import FetchRequest, length_table
from tests.support.fetching import found_in, make_output, make_reduce, segment_of, words_of

JOB = JobId("job-1")
TOKEN = "secret"


@pytest.fixture(autouse=True)
def no_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_fetch, "RETRY_BASE_SECONDS", 0.001)
    monkeypatch.setattr(host_fetch, "BUSY_RETRY_SECONDS", 0.001)


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
def flaky(tmp_path: Path) -> Iterator[tuple[Flaky, RunTask]]:
    words = [f"word-{n:05d}" for n in range(500)]
    made = [make_output(tmp_path, n, words, "") for n in range(2)]
    server = Flaky([segment_of(output) for output in made])
    outputs = [msgspec.structs.replace(output, address=server.address) for output in made]
    yield server, make_reduce(tmp_path, outputs)
    server.close()


def test_one_request_brings_everything(flaky: tuple[Flaky, RunTask]) -> None:
    server, run_task = flaky
    sources = open_sources(run_task, 0)
    assert [len(words_of(source)) for source in sources] == [500, 500]
    (request,) = server.requests
    assert request.outputs == ((TaskId("map-00000"), 1), (TaskId("map-00001"), 1))


def test_a_broken_transfer_goes_on_where_it_stopped(flaky: tuple[Flaky, RunTask]) -> None:
    server, run_task = flaky
    server.script = ["half", "half"]
    sources = open_sources(run_task, 0)
    assert [len(words_of(source)) for source in sources] == [500, 500]
    size = len(server.data)
    half = size // 2
    assert [request.offset for request in server.requests] == [0, half, half + (size - half) // 2]


def test_lengths_that_change_between_two_answers_are_not_believed(flaky: tuple[Flaky, RunTask]) -> None:
    server, run_task = flaky
    server.script = ["half", "other lengths"]
    with pytest.raises(InputLost, match="other lengths than a moment ago"):
        open_sources(run_task, 0)


def test_a_transfer_that_came_damaged_is_made_again_from_the_start(flaky: tuple[Flaky, RunTask]) -> None:
    server, run_task = flaky
    server.script = ["damaged"]
    assert len(open_sources(run_task, 0)) == 2
    assert [request.offset for request in server.requests] == [0, 0]


@pytest.mark.parametrize("status", ["503", "500"])
def test_a_busy_server_is_asked_again(flaky: tuple[Flaky, RunTask], status: str) -> None:
    server, run_task = flaky
    server.script = [status, status]
    assert len(open_sources(run_task, 0)) == 2
    assert len(server.requests) == 3


def test_being_busy_is_no_failed_try(flaky: tuple[Flaky, RunTask]) -> None:
    server, run_task = flaky
    server.script = ["503"] * 9
    assert len(open_sources(run_task, 0)) == 2
    assert len(server.requests) == 10


def impatient(run_task: RunTask) -> RunTask:
    """The same order, with as little patience as there can be: two tries."""
    return msgspec.structs.replace(run_task, settings=Settings(fetch_patience_seconds=0.0))


def test_a_server_that_stays_busy_has_lost_nothing(
    flaky: tuple[Flaky, RunTask], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, run_task = flaky
    monkeypatch.setattr(host_fetch, "BUSY_SECONDS", 0.0)
    server.script = ["503"] * 9
    with pytest.raises(InputLost, match=r"cannot be had yet: .* busy for 0 s") as caught:
        open_sources(run_task, 0)
    assert caught.value.lost == ()


def test_a_server_that_keeps_failing_could_not_be_reached(flaky: tuple[Flaky, RunTask]) -> None:
    server, run_task = flaky
    server.script = ["500"] * 9
    with pytest.raises(InputLost, match="HTTP status 500") as caught:
        open_sources(impatient(run_task), 0)
    assert found_in(caught.value) == [Loss.UNREACHABLE] * 2
    assert len(server.requests) == 2


def test_a_server_that_says_nothing_could_not_be_reached(
    flaky: tuple[Flaky, RunTask], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, run_task = flaky
    monkeypatch.setattr(host_fetch, "SILENCE_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # connected by the kernel, accepted by nobody
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        outputs = [
            msgspec.structs.replace(output, address=address)
            for output in run_task.map_outputs.unpack(run_task.attempt.job)
        ]
        run_task = msgspec.structs.replace(impatient(run_task), map_outputs=pack_outputs(outputs))
        with pytest.raises(InputLost, match="timed out") as caught:
            open_sources(run_task, 0)
    assert found_in(caught.value) == [Loss.UNREACHABLE] * 2


def test_what_is_lost_at_one_worker_ends_the_wait_for_the_others(flaky: tuple[Flaky, RunTask]) -> None:
    server, run_task = flaky
    server.script = ["missing"]
    first, second = run_task.map_outputs.unpack(run_task.attempt.job)
    elsewhere = msgspec.structs.replace(second, address="127.0.0.1:1", worker=WorkerId("w2"))
    patient = Settings(fetch_patience_seconds=3600.0)
    run_task = msgspec.structs.replace(
        run_task, map_outputs=pack_outputs([first, elsewhere]), settings=patient
    )
    with pytest.raises(InputLost) as caught:
        open_sources(run_task, 0)
    assert found_in(caught.value) == [Loss.MISSING, Loss.UNREACHABLE]


def test_tries_that_bring_something_are_not_counted(flaky: tuple[Flaky, RunTask]) -> None:
    server, run_task = flaky
    server.script = ["half"] * 6
    assert len(open_sources(run_task, 0)) == 2
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
    flaky: tuple[Flaky, RunTask], how: str, found: Loss
) -> None:
    server, run_task = flaky
    server.script = [how]
    with pytest.raises(InputLost) as caught:
        open_sources(run_task, 0)
    assert found_in(caught.value) == [found] * 2
    assert len(server.requests) == 1


def test_a_full_disk_is_not_a_lost_input(flaky: tuple[Flaky, RunTask]) -> None:
    _, run_task = flaky
    Path(run_task.work_dir).rmdir()
    with pytest.raises(FileNotFoundError):
        open_sources(run_task, 0)


@pytest.mark.parametrize("number", [errno.EHOSTUNREACH, errno.ETIMEDOUT, errno.ENETDOWN, errno.EIO])
def test_what_the_network_raises_amid_a_transfer_is_no_failure_of_our_disk(
    flaky: tuple[Flaky, RunTask], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    server, run_task = flaky
    read = http.client.HTTPResponse.read
    failing = [True]

    def read_or_fail(response: http.client.HTTPResponse, size: int | None = None) -> bytes:
        if failing and response.length == len(server.data) // 2:
            failing.clear()
            raise OSError(number, os.strerror(number))
        return read(response, size)

    monkeypatch.setattr(http.client.HTTPResponse, "read", read_or_fail)
    half = msgspec.structs.replace(run_task.settings, fetch_bytes=len(server.data) - len(server.data) // 2)
    assert len(open_sources(msgspec.structs.replace(run_task, settings=half), 0)) == 2
    assert not failing and [request.offset for request in server.requests] == [0, half.fetch_bytes]


def test_a_disk_that_fills_amid_a_transfer_is_no_broken_transfer(flaky: tuple[Flaky, RunTask]) -> None:
    server, run_task = flaky
    (Path(run_task.work_dir) / "fetched-0").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left on device"):
        open_sources(run_task, 0)
    assert len(server.requests) == 1
