"""The scheduler's records and bounds; what happens when is in tests/scenarios."""

from collections.abc import Iterable
from typing import TypeVar

import msgspec
import pytest

from mr.coordinator.core import commands as c
from mr.coordinator.core import events as e
from mr.coordinator.core.invariants import InvariantBroken, check
from mr.coordinator.core.job_records import submitted_record
from mr.coordinator.core.policy import MAX_FAILURE_GROUPS, MAX_GROUP_TASKS
from mr.coordinator.core.scheduler import Scheduler
from mr.protocol.claims import Claim, Holder, Placement
from mr.protocol.failures import Failure, FailureKind, LostInput
from mr.protocol.ids import AttemptId, Incarnation, JobId, TaskId, TaskKind, WorkerId, task_id
from mr.protocol.messages import TaskCommitted, TaskFailed
from mr.protocol.records import (
    JobState,
    MapOutput,
    Outcome,
    PartOutput,
    RestoredJob,
    RunningTask,
    TaskRecord,
    TaskResult,
    TaskState,
    TaskStats,
    WorkerBeat,
    WorkerView,
)
from mr.settings import Settings
from tests.support.specs import make_spec, make_splits

T = TypeVar("T")
JOB, WORKER, LIFE = JobId("a"), WorkerId("w1"), Incarnation("w1.1")
MAP = [task_id(TaskKind.MAP, index) for index in range(100)]
REDUCE = [task_id(TaskKind.REDUCE, index) for index in range(8)]


def accepted(maps: int, reduces: int, job: str = "a", **options: int) -> e.JobAccepted:
    return e.JobAccepted(0.0, make_spec(job, maps, reduces, **options), make_splits(maps))  # type: ignore[arg-type]


def committed(
    task: TaskId, attempt: int = 1, stats: TaskStats | None = None, job: JobId = JOB
) -> e.ReportReceived:
    stats = stats or TaskStats()
    output: MapOutput | PartOutput = PartOutput(AttemptId(JOB, task, attempt), WORKER, LIFE, 5, 50, "0")
    if task.startswith("map"):
        output = MapOutput(AttemptId(JOB, task, attempt), WORKER, LIFE, "", "", "/spool")
    return recorded(output, stats, job)


def recorded(
    output: MapOutput | PartOutput, stats: TaskStats | None = None, job: JobId = JOB
) -> e.ReportReceived:
    """A report of an attempt that the store shows as committed."""
    outcome = Outcome(
        Claim(output.attempt.number, 0, output.attempt.number), TaskResult(output, stats or TaskStats())
    )
    return e.ReportReceived(
        1.0, TaskCommitted(AttemptId(job, output.attempt.task, output.attempt.number), WORKER, LIFE), outcome
    )


def failed(task: TaskId, attempt: int, failure: Failure) -> e.ReportReceived:
    outcome = Outcome(Claim(attempt, holders=(Holder(WORKER, LIFE, attempt, 0),)))
    return e.ReportReceived(1.0, TaskFailed(AttemptId(JOB, task, attempt), WORKER, LIFE, failure), outcome)


def workers(now: float, slots: int, *running: RunningTask) -> e.WorkersObserved:
    beat = WorkerBeat(
        worker=WORKER,
        incarnation=Incarnation("w1.1"),
        host="",
        address="",
        version="0",
        started_at=0.0,
        slots=slots,
        open_slots=slots,
        running=running,
    )
    return e.WorkersObserved(now, (WorkerView(beat, 0.0, True),))


def only(commands: Iterable[c.Command], kind: type[T]) -> T:
    (found,) = [command for command in commands if isinstance(command, kind)]
    return found


def fed(*events: e.Event) -> tuple[Scheduler, list[c.Command]]:
    """A scheduler after some events, and the commands of the last one."""
    scheduler = Scheduler(Settings(), seed=1)
    commands: list[c.Command] = []
    for event in events:
        commands = scheduler.handle(event)
        check(scheduler.state)
    return scheduler, commands


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


def test_a_reduce_s_input_is_what_its_attempt_says_or_what_was_committed() -> None:
    scheduler, _ = fed(accepted(1, 2), committed(MAP[0]), committed(REDUCE[0], stats=TaskStats(bytes_in=20)))
    job = scheduler.state.jobs[JOB]
    names = (MAP[0], *REDUCE[:2])
    assert [job.input_bytes(job.tasks[name]) for name in names] == [100, 20, 0]
    running = RunningTask(JOB, REDUCE[1], 1, 0.0, 1.0, bytes_in=200)
    scheduler.handle(workers(1.0, 1, running))
    assert [job.input_bytes(job.tasks[name]) for name in names] == [100, 20, 200]


