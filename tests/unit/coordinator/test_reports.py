"""A report is a hint: what counts is what the store says, and nobody's word alone changes a job."""

from collections.abc import Sequence

import msgspec
import pytest

from mr.adapters.memory.store import MemoryStore
from mr.coordinator.core import commands as c
from mr.coordinator.core import events as e
from mr.coordinator.core.job_records import submitted_record
from mr.coordinator.core.scheduler import Scheduler
from mr.coordinator.reports import with_outcomes
from mr.protocol.failures import Failure, FailureKind
from mr.protocol.ids import AttemptId, Incarnation, JobId, TaskId, TaskKind, WorkerId
from mr.protocol.messages import Report, TaskCommitted, TaskFailed, WorkerStopped
from mr.protocol.records import JobState, PartOutput, TaskResult, TaskState, TaskStats
from mr.settings import Settings
from tests.contract import samples
from tests.support.specs import make_spec, make_splits

JOB, MAP = JobId("one"), TaskId("map-00000")
ANN, ANN_LIFE = WorkerId("ann"), Incarnation("ann-1")
FORGER, FORGED_LIFE = WorkerId("nobody"), Incarnation("nowhere")
BAD_JOB = Failure(FailureKind.BAD_JOB, "give it up")


class Desk:
    """A scheduler with one map-only job of one task, and the store that reports are checked with."""

    def __init__(self) -> None:
        self.store = MemoryStore(lambda: 1000.0)
        self.scheduler = Scheduler(Settings(), seed=1)

    async def open(self) -> "Desk":
        await self.store.connect()
        spec, splits = make_spec(JOB, 1, 0), make_splits(1)
        await self.store.create_job(spec, splits, submitted_record(spec), 1)
        self.scheduler.handle(e.JobAccepted(0.0, spec, splits))
        return self

    async def hear(self, *reports: Report) -> Sequence[c.Command]:
        """Take reports as the runner does."""
        events = [e.ReportReceived(1.0, report) for report in reports]
        return self.scheduler.handle_all(
            await with_outcomes(self.store, events, self.scheduler.active_jobs())
        )

    @property
    def state(self) -> TaskState:
        return self.scheduler.state.jobs[JOB].tasks[MAP].state

    async def claim(self) -> int:
        return (await self.store.claim(JOB, MAP, ANN, ANN_LIFE, 60.0)).attempt

    async def commit(self, attempt: int, named: int | None = None) -> None:
        output = PartOutput(AttemptId(JOB, MAP, named or attempt), ANN, ANN_LIFE, 1, 1, "0" * 16)
        assert await self.store.commit(AttemptId(JOB, MAP, attempt), TaskResult(output, TaskStats()))


@pytest.fixture
async def desk() -> Desk:
    return await Desk().open()


async def test_a_commit_that_the_store_does_not_show_changes_nothing(desk: Desk) -> None:
    forged = TaskCommitted(AttemptId(JOB, MAP, 1), FORGER, FORGED_LIFE)
    assert await desk.hear(forged) == []
    await desk.claim()
    assert await desk.hear(forged, TaskCommitted(AttemptId(JOB, MAP, 1), ANN, ANN_LIFE)) == []
    assert desk.state is TaskState.QUEUED


async def test_what_is_committed_is_what_the_store_says_whoever_reports_it(desk: Desk) -> None:
    await desk.commit(await desk.claim())
    finish = [
        x
        for x in await desk.hear(TaskCommitted(AttemptId(JOB, MAP, 7), FORGER, FORGED_LIFE))
        if type(x) is c.FinishOutput
    ]
    assert [(part.attempt.number, part.worker) for part in finish[0].parts] == [(1, ANN)]
    assert [part.path for part in finish[0].manifest.parts] == ["/out/one/part-00000"]


async def test_a_failure_is_believed_of_the_attempts_own_worker_alone(desk: Desk) -> None:
    forged = TaskFailed(AttemptId(JOB, MAP, 1), FORGER, FORGED_LIFE, BAD_JOB)
    assert await desk.hear(forged) == []  # never granted
    attempt = await desk.claim()
    assert await desk.hear(forged, msgspec.structs.replace(forged, worker=ANN)) == []
    await desk.store.release(AttemptId(JOB, MAP, attempt), ANN_LIFE)
    assert await desk.hear(forged, msgspec.structs.replace(forged, worker=ANN)) == []
    assert await desk.claim() == 2  # before the first one's report was heard
    told = await desk.hear(TaskFailed(AttemptId(JOB, MAP, attempt), ANN, ANN_LIFE, BAD_JOB))
    (end,) = [x for x in told if type(x) is c.CloseJob]
    assert (end.record.state, end.record.cause) == (JobState.FAILED, "map-00000: give it up")


async def test_a_worker_that_still_beats_has_not_stopped(desk: Desk) -> None:
    await desk.store.heartbeat(samples.beat(ANN, ANN_LIFE), 10.0)
    views = tuple(await desk.store.workers())
    desk.scheduler.handle(e.WorkersObserved(1.0, views))
    await desk.hear(WorkerStopped(ANN, ANN_LIFE))
    assert not desk.scheduler.state.membership.is_dead(ANN_LIFE)
    await desk.store.forget_worker(ANN, ANN_LIFE)
    await desk.hear(WorkerStopped(ANN, ANN_LIFE))
    assert desk.scheduler.state.membership.is_dead(ANN_LIFE)


@pytest.mark.parametrize("task", ["map-00000\n", "map-99999", "", "x", "reduce-00000", "map-1"])
async def test_reports_of_what_is_no_task_of_the_job_change_nothing(desk: Desk, task: str) -> None:
    name = TaskId(task)
    failed = TaskFailed(AttemptId(JOB, name, 1), ANN, ANN_LIFE, BAD_JOB)
    assert await desk.hear(TaskCommitted(AttemptId(JOB, name, 1), ANN, ANN_LIFE), failed) == []
    assert await desk.hear(TaskCommitted(AttemptId(JobId("two"), MAP, 1), ANN, ANN_LIFE)) == []


async def test_a_stored_result_of_another_task_fails_its_job_alone(desk: Desk) -> None:
    await desk.commit(await desk.claim(), named=5)
    told = await desk.hear(TaskCommitted(AttemptId(JOB, MAP, 1), ANN, ANN_LIFE))
    (end,) = [x for x in told if type(x) is c.CloseJob]
    assert end.record.state is JobState.FAILED
    assert "the store's result of map-00000, attempt 1, is a PartOutput" in end.record.cause
    assert [type(x) for x in told if type(x) in (c.AbandonOutput, c.LogFault)] == [
        c.AbandonOutput,
        c.LogFault,
    ]


async def test_a_stored_result_that_cannot_be_read_fails_its_job(desk: Desk) -> None:
    await desk.commit(await desk.claim())
    desk.store.server.jobs[JOB].results[TaskKind.MAP][MAP] = b"\xc1"
    told = await desk.hear(TaskCommitted(AttemptId(JOB, MAP, 1), ANN, ANN_LIFE))
    (end,) = [x for x in told if type(x) is c.CloseJob]
    assert "a stored TaskResult cannot be read" in end.record.cause
