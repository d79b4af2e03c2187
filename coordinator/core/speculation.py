"""Backup attempts for stragglers. Pure."""

from mr.coordinator.core.decisions import Decisions
from mr.coordinator.core.isolation import isolated
from mr.coordinator.core.policy import backup_patience_seconds, most_finished, straggler_seconds
from mr.coordinator.core.state import ActiveJob, RunningAttempt, Task
from mr.protocol.ids import TaskKind, WorkerId, task_id
from mr.protocol.records import TaskState


def start_backups(decisions: Decisions) -> None:
    """Give each straggler one backup while more slots are free than messages wait."""
    free = decisions.state.membership.free_slots()
    budget = sum(free.values()) - decisions.state.ready
    for job in list(decisions.state.jobs.values()):
        if budget <= 0:
            return
        with isolated(decisions, job):
            for task in _stragglers(decisions, job):
                if budget > 0 and _take_slot_elsewhere(task, free):
                    _publish_backup(decisions, job, task)
                    budget -= 1


def _stragglers(decisions: Decisions, job: ActiveJob) -> list[Task]:
    """The running tasks of a job that are due for a backup, or for another message of theirs."""
    found: list[Task] = []
    for kind in TaskKind:
        total = len(job.splits) if kind is TaskKind.MAP else job.spec.reduces
        finished = job.count(kind, TaskState.COMMITTED)
        median = job.median(kind)
        if job.output_done or median is None or not most_finished(decisions.state.settings, finished, total):
            continue
        median_seconds, median_index = median
        median_bytes = job.input_bytes(job.tasks[task_id(kind, median_index)])
        running = [job.tasks[name] for name in job.outstanding if job.tasks[name].kind is kind]
        for task in running:
            if len(task.running) != 1 or not _may_have_backup(decisions, task):
                continue
            (attempt,) = task.running.values()
            limit = straggler_seconds(
                decisions.state.settings, median_seconds, median_bytes, job.input_bytes(task)
            )
            stuck = straggler_seconds(decisions.state.settings, median_seconds, 1, 1)
            if decisions.now - attempt.started_at > limit or _is_stalled(attempt, stuck):
                found.append(task)
    return found


def _is_stalled(attempt: RunningAttempt, limit_seconds: float) -> bool:
    """Whether an attempt makes no progress within its input."""
    _, share, _ = attempt.progress
    return 0 < share < 1 and attempt.stalled_seconds > limit_seconds


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


def _publish_backup(decisions: Decisions, job: ActiveJob, task: Task) -> None:
    task.backup_at = decisions.now
    cause = "the attempt is a straggler"
    decisions.change(job, task, cause, speculative=True)
    decisions.speculate(job, task, cause)
    decisions.publish(job, task, cause)
