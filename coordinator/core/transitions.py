"""Every legal transition of a job and of a task, one row each. Any other raises IllegalTransition. Pure."""

from collections.abc import Iterable
from enum import StrEnum

from mr.errors import IllegalTransition
from mr.protocol.records import JobState, TaskState


class JobCause(StrEnum):
    """Why a job changes its state."""

    PLANNED = "splits planned"
    MAPS_COMMITTED = "all maps committed"
    MAP_OUTPUT_LOST = "map output lost"
    OUTPUT_FINISHED = "output complete"
    TASK_GAVE_UP = "a task failed for good"
    TOO_MANY_BAD_RECORDS = "too many bad records"
    OUTPUT_FAILED = "output cannot be written"
    BROKEN = "it cannot be handled"
    CANCELLED = "cancelled"
    RESUMED = "resumed by its owner"


class TaskCause(StrEnum):
    """Why a task changes its state."""

    PUBLISHED = "published"
    REPUBLISHED = "published again"
    STARTED = "attempt runs"
    COMMITTED = "attempt committed"
    ATTEMPT_FAILED = "attempt failed"
    BACKUP_FAILED = "attempt failed, another runs"
    ATTEMPT_LOST = "attempt lost with its worker"
    OUTPUT_LOST = "output lost with its worker"
    GAVE_UP = "attempts used up"
    JOB_ENDED = "job ended"
    RESUMED = "job resumed"


#: A job that loses map outputs while REDUCING stays REDUCING: those maps run again, the reduces wait.
JOB_TRANSITIONS: dict[tuple[JobState, JobCause], JobState] = {
    (JobState.SUBMITTED, JobCause.PLANNED): JobState.MAPPING,
    (JobState.SUBMITTED, JobCause.BROKEN): JobState.FAILED,
    (JobState.SUBMITTED, JobCause.CANCELLED): JobState.CANCELLED,
    (JobState.MAPPING, JobCause.MAP_OUTPUT_LOST): JobState.MAPPING,
    (JobState.MAPPING, JobCause.MAPS_COMMITTED): JobState.REDUCING,
    # A job without reduces.
    (JobState.MAPPING, JobCause.OUTPUT_FINISHED): JobState.COMPLETED,
    (JobState.MAPPING, JobCause.TASK_GAVE_UP): JobState.FAILED,
    (JobState.MAPPING, JobCause.TOO_MANY_BAD_RECORDS): JobState.FAILED,
    (JobState.MAPPING, JobCause.OUTPUT_FAILED): JobState.FAILED,
    (JobState.MAPPING, JobCause.BROKEN): JobState.FAILED,
    (JobState.MAPPING, JobCause.CANCELLED): JobState.CANCELLED,
    (JobState.REDUCING, JobCause.MAP_OUTPUT_LOST): JobState.REDUCING,
    (JobState.REDUCING, JobCause.OUTPUT_FINISHED): JobState.COMPLETED,
    (JobState.REDUCING, JobCause.TASK_GAVE_UP): JobState.FAILED,
    # A lost map output was made again, and the other attempt skipped more.
    (JobState.REDUCING, JobCause.TOO_MANY_BAD_RECORDS): JobState.FAILED,
    (JobState.REDUCING, JobCause.OUTPUT_FAILED): JobState.FAILED,
    (JobState.REDUCING, JobCause.BROKEN): JobState.FAILED,
    (JobState.REDUCING, JobCause.CANCELLED): JobState.CANCELLED,
    # Its reduces go on as soon as all maps are committed, which they may be already.
    (JobState.FAILED, JobCause.RESUMED): JobState.MAPPING,
    (JobState.CANCELLED, JobCause.RESUMED): JobState.MAPPING,
}

