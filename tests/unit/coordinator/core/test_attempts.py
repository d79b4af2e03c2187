"""What becomes of an attempt: committed, failed, its inputs lost."""

from mr.coordinator.core import commands as c
from mr.coordinator.core.policy import MAX_FAILURE_GROUPS, MAX_GROUP_TASKS
from mr.coordinator.core.scheduler import Scheduler
from mr.protocol.claims import Placement
from mr.protocol.failures import Failure, FailureKind, LostInput
from mr.protocol.ids import Incarnation
from mr.protocol.records import (
    JobState,
    RunningTask,
    TaskStats,
)
from mr.settings import Settings
from tests.support.scheduling import (
    JOB,
    MAP,
    REDUCE,
    WORKER,
    accepted,
    committed,
    failed,
    fed,
    only,
    workers,
)


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


def test_the_event_of_a_failed_attempt_tells_the_kind() -> None:
    commands = fed(accepted(1, 1), failed(MAP[0], 1, Failure(FailureKind.KILLED, "by a signal")))[1]
    event = only(commands, c.EmitEvent).event
    assert (event.failure_kind, event.cause) == (FailureKind.KILLED, "by a signal")


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
