"""A job's limit of bad records, and the lists that its output is finished with."""

import pytest

from mr.coordinator.core import commands as c
from mr.coordinator.core.events import ReportReceived
from mr.protocol.bad_records import BadRecordsFile
from mr.protocol.failures import Failure, FailureKind, LostInput
from mr.protocol.ids import AttemptId
from mr.protocol.records import JobState, PartOutput, TaskStats
from tests.support.scheduling import (
    JOB,
    LIFE,
    MAP,
    REDUCE,
    WORKER,
    accepted,
    committed,
    failed,
    fed,
    only,
    recorded,
)


def stats(read: int, bad: int, attempt: int = 1) -> TaskStats:
    file = BadRecordsFile(attempt, LIFE, bad, 100 * bad, "0" * 16, f"/in:7: bad {attempt}") if bad else None
    return TaskStats(records_in=read, bad_records=bad, bad_file=file)


@pytest.mark.parametrize("reduces", [0, 1])
def test_more_than_a_number_fail_the_job_at_once(reduces: int) -> None:
    scheduler, commands = fed(
        accepted(3, reduces, skip_bad_records=3),
        committed_map(0, 10, 2, reduces),
        committed_map(1, 10, 2, reduces),
    )
    record = only(commands, c.CloseJob).record
    assert record.state is JobState.FAILED
    assert "4 records are bad, more than --skip-bad-records 3 allows" in record.cause
    assert "The first: /in:7: bad 1" in record.cause
    assert record.stats.bad_records == 4
    assert only(commands, c.AbandonOutput)
    assert not scheduler.state.jobs


@pytest.mark.parametrize("reduces", [0, 1])
@pytest.mark.parametrize(("bad", "state"), [(2, None), (3, JobState.FAILED)])
def test_a_share_is_judged_when_the_last_map_commits(reduces: int, bad: int, state: JobState | None) -> None:
    _, commands = fed(
        accepted(2, reduces, skip_bad_records="10%"),
        committed_map(0, 0, bad, reduces),
    )
    assert not [command for command in commands if isinstance(command, c.CloseJob)]
    _, commands = fed(
        accepted(2, reduces, skip_bad_records="10%"),
        committed_map(0, 0, bad, reduces),
        committed_map(1, 20 - bad, 0, reduces),
    )
    closed = [command.record.state for command in commands if isinstance(command, c.CloseJob)]
    assert closed == ([state] if state else [])


def test_the_manifest_lists_the_files_of_the_attempts_that_committed() -> None:
    _, commands = fed(
        accepted(2, 1, skip_bad_records=9),
        committed(MAP[0], 3, stats(5, 2, attempt=3)),
        committed(MAP[1], 1, stats(5, 0)),
        committed(REDUCE[0], 1),
    )
    finish = only(commands, c.FinishOutput)
    assert finish.bad_records == {0: stats(5, 2, attempt=3).bad_file}
    (listed,) = finish.manifest.bad_records
    assert (listed.task_id, listed.attempt, listed.records) == (MAP[0], 3, 2)
    assert listed.path == "/out/a/_bad_records/map-00000.jsonl"
    assert finish.manifest.skipped == 2
    assert finish.manifest.read_as == {
        "input_format": "text",
        "encoding": "utf-8",
        "encoding_errors": "strict",
    }


def test_a_list_stays_while_its_map_is_made_again() -> None:
    lost = Failure(FailureKind.INPUT_LOST, "gone", lost=(LostInput(MAP[0], 1, WORKER),))
    _, commands = fed(
        accepted(1, 2, skip_bad_records=9),
        committed(MAP[0], 1, stats(5, 2)),
        failed(REDUCE[0], 1, lost),
        committed(REDUCE[1], 1),
        committed(REDUCE[0], 2),
    )
    assert only(commands, c.FinishOutput).bad_records == {0: stats(5, 2).bad_file}


def test_a_map_made_again_counts_once() -> None:
    lost = Failure(FailureKind.INPUT_LOST, "gone", lost=(LostInput(MAP[0], 1, WORKER),))
    scheduler, commands = fed(
        accepted(1, 2, skip_bad_records=3),
        committed(MAP[0], 1, stats(5, 2)),
        failed(REDUCE[0], 1, lost),
        committed(MAP[0], 2, stats(5, 2, attempt=2)),
    )
    assert only(commands, c.SaveJob).record.stats.bad_records == 2
    assert scheduler.state.jobs


def committed_map(index: int, read: int, bad: int, reduces: int) -> ReportReceived:
    """A map that committed a map output, or in a job without reduces a part."""
    if reduces:
        return committed(MAP[index], 1, stats(read, bad))
    return recorded(PartOutput(AttemptId(JOB, MAP[index], 1), WORKER, LIFE, 5, 50, "0"), stats(read, bad))