TASK_TRANSITIONS: dict[tuple[TaskState, TaskCause], TaskState] = {
    (TaskState.WAITING, TaskCause.PUBLISHED): TaskState.QUEUED,
    # An older message of the task was still on its way, or an attempt given up as lost is alive.
    (TaskState.WAITING, TaskCause.STARTED): TaskState.RUNNING,
    (TaskState.WAITING, TaskCause.COMMITTED): TaskState.COMMITTED,
    (TaskState.WAITING, TaskCause.ATTEMPT_FAILED): TaskState.WAITING,
    (TaskState.WAITING, TaskCause.GAVE_UP): TaskState.FAILED,
    (TaskState.WAITING, TaskCause.JOB_ENDED): TaskState.CANCELLED,
    (TaskState.QUEUED, TaskCause.REPUBLISHED): TaskState.QUEUED,
    (TaskState.QUEUED, TaskCause.STARTED): TaskState.RUNNING,
    # A short attempt ends before a heartbeat shows it running.
    (TaskState.QUEUED, TaskCause.COMMITTED): TaskState.COMMITTED,
    (TaskState.QUEUED, TaskCause.ATTEMPT_FAILED): TaskState.WAITING,
    (TaskState.QUEUED, TaskCause.ATTEMPT_LOST): TaskState.WAITING,
    (TaskState.QUEUED, TaskCause.GAVE_UP): TaskState.FAILED,
    (TaskState.QUEUED, TaskCause.JOB_ENDED): TaskState.CANCELLED,
    (TaskState.RUNNING, TaskCause.STARTED): TaskState.RUNNING,
    (TaskState.RUNNING, TaskCause.COMMITTED): TaskState.COMMITTED,
    (TaskState.RUNNING, TaskCause.ATTEMPT_FAILED): TaskState.WAITING,
    (TaskState.RUNNING, TaskCause.BACKUP_FAILED): TaskState.RUNNING,
    (TaskState.RUNNING, TaskCause.ATTEMPT_LOST): TaskState.WAITING,
    (TaskState.RUNNING, TaskCause.GAVE_UP): TaskState.FAILED,
    (TaskState.RUNNING, TaskCause.JOB_ENDED): TaskState.CANCELLED,
    # A map whose output a reduce still needs.
    (TaskState.COMMITTED, TaskCause.OUTPUT_LOST): TaskState.WAITING,
    (TaskState.FAILED, TaskCause.RESUMED): TaskState.WAITING,
    (TaskState.CANCELLED, TaskCause.RESUMED): TaskState.WAITING,
    # Its output is gone, or was made by code that is replaced.
    (TaskState.COMMITTED, TaskCause.RESUMED): TaskState.WAITING,
}

#: Steps taken before, oldest first: (when, why).
History = Iterable[tuple[float, str]]

#: The states in which jobs and tasks end.
END_STATES = ("COMPLETED", "COMMITTED", "FAILED", "CANCELLED")


def next_job_state(state: JobState, cause: JobCause, history: History = ()) -> JobState:
    """Look up where `cause` leads a job from `state`. Raises IllegalTransition."""
    target = JOB_TRANSITIONS.get((state, cause))
    if target is None:
        raise IllegalTransition(f"a job in state {state} takes no step for {cause!r}", _text(history))
    return target


def next_task_state(state: TaskState, cause: TaskCause, history: History = ()) -> TaskState:
    """Look up where `cause` leads a task from `state`. Raises IllegalTransition."""
    target = TASK_TRANSITIONS.get((state, cause))
    if target is None:
        raise IllegalTransition(f"a task in state {state} takes no step for {cause!r}", _text(history))
    return target


def _text(history: History) -> str:
    return ", ".join(f"{at:.3f} {cause}" for at, cause in history)


def diagram() -> str:
    """Draw both tables as Mermaid state diagrams, for ARCHITECTURE.md."""
    jobs = _mermaid("SUBMITTED", [(s, c, t) for (s, c), t in JOB_TRANSITIONS.items()], END_STATES)
    tasks = _mermaid("WAITING", [(s, c, t) for (s, c), t in TASK_TRANSITIONS.items()], END_STATES)
    return f"Jobs:\n\n{jobs}\n\nTasks:\n\n{tasks}\n"


def _mermaid(initial: str, rows: list[tuple[str, str, str]], ends: tuple[str, ...]) -> str:
    """Render rows (source, cause, target) as one diagram; causes of one step share an arrow."""
    causes: dict[tuple[str, str], list[str]] = {}
    for source, cause, target in rows:
        causes.setdefault((source, target), []).append(cause)
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {initial}"]
    lines += [f"    {s} --> {t} : {' / '.join(names)}" for (s, t), names in causes.items()]
    targets = {target for _, _, target in rows}
    lines += [f"    {end} --> [*]" for end in ends if end in targets]
    return "\n".join([*lines, "```"])
