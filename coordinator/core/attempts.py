"""What an attempt's end means for its task and job: committed, failed or lost. Pure."""

from collections.abc import Iterable

import msgspec

from mr.coordinator.core.decisions import Decisions
from mr.coordinator.core.job_phases import advance, end_job
from mr.coordinator.core.policy import retry_delay_seconds
from mr.coordinator.core.state import OPEN_STATES, ActiveJob, Task
from mr.coordinator.core.transitions import JobCause, TaskCause
from mr.errors import BadMessage
from mr.protocol.bounds import clamped
from mr.protocol.failures import Failure, FailureKind, Fault, Loss
from mr.protocol.ids import Incarnation, TaskId, WorkerId, task_kind
from mr.protocol.jobs import JobSpec
from mr.protocol.messages import PauseWorker, StopAttempt, TaskFailed
from mr.protocol.records import (
    MAX_FAILED_KEPT,
    IncidentKind,
    MapOutput,
    Outcome,
    PartOutput,
    TaskResult,
    TaskState,
)


def publish_task(
    decisions: Decisions, job: ActiveJob, task: Task, cause: str, *, priority: int | None = None
) -> None:
    """Publish a message for a task that waits, or one more for a task that is queued."""
    again = task.state is TaskState.QUEUED
    task.queued_at = decisions.now
    decisions.move(
        job,
        task,
        TaskCause.REPUBLISHED if again else TaskCause.PUBLISHED,
        queued_at=decisions.time_of_day,
    )
    decisions.publish(job, task, cause, priority=priority)


# --- committed


def record_outcome(decisions: Decisions, job: ActiveJob, task: Task, outcome: Outcome) -> None:
    """Commit a task if the store says that an attempt has committed. Raises BadMessage."""
    claim, result = outcome.claim, outcome.result
    if not claim.winner or result is None:
        return
    check_result(job.spec, task.task_id, claim.winner, result)
    commit_task(decisions, job, task, result)


def check_result(spec: JobSpec, task_id: TaskId, winner: int, result: TaskResult) -> None:
    """Raise BadMessage for a result that is not of this task's winner, or of the wrong kind."""
    output = result.output
    expected = PartOutput if task_kind(task_id) is spec.output_kind else MapOutput
    if type(output) is not expected or output.attempt != (spec.job_id, task_id, winner):
        raise BadMessage(
            f"the store's result of {task_id}, attempt {winner}, is a {type(output).__name__} of "
            f"{output.attempt.task!r}, attempt {output.attempt.number}"
        )


def commit_task(decisions: Decisions, job: ActiveJob, task: Task, result: TaskResult) -> None:
    """Take in that an attempt has committed. Ignored if that is known, or the output was declared lost since.

    An output that was declared lost counts again if another worker had adopted it by then.
    """
    output = result.output
    attempt, worker = output.attempt.number, output.worker
    if task.state not in OPEN_STATES:
        return
    if attempt <= task.fenced_attempt:
        if not was_adopted(task, output):
            return
        task.fenced_attempt = attempt - 1
    others = [number for number in task.running if number != attempt]
    stop = bool(others) or task.record.speculative
    incarnation = output.incarnation if isinstance(output, MapOutput) else None
    if incarnation is not None:
        decisions.state.membership.hear_from(worker, incarnation, decisions.now)
    elif job.spec.reduces > 0:
        decisions.state.complaints.note_success(worker)
    job.totals.replace(task.record.stats, result.stats)
    task.result = result
    task.committed_at = decisions.now
    decisions.move(
        job,
        task,
        TaskCause.COMMITTED,
        attempt=max(task.record.attempt, attempt),
        worker=worker,
        started_at=task.record.started_at or decisions.time_of_day - result.stats.wall_seconds,
        ended_at=decisions.time_of_day,
        stats=result.stats,
    )
    decisions.emit_task_event(job, task, str(TaskState.COMMITTED), attempt, worker)
    if stop:
        decisions.control(StopAttempt(output.attempt), "another attempt has committed")
    advance(decisions, job)


def was_adopted(task: Task, output: MapOutput | PartOutput) -> bool:
    """Whether this output was declared lost, but lies in a place not known until now."""
    return (
        isinstance(output, MapOutput)
        and output.placement not in task.left_places
        and any(output.attempt.number == place.attempt for place in task.left_places)
    )


