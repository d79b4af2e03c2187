"""Any event in any state, in any order: the scheduler never raises and its state stays whole."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mr.coordinator.core import events as e
from mr.coordinator.core.commands import CloseJob, PublishTasks, SaveJob
from mr.coordinator.core.decisions import Decisions
from mr.coordinator.core.invariants import check
from mr.coordinator.core.job_records import submitted_record
from mr.coordinator.core.restore import new_job
from mr.coordinator.core.scheduler import Scheduler
from mr.coordinator.core.state import ActiveJob, Task
from mr.coordinator.core.transitions import (
    JOB_TRANSITIONS,
    TASK_TRANSITIONS,
    JobCause,
    TaskCause,
)
from mr.errors import IllegalTransition
from mr.protocol.claims import Claim, Holder
from mr.protocol.failures import Failure, FailureKind, LostInput
from mr.protocol.ids import AttemptId, Incarnation, JobId, TaskId, TaskKind, WorkerId, task_id, task_kind
from mr.protocol.jobs import Split
from mr.protocol.messages import TaskCommitted, TaskFailed, WorkerStopped
from mr.protocol.records import (
    JobRecord,
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

SETTINGS = Settings(max_uncounted_attempts=3)
#: (maps, reduces, priority) of the jobs that the events speak of; no job is ever called `ghost`.
JOBS = {"a": (3, 2, 2), "b": (2, 0, 4), "c": (0, 1, 0)}

job_names = st.sampled_from([*JOBS, "ghost"])
tasks = st.builds(task_id, st.sampled_from(TaskKind), st.integers(0, 3))
attempts = st.integers(1, 5)
lives = st.sampled_from([(WorkerId(w), Incarnation(f"{w}.{n}")) for w in ("w1", "w2", "w3") for n in (1, 2)])
#: Seconds since the event before.
pauses = st.sampled_from([0.0, 0.5, 4.0, 11.0, 16.0, 400.0])


def splits_of(job: str) -> tuple[Split, ...]:
    return make_splits(JOBS[job][0])


def spec_of(job: str) -> Any:
    maps, reduces, priority = JOBS[job]
    return make_spec(job, maps, reduces, priority=priority, max_attempts=2)


def result_of(job: str, task: TaskId, attempt: int, life: tuple[WorkerId, Incarnation]) -> TaskResult:
    writes_part = task_kind(task) is TaskKind.REDUCE or JOBS.get(job, (0, 0, 0))[1] == 0
    if writes_part:
        return TaskResult(
            PartOutput(AttemptId(JobId(job), task, attempt), *life, 1, 1, "0"), TaskStats(wall_seconds=1.0)
        )
    return TaskResult(
        MapOutput(AttemptId(JobId(job), task, attempt), *life, "", "", ""),
        TaskStats(records_in=1, wall_seconds=1.0),
    )


def committed(job: str, task: TaskId, attempt: int, life: tuple[WorkerId, Incarnation]) -> Any:
    result = result_of(job, task, attempt, life)
    outcome = Outcome(Claim(attempt, 0, attempt), result)
    return lambda now: e.ReportReceived(
        now, TaskCommitted(AttemptId(JobId(job), task, attempt), *life), outcome
    )


def failed(
    job: str, task: TaskId, attempt: int, life: tuple[WorkerId, Incarnation], kind: FailureKind, lost: TaskId
) -> Any:
    failure = Failure(kind, f"{kind}", lost=(LostInput(lost, attempt - 1, life[0]),))
    outcome = Outcome(Claim(attempt, holders=(Holder(*life, attempt, 0),)))
    return lambda now: e.ReportReceived(
        now, TaskFailed(AttemptId(JobId(job), task, attempt), *life, failure), outcome
    )


def observed(
    seen: dict[WorkerId, tuple[Incarnation, bool, int, list[tuple[str, TaskId, int]]]],
) -> Any:
    def build(now: float) -> e.Event:
        views = []
        for worker, (incarnation, live, number, running) in sorted(seen.items()):
            beat = WorkerBeat(
                worker=worker,
                incarnation=incarnation,
                host="",
                address=f"{worker}:1",
                version="",
                started_at=0.0,
                slots=2,
                open_slots=2,
                number=number,
                control_queue=f"control-{incarnation}",
                running=tuple(RunningTask(JobId(j), t, n, 0.0, 50.0) for j, t, n in running),
            )
            views.append(WorkerView(beat, 0.0 if live else 60.0, live))
        return e.WorkersObserved(now, tuple(views))

    return build


@st.composite
def claim_of(draw: st.DrawFn, job: str, task: TaskId) -> tuple[Claim, TaskResult | None]:
    newest = draw(attempts)
    shape = draw(st.sampled_from(("nobody", "held", "committed", "reopened")))
    if shape == "committed":
        return Claim(newest, 0, newest), result_of(job, task, newest, draw(lives))
    if shape == "held":
        holder = Holder(*draw(lives), newest, draw(st.integers(0, 2)))  # 0: released
        return Claim(newest, 0, 0, draw(st.booleans()), (holder,)), None
    return Claim(newest, newest if shape == "reopened" else 0), None


@st.composite
def claims_of(draw: st.DrawFn) -> tuple[str, dict[TaskId, Claim], dict[TaskId, TaskResult]]:
    job = draw(job_names)
    claims: dict[TaskId, Claim] = {}
    results: dict[TaskId, TaskResult] = {}
    for task in draw(st.lists(tasks, unique=True, max_size=5)):
        claims[task], result = draw(claim_of(job, task))
        if result is not None:
            results[task] = result
    return job, claims, results


@st.composite
def restored(draw: st.DrawFn) -> Any:
    _, claims, results = draw(claims_of())
    job = draw(st.sampled_from(list(JOBS)))
    fitting = {t: result_of(job, t, r.output.attempt.number, draw(lives)) for t, r in results.items()}
    records = {
        task: TaskRecord(task_id=task, state=draw(st.sampled_from(TaskState)), attempt=draw(attempts))
        for task in draw(st.lists(tasks, unique=True, max_size=3))
    }
    stored = RestoredJob(
        submitted_record(spec_of(job)), spec_of(job), splits_of(job), records, claims, fitting
    )
    return lambda now: e.JobRestored(now, stored)


def claims_observed(found: tuple[str, dict[TaskId, Claim], dict[TaskId, TaskResult]], outputs: bool) -> Any:
    job, claims, results = found
    return lambda now: e.ClaimsObserved(now, JobId(job), claims, results, outputs, now)


def written_back(found: tuple[str, dict[TaskId, Claim], dict[TaskId, TaskResult]]) -> Any:
    job, claims, results = found
    return lambda now: e.JobWrittenBack(now, JobId(job), claims, results)


sightings = st.tuples(job_names, tasks, attempts)
seen = st.dictionaries(
    st.sampled_from([WorkerId("w1"), WorkerId("w2"), WorkerId("w3")]),
    st.tuples(
        lives.map(lambda life: life[1]), st.booleans(), st.integers(0, 2), st.lists(sightings, max_size=2)
    ),
)
happenings = st.one_of(
    st.sampled_from(list(JOBS)).map(lambda j: lambda now: e.JobAccepted(now, spec_of(j), splits_of(j))),
    st.builds(committed, job_names, tasks, attempts, lives),
    st.builds(committed, job_names, tasks, attempts, lives),
    st.builds(failed, job_names, tasks, attempts, lives, st.sampled_from(FailureKind), tasks),
    seen.map(observed),
    seen.map(observed),
    st.builds(claims_observed, claims_of(), st.booleans()),
    claims_of().map(written_back),
    restored(),
    st.integers(0, 1).map(lambda ready: lambda now: e.QueueObserved(now, ready)),
    st.builds(
        lambda life, leaves: lambda now: e.ReportReceived(now, WorkerStopped(*life, leaves)),
        lives,
        st.booleans(),
    ),
    st.builds(
        lambda life, number, outcome: lambda now: e.WorkerProbed(now, life[1], number, outcome),
        lives,
        st.integers(0, 2),
        st.sampled_from(e.ProbeOutcome),
    ),
    job_names.map(lambda j: lambda now: e.OutputFinished(now, JobId(j))),
    st.builds(
        lambda j, kind: lambda now: e.OutputFailed(now, JobId(j), Failure(kind, "away")),
        job_names,
        st.sampled_from((FailureKind.INFRASTRUCTURE, FailureKind.BAD_JOB)),
    ),
    job_names.map(lambda j: lambda now: e.CancelRequested(now, JobId(j), "enough")),
)


@given(st.lists(st.tuples(pauses, happenings), max_size=40))
@settings(max_examples=300, deadline=None)
def test_any_events_in_any_order_keep_the_state_whole(script: list[tuple[float, Any]]) -> None:
    scheduler, twin = Scheduler(SETTINGS, seed=1), Scheduler(SETTINGS, seed=1)
    store: dict[JobId, tuple[JobRecord, dict[TaskId, TaskRecord]]] = {}
    now = 100.0
    for pause, happening in [(0.0, lambda now: e.JobAccepted(now, spec_of("a"), splits_of("a"))), *script]:
        now += pause
        event = happening(now)
        before = set(scheduler.active_jobs())
        commands = scheduler.handle(event)
        check(scheduler.state)
        assert commands == twin.handle(event), "equal events give equal commands"
        steps = [command.effect for command in commands]
        assert steps == sorted(steps)
        assert all(command.cause for command in commands)
        _check_commands(scheduler, before, commands)
        _save(store, commands)
        for name, job in scheduler.state.jobs.items():
            records = {task_id: task.record for task_id, task in job.tasks.items()}
            assert store[name] == (job.record, records), "every change is saved"


def _save(store: dict[JobId, tuple[JobRecord, dict[TaskId, TaskRecord]]], commands: list[Any]) -> None:
    for command in commands:
        if isinstance(command, SaveJob):
            _, tasks = store.get(command.record.job_id, (command.record, {}))
            saved = {task.task_id: task for task in command.tasks}
            store[command.record.job_id] = (command.record, tasks | saved)


def _check_commands(scheduler: Scheduler, before: set[JobId], commands: list[Any]) -> None:
    """Jobs that leave are ended, and only these; nobody publishes what was not saved as queued."""
    active = set(scheduler.active_jobs())
    assert {x.record.job_id for x in commands if isinstance(x, CloseJob)} == before - active
    saved = {
        (x.record.job_id, t.task_id): t.state for x in commands if isinstance(x, SaveJob) for t in x.tasks
    }
    for command in commands:
        if isinstance(command, PublishTasks):
            for task in command.tasks:
                state = saved[task.message.job_id, task.message.task_id]
                assert state in (TaskState.QUEUED, TaskState.RUNNING)
        if isinstance(command, CloseJob):
            assert command.record.state.terminal
            assert all(
                t.state in (TaskState.COMMITTED, TaskState.FAILED, TaskState.CANCELLED) for t in command.tasks
            )


def fresh_job() -> tuple[Decisions, ActiveJob]:
    decisions = Decisions(Scheduler(SETTINGS, seed=1).state)
    return decisions, new_job(decisions.state, e.JobAccepted(0.0, spec_of("a"), splits_of("a")))


@pytest.mark.parametrize("state", JobState)
@pytest.mark.parametrize("cause", JobCause)
def test_a_step_of_a_job_that_is_not_listed_raises_and_changes_nothing(
    state: JobState, cause: JobCause
) -> None:
    decisions, job = fresh_job()
    job.write(state=state)
    before = job.record
    if (state, cause) in JOB_TRANSITIONS:
        decisions.step(job, cause)
        assert job.record.state is JOB_TRANSITIONS[state, cause]
        return
    with pytest.raises(IllegalTransition):
        decisions.step(job, cause)
    assert job.record is before


@pytest.mark.parametrize("state", TaskState)
@pytest.mark.parametrize("cause", TaskCause)
def test_a_step_of_a_task_that_is_not_listed_raises_and_changes_nothing(
    state: TaskState, cause: TaskCause
) -> None:
    decisions, job = fresh_job()
    name = task_id(TaskKind.MAP, 0)
    task = Task(TaskKind.MAP, TaskRecord(task_id=name, state=state))
    job.tasks.pop(name)
    job.counts[TaskKind.MAP, TaskState.WAITING] -= 1
    job.add(task)
    before, counts, outstanding = task.record, dict(job.counts), dict(job.outstanding)
    if (state, cause) in TASK_TRANSITIONS:
        decisions.move(job, task, cause)
        assert task.state is TASK_TRANSITIONS[state, cause]
        return
    with pytest.raises(IllegalTransition):
        decisions.move(job, task, cause)
    assert (task.record, job.counts, job.outstanding) == (before, counts, outstanding)
