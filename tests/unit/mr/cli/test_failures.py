"""What a user reads of a failed job."""

from mr.cli.failures import describe_end
from mr.protocol.failures import Failure, FailureKind
from mr.protocol.ids import TaskId
from mr.protocol.records import FailureGroup, JobState
from tests.support.job_records import job_record

FAILURE = Failure(
    kind=FailureKind.USER_ERROR,
    message="ValueError: bad luck",
    function="map_fn",
    traceback="Traceback (most recent call last):\n  File job.py, line 3\nValueError: bad luck",
    record="/data/a.txt:17",
    reproduce="mr run job.py /data/a.txt -o out",
    output_tail="last words\n",
)


def test_everything_that_helps_is_told_once() -> None:
    tasks = tuple(TaskId(f"map-{n:05d}") for n in range(5))
    record = job_record(
        state=JobState.FAILED,
        cause="map-00000 failed 4 times",
        failures=(FailureGroup(FAILURE, 20, tasks),),
    )
    told = describe_end(record)
    assert told.splitlines()[0] == "mr: job words-1 failed: map-00000 failed 4 times"
    for part in (
        "user_error (20 attempts: map-00000, map-00001, map-00002 and 2 more)",
        "map_fn",
        "/data/a.txt:17",
        "mr run job.py /data/a.txt -o out",
        "    last words",
        "      File job.py, line 3",
    ):
        assert part in told
    assert told.count("Traceback") == 1


def test_signal_is_told_and_nothing_that_is_not_known() -> None:
    failure = Failure(kind=FailureKind.KILLED, message="killed by SIGKILL", signal=9)
    group = FailureGroup(failure, 1, (TaskId("map-00000"),))
    told = describe_end(job_record(state=JobState.FAILED, failures=(group,)))
    assert "signal     9" in told
    assert "(1 attempt: map-00000)" in told
    for absent in ("function", "record", "to see it again", "printed"):
        assert absent not in told


def test_cancelled_job_shows_no_failures() -> None:
    group = FailureGroup(FAILURE, 1, (TaskId("map-00000"),))
    record = job_record(state=JobState.CANCELLED, cause="cancelled on request", failures=(group,))
    assert describe_end(record) == "mr: job words-1 was cancelled: cancelled on request"
