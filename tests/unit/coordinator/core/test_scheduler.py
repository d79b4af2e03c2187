"""The scheduler's records and bounds; what happens when is in tests/scenarios."""

import pytest

from mr.coordinator.core import commands as c
from mr.coordinator.core import events as e
from mr.coordinator.core.scheduler import Scheduler
from mr.protocol.failures import Failure, FailureKind, LostInput
from mr.protocol.ids import AttemptId, JobId
from mr.protocol.records import (
    JobState,
    PartOutput,
    TaskStats,
)
from mr.settings import Settings
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
    workers,
)


def test_the_record_sums_committed_attempts_only() -> None:
    first = TaskStats(records_in=3, cpu_seconds=0.5, peak_memory_bytes=100, counters={"bad": 1})
    second = TaskStats(records_in=4, cpu_seconds=0.25, peak_memory_bytes=50, counters={"bad": 2, "good": 1})
    _, commands = fed(
        accepted(2, 1),
        committed(MAP[0], 1, first),
        committed(MAP[0], 1, first),
        failed(MAP[1], 1, Failure(FailureKind.USER_ERROR, "no")),
        committed(MAP[1], 2, second),
    )
    record = only(commands, c.SaveJob).record
    assert record.stats == TaskStats(
        records_in=7, cpu_seconds=0.75, peak_memory_bytes=100, counters={"bad": 3, "good": 1}
    )
    assert (record.maps_committed, record.reduces_committed, record.attempts_failed) == (2, 0, 1)
    assert record.state is JobState.REDUCING


def test_the_counters_are_complete_even_while_a_lost_map_runs_again() -> None:
    """The last reduce may have read the output before it was lost."""
    stats = TaskStats(counters={"bad": 1})
    lost = Failure(FailureKind.INPUT_LOST, "gone", lost=(LostInput(MAP[0], 1, WORKER),))
    _, commands = fed(
        accepted(1, 2),
        committed(MAP[0], 1, stats),
        failed(REDUCE[0], 1, lost),
        committed(REDUCE[1], 1),
        committed(REDUCE[0], 2),
    )
    assert only(commands, c.FinishOutput).manifest.counters == {"bad": 1}


def test_the_manifest_lists_the_parts_in_order() -> None:
    scheduler = Scheduler(Settings(), seed=1)
    scheduler.handle(accepted(1, 2))
    scheduler.handle(committed(MAP[0]))
    scheduler.handle(committed(REDUCE[1]))
    manifest = only(scheduler.handle(committed(REDUCE[0])), c.FinishOutput).manifest
    assert [part.task_id for part in manifest.parts] == [REDUCE[0], REDUCE[1]]
    assert (manifest.rows, manifest.bytes) == (10, 100)


def test_nothing_fails_a_job_whose_output_is_complete() -> None:
    lost = Failure(FailureKind.INPUT_LOST, "gone", lost=(LostInput(MAP[0], 1, WORKER),))
    scheduler, _ = fed(
        accepted(1, 2, max_attempts=1),
        committed(MAP[0]),
        failed(REDUCE[0], 1, lost),
        committed(REDUCE[1]),
        committed(REDUCE[0], 2),
        failed(MAP[0], 2, Failure(FailureKind.USER_ERROR, "no")),
    )
    commands = scheduler.handle(e.OutputFinished(2.0, JOB))
    assert only(commands, c.CloseJob).record.state is JobState.COMPLETED


def test_events_that_wait_together_save_a_job_once() -> None:
    scheduler = Scheduler(Settings(), seed=1)
    scheduler.handle(accepted(3, 1))
    commands = scheduler.handle_all([committed(MAP[0]), committed(MAP[1]), committed(MAP[2])])
    saved = only(commands, c.SaveJob)
    assert {task.task_id for task in saved.tasks} == {*MAP[:3], REDUCE[0]}
    assert saved.record.state is JobState.REDUCING


def test_an_ended_job_is_forgotten() -> None:
    scheduler = Scheduler(Settings(), seed=1)
    for name in ("one", "two"):
        scheduler.handle(accepted(1, 1, name))
    scheduler.handle(e.CancelRequested(0.0, JobId("one"), "enough"))
    assert scheduler.active_jobs() == ("two",)


@pytest.mark.parametrize(
    ("kind", "tries"), [(FailureKind.OUTPUT_UNWRITABLE, 2), (FailureKind.INFRASTRUCTURE, 5)]
)
def test_an_output_that_cannot_be_finished_fails_the_job_in_the_end(kind: FailureKind, tries: int) -> None:
    scheduler, _ = fed(accepted(1, 0, max_attempts=2), max_uncounted_attempts=5)
    only(
        scheduler.handle(recorded(PartOutput(AttemptId(JOB, MAP[0], 1), WORKER, LIFE, 1, 1, "0"))),
        c.FinishOutput,
    )
    away = Failure(kind, "the file system is away")
    for number in range(1, tries):
        scheduler.handle(e.OutputFailed(number * 100.0, JOB, away))
        assert scheduler.state.jobs[JOB].record.waiting_for == "the file system is away"
        only(scheduler.handle(workers(number * 100.0 + 90.0, 1)), c.FinishOutput)
    record = only(scheduler.handle(e.OutputFailed(1000.0, JOB, away)), c.CloseJob).record
    assert (record.state, record.cause) == (JobState.FAILED, "the file system is away")


def test_a_job_without_input_has_its_reduces_run() -> None:
    scheduler = Scheduler(Settings(), seed=1)
    commands = scheduler.handle(accepted(0, 1))
    assert only(commands, c.SaveJob).record.state is JobState.REDUCING
    assert [p.message.task_id for p in only(commands, c.PublishTasks).tasks] == [REDUCE[0]]