def replace_result(decisions: Decisions, job: ActiveJob, task: Task, result: TaskResult) -> None:
    """Replace a committed task's output: the store had forgotten it and recorded another."""
    job.totals.replace(task.record.stats, result.stats)
    job.move_output(task, result)
    decisions.change(
        job,
        task,
        "the store has another output",
        attempt=max(task.record.attempt, result.output.attempt.number),
        stats=result.stats,
        worker=result.output.worker if isinstance(result.output, MapOutput) else task.record.worker,
    )


# --- failed


def fail_attempt(decisions: Decisions, job: ActiveJob, task: Task, report: TaskFailed) -> None:
    """Take in that an attempt has failed: retry, or fail the job.

    Ignored if the end of the attempt is known already, or its task has committed.
    """
    attempt, failure = report.attempt.number, report.failure
    if task.state not in OPEN_STATES or attempt in task.failed or attempt <= task.fenced_attempt:
        return
    task.failed.add(attempt)
    task.running.pop(attempt, None)
    task.leases.pop(attempt, None)
    counted_as_lost = attempt in task.lost
    task.lost.discard(attempt)
    rule = failure.rule
    # Each of many reduces may report thousands of lost map outputs, so the list is not kept in the record.
    kept = msgspec.structs.replace(failure, lost=())
    decisions.change(
        job,
        task,
        "attempt failed",
        attempt=max(task.record.attempt, attempt),
        failures=clamped(task.record.failures + rule.counts),
        failed=(*task.record.failed, attempt)[-MAX_FAILED_KEPT:],
        losses=clamped(task.record.losses + (not rule.counts and not counted_as_lost)),
        failure=kept,
    )
    decisions.add_failure(job, task, kept)
    decisions.emit_task_event(job, task, str(TaskState.FAILED), attempt, report.worker, failure)
    if rule.fault is Fault.WORKER or rule.ends_process:
        _blame(decisions, job, report.worker)
    if _is_final(decisions, job, task, failure):
        give_up(decisions, job, task, failure)
    else:
        _retry(decisions, job, task, report)


def _retry(decisions: Decisions, job: ActiveJob, task: Task, report: TaskFailed) -> None:
    """Let a task run again after a delay; without one if it has to wait for lost map outputs anyway."""
    failure = report.failure
    reopened = reopen_lost_inputs(decisions, job, report)
    if failure.kind is FailureKind.INPUT_LOST and not failure.lost and job.maps_done:
        job.doubtful = True
        decisions.inspect(job, "a reduce found fewer map outputs than are committed")
    if task.running:
        decisions.move(job, task, TaskCause.BACKUP_FAILED)
        return
    task.due_at = decisions.now
    if not reopened:
        tries = task.record.failures if failure.rule.counts else task.record.losses
        state = decisions.state
        task.due_at += retry_delay_seconds(state.settings, state.seed, job.job_id, task.task_id, tries)
    decisions.move(job, task, TaskCause.ATTEMPT_FAILED)


def _is_final(decisions: Decisions, job: ActiveJob, task: Task, failure: Failure) -> bool:
    """Whether a failure fails the job. Once the output is complete none does."""
    return _used_up(decisions, job, task) or (not failure.rule.retry and not job.output_done)


def _used_up(decisions: Decisions, job: ActiveJob, task: Task) -> bool:
    """Whether a task may not be tried again. Once the output is complete no task fails the job."""
    return not job.output_done and (
        task.record.failures >= job.spec.options.max_attempts
        or task.record.losses > decisions.state.settings.max_uncounted_attempts
    )


def _blame(decisions: Decisions, job: ActiveJob, worker: WorkerId) -> None:
    """Hold a failure against a worker, and pause it if it failed tasks of many jobs."""
    if decisions.state.membership.blame(worker, job.job_id, decisions.now):
        seconds = decisions.state.settings.exclude_seconds
        reason = f"tasks of {decisions.state.settings.exclude_jobs} jobs failed here within {seconds:g} s"
        _pause(decisions, job, PauseWorker(worker, seconds, reason), "tasks of many jobs failed there")


def _pause(decisions: Decisions, job: ActiveJob, pause: PauseWorker, cause: str) -> None:
    """Have a worker take no tasks for a while, and record it in this job and those of which it runs tasks."""
    decisions.control(pause, cause)
    if not pause.seconds:
        return
    for other in decisions.state.jobs.values():
        if other is job or pause.worker in other.running_on().values():
            reason = f"no tasks for {pause.seconds:g} s: {pause.reason}"
            decisions.note(other, IncidentKind.WORKER_EXCLUDED, pause.worker, reason=reason)


