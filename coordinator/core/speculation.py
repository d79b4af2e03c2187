"""Backup attempts for tasks that are slow or stalled. Pure."""

from mr.coordinator.core.decisions import Decisions
from mr.coordinator.core.isolation import isolated
from mr.coordinator.core.policy import backup_patience_seconds, most_finished, straggler_seconds
from mr.coordinator.core.state import ActiveJob, RunningAttempt, Task
from mr.protocol.ids import TaskKind, WorkerId, task_id
from mr.protocol.records import TaskState

#: Why a task gets a backup.
STRAGGLER = "the attempt is a straggler"
STALLED = "the attempt has finished no record for too long"


def start_backups(decisions: Decisions) -> None:
    """Give each straggler and each stalled task one backup while more slots are free than messages wait."""
    free = decisions.state.membership.free_slots()
    budget = sum(free.values()) - decisions.state.ready
    for job in list(decisions.state.jobs.values()):
        if budget <= 0:
            return
        with isolated(decisions, job):
            for task, cause in _due(decisions, job):
                if budget > 0 and _take_slot_elsewhere(task, free):
                    _publish_backup(decisions, job, task, cause)
                    budget -= 1


def _due(decisions: Decisions, job: ActiveJob) -> list[tuple[Task, str]]:
    """The running tasks of a job that are due for a backup, or for another message of theirs, and why."""
    found: list[tuple[Task, str]] = []
    if job.output_done:
        return found
    medians = {kind: _median(decisions, job, kind) for kind in TaskKind}
    for name in job.outstanding:
        task = job.tasks[name]
        if len(task.running) != 1 or not _may_have_backup(decisions, task):
            continue
        (attempt,) = task.running.values()
        median = medians[task.kind]
        if attempt.stalled_seconds > decisions.state.settings.stall_seconds:
            found.append((task, STALLED))
        elif median is not None and _is_late(decisions, job, task, attempt, median):
            found.append((task, STRAGGLER))
    return found


def _median(decisions: Decisions, job: ActiveJob, kind: TaskKind) -> tuple[float, int] | None:
    """(seconds, input bytes) of the median finished task; None before most have finished."""
    total = len(job.splits) if kind is TaskKind.MAP else job.spec.reduces
    median = job.median(kind)
    if median is None or not most_finished(
        decisions.state.settings, job.count(kind, TaskState.COMMITTED), total
    ):
        return None
    seconds, index = median
    return seconds, job.input_bytes(job.tasks[task_id(kind, index)])


def _is_late(
    decisions: Decisions, job: ActiveJob, task: Task, attempt: RunningAttempt, median: tuple[float, int]
) -> bool:
    """Whether an attempt takes longer than its input explains, or has stalled inside its input for so long.

    One that has not finished its first record may have an input of one large record.
    """
    settings, (seconds, median_bytes) = decisions.state.settings, median
    limit_seconds = straggler_seconds(settings, seconds, median_bytes, job.input_bytes(task))
    stuck_seconds = straggler_seconds(settings, seconds, 1, 1)
    stuck = 0 < attempt.share < 1 and attempt.stalled_seconds > stuck_seconds
    return stuck or decisions.now - attempt.started_at > limit_seconds


def _may_have_backup(decisions: Decisions, task: Task) -> bool:
    """Whether a task has no backup yet, or one whose message no worker acted on."""
    if not task.record.speculative:
        return True
    return decisions.state.ready == 0 and decisions.now - task.backup_at > backup_patience_seconds(
        decisions.state.settings
    )


def _take_slot_elsewhere(task: Task, free: dict[WorkerId, int]) -> bool:
    """Take a free slot of a worker that does not run the task yet. Returns whether there is one."""
    runs_on = {attempt.worker for attempt in task.running.values()}
    for worker, slots in free.items():
        if slots > 0 and worker not in runs_on:
            free[worker] = slots - 1
            return True
    return False


def _publish_backup(decisions: Decisions, job: ActiveJob, task: Task, cause: str) -> None:
    task.backup_at = decisions.now
    decisions.speculate(job, task, cause)
    decisions.change(job, task, cause, speculative=True)
    decisions.publish(job, task, cause)
