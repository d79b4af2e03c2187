"""Jobs of an earlier coordinator."""

import msgspec

from mr.coordinator.core import commands as c
from mr.coordinator.core import events as e
from mr.coordinator.core.job_records import submitted_record
from mr.protocol.claims import Claim
from mr.protocol.failures import Failure, FailureKind
from mr.protocol.records import (
    JobState,
    RestoredJob,
    TaskRecord,
    TaskState,
)
from tests.support.scheduling import (
    MAP,
    accepted,
    failed,
    fed,
    only,
)


def test_a_restored_task_remembers_which_failures_were_counted() -> None:
    """The coordinator died after it saved a failure and before it acknowledged the report."""
    event = accepted(1, 1, max_attempts=2)
    failure = Failure(FailureKind.USER_ERROR, "no")
    waiting = TaskRecord(task_id=MAP[0], state=TaskState.WAITING, attempt=1, failures=1, failure=failure)
    record = msgspec.structs.replace(submitted_record(event.spec), state=JobState.SUBMITTED)
    restored = RestoredJob(record, event.spec, event.splits, {MAP[0]: waiting}, {MAP[0]: Claim(1)}, {})
    scheduler, _ = fed(e.JobRestored(5.0, restored))
    assert scheduler.handle(failed(MAP[0], 1, failure)) == []
    assert only(scheduler.handle(failed(MAP[0], 2, failure)), c.CloseJob).record.state is JobState.FAILED
