"""Reports stay inside the limit of a message."""

import pytest

from mr.errors import BadMessage
from mr.protocol.codec import MAX_MESSAGE_BYTES, MAX_REPORT_BYTES, decode
from mr.protocol.failures import Failure, FailureKind, LostInput
from mr.protocol.ids import AttemptId, Incarnation, JobId, TaskId, WorkerId
from mr.protocol.messages import Report, TaskCommitted, TaskFailed, TaskMessage
from mr.workers.daemon.reports import encode_report

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
