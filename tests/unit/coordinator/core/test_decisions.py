"""Changes of records are saved by themselves, and nothing but `Decisions` makes them."""

import ast
from pathlib import Path

import pytest

import mr.coordinator.core
from mr.coordinator.core import commands as c
from mr.coordinator.core import events as e
from mr.coordinator.core.decisions import Decisions
from mr.coordinator.core.isolation import isolated
from mr.coordinator.core.restore import new_job
from mr.coordinator.core.scheduler import Scheduler
from mr.coordinator.core.state import RECENT_STEPS, ActiveJob
from mr.coordinator.core.transitions import JobCause, TaskCause
from mr.errors import IllegalTransition
from mr.protocol.failures import Failure, FailureKind
from mr.protocol.ids import TaskId
from mr.protocol.records import JobState, TaskState
from mr.settings import Settings
from tests.support.specs import make_spec, make_splits

MAP = TaskId("map-00000")
SOURCES = Path(mr.coordinator.core.__file__).parent


@pytest.fixture
def decisions() -> Decisions:
    return Decisions(Scheduler(Settings(), seed=1).state, 5.0, 1000.0)


@pytest.fixture
def job(decisions: Decisions) -> ActiveJob:
    accepted = e.JobAccepted(0.0, make_spec("one", 1, 0), make_splits(1))
    job = decisions.state.jobs[accepted.spec.job_id] = new_job(decisions.state, accepted)
    return job


def saved(decisions: Decisions) -> c.SaveJob:
    (save,) = (x for x in decisions.commands(isolated) if isinstance(x, c.SaveJob))
    return save


def test_a_move_saves_the_task_with_its_cause(decisions: Decisions, job: ActiveJob) -> None:
    decisions.move(job, job.tasks[MAP], TaskCause.PUBLISHED, queued_at=7.0)
    decisions.move(job, job.tasks[MAP], TaskCause.REPUBLISHED)
    save = saved(decisions)
    assert [(task.task_id, task.state, task.queued_at) for task in save.tasks] == [
        (MAP, TaskState.QUEUED, 7.0)
    ]
    assert save.cause == "published; published again"


def test_other_changes_save_the_task_or_job(decisions: Decisions, job: ActiveJob) -> None:
    decisions.change(job, job.tasks[MAP], "a backup", speculative=True)
    decisions.note_waiting(job, "no live workers")
    decisions.add_failure(job, job.tasks[MAP], Failure(FailureKind.KILLED, "out of memory"))
    save = saved(decisions)
    assert [task.speculative for task in save.tasks] == [True]
    assert (save.record.waiting_for, save.record.attempts_failed) == ("no live workers", 1)


def test_a_step_saves_the_job_and_emits_its_event(decisions: Decisions, job: ActiveJob) -> None:
    decisions.step(job, JobCause.PLANNED)
    commands = decisions.commands(isolated)
    assert [x.record.state for x in commands if isinstance(x, c.SaveJob)] == [JobState.MAPPING]
    (event,) = (x.event for x in commands if isinstance(x, c.EmitEvent))
    assert (event.state, event.at, event.cause) == ("MAPPING", 1000.0, "splits planned")


def test_an_illegal_step_names_the_last_steps_of_the_task(decisions: Decisions, job: ActiveJob) -> None:
    task = job.tasks[MAP]
    decisions.move(job, task, TaskCause.PUBLISHED)
    decisions.now = 6.5
    decisions.move(job, task, TaskCause.STARTED)
    with pytest.raises(IllegalTransition) as caught:
        decisions.move(job, task, TaskCause.PUBLISHED)
    assert caught.value.history == "5.000 published, 6.500 attempt runs"
    assert caught.value.history in str(caught.value)
    for _ in range(2 * RECENT_STEPS):
        decisions.move(job, task, TaskCause.STARTED)
    assert len(task.history) == RECENT_STEPS


def test_an_illegal_step_names_the_history_of_the_job(decisions: Decisions, job: ActiveJob) -> None:
    decisions.step(job, JobCause.PLANNED)
    with pytest.raises(IllegalTransition, match=r"before that: .* submitted, 1000\.000 splits planned"):
        decisions.step(job, JobCause.PLANNED)


def test_records_cannot_be_assigned(job: ActiveJob) -> None:
    with pytest.raises(AttributeError):
        job.record = job.record  # type: ignore[misc]
    with pytest.raises(AttributeError):
        job.tasks[MAP].record = job.tasks[MAP].record  # type: ignore[misc]


@pytest.mark.parametrize(
    ("method", "owners"),
    [
        ("write_task", {"decisions.py"}),
        ("write", {"decisions.py", "state.py"}),
        ("_record", {"state.py"}),
    ],
)
def test_only_decisions_write_records(method: str, owners: set[str]) -> None:
    users = {
        path.name
        for path in SOURCES.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr == method
    }
    assert users == owners