def give_up(decisions: Decisions, job: ActiveJob, task: Task, failure: Failure) -> None:
    """Fail a task for good, and its job with the first failure of this kind."""
    decisions.move(job, task, TaskCause.GAVE_UP, ended_at=decisions.time_of_day)
    group = job.groups.get(failure.signature)
    first = group.failure if group is not None else failure
    end_job(decisions, job, JobCause.TASK_GAVE_UP, f"{task.task_id}: {first.message}", keep=True)


# --- lost


def lose_attempts(
    decisions: Decisions, job: ActiveJob, task: Task, due_at: float, ran_on: Iterable[Incarnation]
) -> None:
    """Take in that nobody runs a task any more which ran on these workers: it may run again from `due_at`."""
    for incarnation in sorted(ran_on):
        decisions.note_lost(job, incarnation, "nobody ran it any more", attempts=1)
    losses = clamped(task.record.losses + 1)
    fields = {"losses": losses, "worker": WorkerId(""), "started_at": 0.0}
    decisions.change(job, task, TaskCause.ATTEMPT_LOST, **fields)
    if _used_up(decisions, job, task):
        failure = Failure(FailureKind.INFRASTRUCTURE, f"{losses} attempts were lost with their workers")
        decisions.change(job, task, TaskCause.GAVE_UP, failure=failure)
        decisions.add_failure(job, task, failure)
        give_up(decisions, job, task, failure)
        return
    task.due_at = due_at
    decisions.move(job, task, TaskCause.ATTEMPT_LOST)


def reopen_lost_inputs(decisions: Decisions, job: ActiveJob, report: TaskFailed) -> bool:
    """Run maps again whose output a reduce reports lost. Returns whether there are any.

    Attempt 0 means that the store had no output of the map. An output that was relocated since is not lost,
    and one that may still be adopted is waited for. If a worker could not be reached, `Complaints` decides
    whose fault it is.
    """
    unreached: dict[WorkerId, Incarnation] = {}
    suspected: list[tuple[Task, MapOutput]] = []
    refused: set[WorkerId] = set()
    reopened = False
    for lost in report.failure.lost:
        task = job.tasks.get(lost.task_id)
        output = None if task is None or task.result is None else task.result.output
        if task is None or not isinstance(output, MapOutput):
            continue
        if lost.attempt not in (0, output.attempt.number):
            continue
        moved = lost.incarnation not in ("", output.incarnation)
        if moved or decisions.state.membership.may_return(output.incarnation, decisions.now):
            continue
        if lost.found is Loss.UNREACHABLE:
            unreached[output.worker] = output.incarnation
            suspected.append((task, output))
        else:
            refused.add(output.worker)
            reopened |= reopen_output(decisions, job, task, "its worker does not have the output")
    judgement = decisions.state.complaints.judge(report.worker, unreached, decisions.now)
    for task, output in suspected:
        if output.worker in judgement.lost:
            reopened |= reopen_output(decisions, job, task, "its worker cannot be reached")
    for pause in judgement.pauses:
        _pause(decisions, job, pause, "workers cannot reach each other")
    for worker in sorted(refused):
        _blame(decisions, job, worker)
    return reopened


def reopen_output(decisions: Decisions, job: ActiveJob, task: Task, cause: str) -> bool:
    """Declare a map output lost and run the map again. Returns False if no reduce needs it."""
    output = None if task.result is None else task.result.output
    if not isinstance(output, MapOutput) or not job.needs_map_outputs:
        return False
    decisions.step(job, JobCause.MAP_OUTPUT_LOST)
    decisions.reopen(job, task, output.placement, cause)
    job.unfile_output(task)
    task.result = None
    task.fenced_attempt = max(task.fenced_attempt, task.record.attempt)
    task.due_at = decisions.now
    task.leases.clear()
    task.lost.clear()
    # Its statistics stay until those of another attempt replace them, so that the map counts exactly once.
    decisions.move(
        job,
        task,
        TaskCause.OUTPUT_LOST,
        losses=clamped(task.record.losses + 1),
        worker=WorkerId(""),
        started_at=0.0,
        ended_at=0.0,
        speculative=False,
    )
    return True
