"""Reports inside the limit of a message, and frames between daemon and child."""

import asyncio
import socket

import pytest

from mr.errors import BadMessage
from mr.protocol.codec import MAX_MESSAGE_BYTES, MAX_REPORT_BYTES, decode
from mr.protocol.failures import Failure, FailureKind, LostInput
from mr.protocol.ids import AttemptId, Incarnation, JobId, TaskId, WorkerId
from mr.protocol.messages import Report, TaskCommitted, TaskFailed, TaskMessage
from mr.workers.daemon.reports import encode_report
from mr.workers.process import channel
from mr.workers.shuffle.transfer.host_identity import host_identity

JOB, TASK, WORKER = JobId("job-1"), TaskId("map-00000"), WorkerId("w1")
LIFE = Incarnation("life-1")


def failed(failure: Failure) -> TaskFailed:
    return TaskFailed(AttemptId(JOB, TASK, 1), WORKER, LIFE, failure)


def test_a_report_of_usual_size_is_told_whole() -> None:
    report = failed(Failure(FailureKind.USER_ERROR, "no", traceback="x" * 100_000))
    assert decode(encode_report(report), Report) == report  # type: ignore[arg-type]


def test_nesting_without_end_is_malformed_like_anything_else() -> None:
    endless = b"\x94\x01\xa5job-1\xa9map-00000" + b"\x91" * 100_000
    with pytest.raises(BadMessage):
        decode(endless, TaskMessage)


def test_the_texts_of_a_failure_give_way_to_the_limit() -> None:
    lost = tuple(LostInput(TaskId(f"map-{n:05d}"), 1, WORKER) for n in range(100_000))
    failure = Failure(FailureKind.INPUT_LOST, "\u20ac" * MAX_MESSAGE_BYTES, record="here", lost=lost)
    body = encode_report(failed(failure))
    assert len(body) <= MAX_REPORT_BYTES
    told = decode(body, TaskFailed | TaskCommitted)  # type: ignore[arg-type]
    assert isinstance(told, TaskFailed)
    assert (told.failure.kind, told.failure.record) == (FailureKind.INPUT_LOST, "here")
    assert set(told.failure.message) == {"\u20ac"}
    assert 0 < len(told.failure.lost) < len(lost)
    assert told.failure.lost == lost[: len(told.failure.lost)]


def test_frames_are_read_one_after_the_other() -> None:
    daemon, child = socket.socketpair()
    with daemon, child:
        daemon.sendall(channel.frame([1]) + channel.frame("two"))
        daemon.shutdown(socket.SHUT_WR)
        assert channel.read_blocking(child) == b"\x91\x01"
        assert channel.read_blocking(child) == b"\xa3two"
        assert channel.read_blocking(child) is None


def test_a_frame_that_ends_early_is_an_error_in_the_child() -> None:
    daemon, child = socket.socketpair()
    with daemon, child:
        daemon.sendall(channel.frame("something")[:-1])
        daemon.shutdown(socket.SHUT_WR)
        with pytest.raises(channel.BrokenFrame):
            channel.read_blocking(child)


@pytest.mark.parametrize("data", [b"", b"\x00", channel.frame("something")[:-1], b"\xff\xff\xff\xff????"])
async def test_a_broken_stream_is_the_end_of_the_child_for_the_daemon(data: bytes) -> None:
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    assert await channel.read(reader) is None


def test_this_process_is_always_on_the_same_host() -> None:
    first = host_identity()
    host_identity.cache_clear()
    assert host_identity() == first
    assert len(first) == 16
