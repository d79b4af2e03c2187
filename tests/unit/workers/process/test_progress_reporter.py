"""The thread that reports progress: while it is watched, and around forks."""

import os
import socket
import threading
from collections.abc import Iterator

import msgspec
import pytest

from mr.workers.messages import Progress
from mr.workers.process import channel as frames
from mr.workers.process.progress_reporter import ProgressReporter
from tests.support.waiting import until


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def received(channel: socket.socket) -> Progress:
    body = frames.read_blocking(channel)
    assert body is not None
    return msgspec.msgpack.decode(body, type=Progress)


def test_it_reports_what_it_reads_until_it_is_stopped(ends: tuple[socket.socket, socket.socket]) -> None:
    reporter, numbers = ProgressReporter(ends[0], seconds=0.001), iter(range(1 << 30))
    reporter.watch(lambda: Progress(0.5, next(numbers), "map"))
    assert [received(ends[1]).records for _ in range(3)] == [0, 1, 2]
    reporter.stop()
    ends[0].shutdown(socket.SHUT_WR)
    while frames.read_blocking(ends[1]) is not None:  # frames that were whole when it stopped
        continue
    assert "progress" not in [thread.name for thread in threading.enumerate()]


def test_a_closed_channel_ends_it_quietly(
    ends: tuple[socket.socket, socket.socket], capfd: pytest.CaptureFixture[str]
) -> None:
    reporter = ProgressReporter(ends[0], seconds=0.001)
    ends[1].close()
    reporter.watch(lambda: Progress(0.5, 1, "map"))
    until(lambda: "progress" not in [thread.name for thread in threading.enumerate()])
    reporter.stop()
    assert capfd.readouterr() == ("", "")


def test_a_fork_is_made_with_one_thread_and_reports_nothing(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    def names() -> str:
        return " ".join(thread.name for thread in threading.enumerate())

    seen: list[str] = []
    reporter = ProgressReporter(ends[0], seconds=0.001)
    # What is registered first runs last before a fork.
    os.register_at_fork(before=lambda: seen.append(names()))
    reporter.follow_forks()
    reporter.watch(lambda: Progress(0.5, os.getpid(), "map"))
    forked = os.fork()
    if not forked:
        try:
            reporter.stop()
            second = os.fork()  # a fork of the fork has no lock to wait for
            if second:
                os.waitpid(second, 0)
        finally:
            os._exit(0 if "progress" not in names() else 1)
    assert os.waitpid(forked, 0)[1] == 0
    assert "progress" not in seen[0] and "progress" in names()
    assert received(ends[1]).records == os.getpid()
    reporter.stop()