def test_lost_inputs_are_acted_on_but_not_kept() -> None:
    lost = Failure(FailureKind.INPUT_LOST, "gone", lost=(LostInput(MAP[0], 1, WORKER),))
    scheduler, _ = fed(accepted(1, 1), committed(MAP[0]))
    commands = scheduler.handle(failed(REDUCE[0], 1, lost))
    assert only(commands, c.Reopen).lost == {MAP[0]: Placement(1, Incarnation("w1.1"))}
    saved = only(commands, c.SaveJob)
    kept = [task.failure for task in saved.tasks if task.failure] + [g.failure for g in saved.record.failures]
    assert [failure.lost for failure in kept] == [(), ()]


def test_a_map_that_runs_again_counts_once() -> None:
    stats = TaskStats(records_in=3, counters={"bad": 1})
    lost = Failure(FailureKind.INPUT_LOST, "gone", lost=(LostInput(MAP[0], 1, WORKER),))
    _, commands = fed(
        accepted(1, 1),
        committed(MAP[0], 1, stats),
        failed(REDUCE[0], 1, lost),
        committed(MAP[0], 2, stats),
        committed(REDUCE[0], 2),
    )
    manifest = only(commands, c.FinishOutput).manifest
    assert manifest.counters == {"bad": 1}


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


def test_causes_and_their_tasks_are_bounded() -> None:
    scheduler = Scheduler(Settings(), seed=1)
    scheduler.handle(accepted(100, 1, max_attempts=100))
    for number, task in enumerate(MAP):
        scheduler.handle(failed(task, 1, Failure(FailureKind.USER_ERROR, f"cause {number % 30}")))
    for task in MAP[1:]:
        commands = scheduler.handle(failed(task, 2, Failure(FailureKind.USER_ERROR, "cause 0")))
    record = only(commands, c.SaveJob).record
    assert record.attempts_failed == 199
    assert len(record.failures) == MAX_FAILURE_GROUPS
    assert record.failures[0].failure.message == "cause 0"
    assert record.failures[0].count == 4 + 99
    assert len(record.failures[0].tasks) == MAX_GROUP_TASKS


def test_uncounted_attempts_have_a_bound_too() -> None:
    settings = Settings(max_uncounted_attempts=2)
    scheduler = Scheduler(settings, seed=1)
    scheduler.handle(accepted(1, 1))
    disk_full = Failure(FailureKind.INFRASTRUCTURE, "the disk is full")
    for attempt in (1, 2):
        assert not any(
            isinstance(x, c.CloseJob) for x in scheduler.handle(failed(MAP[0], attempt, disk_full))
        )
    record = only(scheduler.handle(failed(MAP[0], 3, disk_full)), c.CloseJob).record
    assert (record.state, record.cause) == (JobState.FAILED, "map-00000: the disk is full")


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


def test_the_window_bounds_what_is_published() -> None:
    scheduler = Scheduler(Settings(), seed=1)
    first = only(scheduler.handle(accepted(100, 1)), c.PublishTasks)
    assert len(first.tasks) == 4
    more = only(scheduler.handle(workers(1.0, slots=8)), c.PublishTasks)
    assert len(more.tasks) == 12
    assert len(only(scheduler.handle(committed(MAP[0])), c.PublishTasks).tasks) == 1


def test_reduces_are_published_before_maps_of_the_same_priority() -> None:
    scheduler, commands = fed(accepted(1, 1), committed(MAP[0]))
    assert [p.priority for p in only(commands, c.PublishTasks).tasks] == [5]
    assert [p.priority for p in only(scheduler.handle(accepted(1, 1, "b")), c.PublishTasks).tasks] == [4]


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


def test_an_output_that_cannot_be_written_fails_the_job_after_its_attempts() -> None:
    scheduler, _ = fed(accepted(1, 0, max_attempts=2))
    only(
        scheduler.handle(recorded(PartOutput(AttemptId(JOB, MAP[0], 1), WORKER, LIFE, 1, 1, "0"))),
        c.FinishOutput,
    )
    away = Failure(FailureKind.INFRASTRUCTURE, "the file system is away")
    assert scheduler.handle(e.OutputFailed(2.0, JOB, away)) == []
    only(scheduler.handle(workers(10.0, 1)), c.FinishOutput)
    record = only(scheduler.handle(e.OutputFailed(11.0, JOB, away)), c.CloseJob).record
    assert (record.state, record.cause) == (JobState.FAILED, "the file system is away")


def test_a_job_without_input_has_its_reduces_run() -> None:
    scheduler = Scheduler(Settings(), seed=1)
    commands = scheduler.handle(accepted(0, 1))
    assert only(commands, c.SaveJob).record.state is JobState.REDUCING
    assert [p.message.task_id for p in only(commands, c.PublishTasks).tasks] == [REDUCE[0]]


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


def test_the_invariants_notice_a_wrong_book() -> None:
    scheduler, _ = fed(accepted(2, 1))
    scheduler.state.jobs[JOB].tasks[MAP[0]].write({"state": TaskState.COMMITTED})
    with pytest.raises(InvariantBroken, match="COMMITTED with result None"):
        check(scheduler.state)
