"""The tables of legal transitions, and the diagrams made from them."""

import pytest

from mr.coordinator.core.transitions import (
    JOB_TRANSITIONS,
    TASK_TRANSITIONS,
    JobCause,
    TaskCause,
    diagram,
    next_job_state,
    next_task_state,
)
from mr.errors import IllegalTransition
from mr.protocol.records import JobState, TaskState


@pytest.mark.parametrize("state", JobState)
@pytest.mark.parametrize("cause", JobCause)
def test_a_job_takes_listed_steps_only(state: JobState, cause: JobCause) -> None:
    if (state, cause) in JOB_TRANSITIONS:
        assert next_job_state(state, cause) is JOB_TRANSITIONS[state, cause]
        assert not state.terminal or cause is JobCause.RESUMED
    else:
        with pytest.raises(IllegalTransition, match=state):
            next_job_state(state, cause)


@pytest.mark.parametrize("state", TaskState)
@pytest.mark.parametrize("cause", TaskCause)
def test_a_task_takes_listed_steps_only(state: TaskState, cause: TaskCause) -> None:
    if (state, cause) in TASK_TRANSITIONS:
        assert next_task_state(state, cause) is TASK_TRANSITIONS[state, cause]
        assert state not in (TaskState.FAILED, TaskState.CANCELLED) or cause is TaskCause.RESUMED
    else:
        with pytest.raises(IllegalTransition, match=state):
            next_task_state(state, cause)


def test_every_state_can_be_reached_and_left_as_promised() -> None:
    assert set(JOB_TRANSITIONS.values()) == set(JobState) - {JobState.SUBMITTED}
    assert set(TASK_TRANSITIONS.values()) == set(TaskState)
    for state in JobState:
        assert state.terminal or (state, JobCause.CANCELLED) in JOB_TRANSITIONS


def test_every_cause_is_used() -> None:
    assert {cause for _, cause in JOB_TRANSITIONS} == set(JobCause)
    assert {cause for _, cause in TASK_TRANSITIONS} == set(TaskCause)


def test_the_diagram_shows_every_row() -> None:
    text = diagram()
    for (source, cause), target in [*JOB_TRANSITIONS.items(), *TASK_TRANSITIONS.items()]:
        arrows = [line for line in text.splitlines() if line.startswith(f"    {source} --> {target} :")]
        assert any(cause in arrow for arrow in arrows), (source, cause, target)
    assert text.count("stateDiagram-v2") == 2
    assert "    COMPLETED --> [*]" in text
    assert "    COMMITTED --> [*]" in text
