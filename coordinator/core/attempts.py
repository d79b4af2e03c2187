"""What an attempt's end means for its task and job: committed, failed, lost; and how jobs end. Pure."""

from dataclasses import dataclass, field

import msgspec

from mr.coordinator.core.commands import FinishOutput
from mr.coordinator.core.decisions import Decisions
from mr.coordinator.core.membership import Cluster
from mr.coordinator.core.policy import retry_delay_seconds
from mr.coordinator.core.reachability import Reachability
from mr.coordinator.core.state import OPEN_STATES, ActiveJob, Level, Task
from mr.coordinator.core.transitions import JobCause, TaskCause
from mr.errors import BadMessage
from mr.formats.output.part_names import final_part
from mr.protocol.failures import Failure, FailureKind, Fault, Loss
from mr.protocol.ids import Incarnation, JobId, TaskId, TaskKind, WorkerId, task_index
from mr.protocol.jobs import JobSpec
from mr.protocol.messages import PauseWorker, StopAttempt, TaskFailed
from mr.protocol.queues import MAX_JOB_PRIORITY
from mr.protocol.records import (
    MAX_FAILED_KEPT,
    JobState,
    Manifest,
    ManifestPart,
    MapOutput,
    Outcome,
    PartOutput,
    TaskResult,
    TaskState,
)
from mr.settings import Settings

MANIFEST_VERSION = 1


@dataclass(slots=True)
class SchedulerState:
    """Everything a decision may look at."""

    settings: Settings
    seed: int
    cluster: Cluster
    reachability: Reachability
    jobs: dict[JobId, ActiveJob] = field(default_factory=dict)
    #: Messages nobody has been handed, as last seen.
    ready: int = 0
    #: Most tasks of one priority level and above that were ever allowed to be out.
    peak_window: int = 0
    accepted: int = 0
    #: One for each job priority.
    levels: tuple[Level, ...] = field(
        default_factory=lambda: tuple(Level() for _ in range(MAX_JOB_PRIORITY + 1))
    )


def set_record(task: Task, **changes: object) -> None:
    """Change fields of a task's record."""
    task.record = msgspec.structs.replace(task.record, **changes)


def publish_task(turn: Decisions, job: ActiveJob, task: Task, *, priority: int | None = None) -> None:
    """Publish a message for a task that waits, or one more for a task that is queued."""
    cause = TaskCause.REPUBLISHED if task.state is TaskState.QUEUED else TaskCause.PUBLISHED
    task.queued_at = turn.now
    set_record(task, queued_at=turn.wall)
    job.move(task, cause)
    turn.touch(job, task)
    turn.publish(job, task, priority=priority)


def delay(core: SchedulerState, job: ActiveJob, task: Task, tries: int) -> float:
    """Seconds before a task is tried again."""
    return retry_delay_seconds(core.settings, core.seed, job.job_id, task.task_id, tries)


# --- committed


def record_outcome(
    core: SchedulerState, turn: Decisions, job: ActiveJob, task: Task, outcome: Outcome
) -> None:
    """Take in what the store says of a task, if it says that an attempt committed. Raises BadMessage."""
    claim, result = outcome.claim, outcome.result
    if not claim.winner or result is None:
        return
    check_result(job.spec, task.kind, task.task_id, claim.winner, result)
    commit_task(core, turn, job, task, result)


def check_result(spec: JobSpec, kind: TaskKind, task_id: TaskId, winner: int, result: TaskResult) -> None:
    """Raise BadMessage for a stored result that is not of this task's winner, or of the wrong kind."""
    output = result.output
    expected = PartOutput if kind is spec.output_kind else MapOutput
    if type(output) is not expected or (output.task_id, output.attempt) != (task_id, winner):
        raise BadMessage(
            f"the store's result of {task_id}, attempt {winner}, is a {type(output).__name__} of "
            f"{output.task_id!r}, attempt {output.attempt}"
        )


def commit_task(
    core: SchedulerState, turn: Decisions, job: ActiveJob, task: Task, result: TaskResult
) -> None:
    """Take in that an attempt's output is recorded. Nothing when it is known, or was declared lost since.

    One that was declared lost stays recorded where another worker had adopted it by then.
    """
    output = result.output
    attempt, worker = output.attempt, output.worker
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
        core.cluster.hear_from(worker, incarnation, turn.now)
    elif job.spec.reduces > 0:
        core.reachability.note_success(worker)
    job.totals.replace(task.record.stats, result.stats)
    task.result = result
    task.committed_at = turn.now
    set_record(
        task,
        attempt=max(task.record.attempt, attempt),
        worker=worker,
        started_at=task.record.started_at or turn.wall - result.stats.wall_seconds,
        ended_at=turn.wall,
        stats=result.stats,
    )
    job.move(task, TaskCause.COMMITTED)
    turn.touch(job, task)
    turn.emit_task_event(job, task, str(TaskState.COMMITTED), attempt, worker)
    if stop:
        turn.control(StopAttempt(job.job_id, task.task_id, attempt))
    advance(turn, job)


def was_adopted(task: Task, output: MapOutput | PartOutput) -> bool:
    """Whether this is an output that we took for lost, in a place of which we had not heard."""
    return (
        isinstance(output, MapOutput)
        and output.placement not in task.left_places
        and any(output.attempt == place.attempt for place in task.left_places)
    )


def replace_result(turn: Decisions, job: ActiveJob, task: Task, result: TaskResult) -> None:
    """Let another output count for a task: the store had forgotten the one before, and recorded this."""
    job.totals.replace(task.record.stats, result.stats)
    attempt = max(task.record.attempt, result.output.attempt)
    set_record(task, attempt=attempt, stats=result.stats)
    job.move_output(task, result)
    turn.touch(job, task)


def advance(turn: Decisions, job: ActiveJob) -> None:
    """Take the step to REDUCING, or have the output finished, when all that it takes is committed."""
    maps_done = job.maps_done and job.spec.reduces > 0
    if job.record.state is JobState.MAPPING and maps_done:
        job.step(JobCause.MAPS_COMMITTED, turn.wall)
        turn.touch(job)
        turn.emit_job_event(job)
    if job.output_done and not job.finishing and turn.now >= job.finish_due_at:
        job.finishing = True
        turn.finish(_finish(job, turn.wall))


def _finish(job: ActiveJob, now: float) -> FinishOutput:
    spec = job.spec
    results = (task.result for task in job.tasks.values())
    parts = tuple(r.output for r in results if r is not None and isinstance(r.output, PartOutput))
    manifest = _manifest(job, parts, now)
    return FinishOutput(job.job_id, spec.output, spec.output_format, parts, manifest)


def _manifest(job: ActiveJob, parts: tuple[PartOutput, ...], now: float) -> Manifest:
    spec = job.spec
    listed = (
        ManifestPart(
            part.task_id,
            part.attempt,
            final_part(spec.output, task_index(part.task_id), spec.output_format),
            part.rows,
            part.bytes,
            part.checksum,
        )
        for part in parts
    )
    return Manifest(
        version=MANIFEST_VERSION,
        job_id=job.job_id,
        name=job.spec.name,
        completed_at=now,
        rows=sum(part.rows for part in parts),
        bytes=sum(part.bytes for part in parts),
        parts=tuple(listed),
        counters=job.totals.counters,
    )


# --- failed


def fail_attempt(
    core: SchedulerState, turn: Decisions, job: ActiveJob, task: Task, report: TaskFailed
) -> None:
    """Take in that an attempt ended without output: retry, or give the job up.

    Nothing when the attempt's end is known already, or its task has its output.
    """
    attempt, failure = report.attempt, report.failure
    if task.state not in OPEN_STATES or attempt in task.failed or attempt <= task.fenced_attempt:
        return
    task.failed.add(attempt)
    task.running.pop(attempt, None)
    task.leases.pop(attempt, None)
    counted_as_lost = attempt in task.lost
    task.lost.discard(attempt)
    rule = failure.rule
    # Thousands of map outputs may be lost to each of many reduces: they are acted on below, and not kept.
    kept = msgspec.structs.replace(failure, lost=())
    set_record(
        task,
        attempt=max(task.record.attempt, attempt),
        failures=task.record.failures + rule.counts,
        failed=(*task.record.failed, attempt)[-MAX_FAILED_KEPT:],
        losses=task.record.losses + (not rule.counts and not counted_as_lost),
        failure=kept,
    )
    job.add_failure(task, kept)
    turn.touch(job, task)
    turn.emit_task_event(job, task, str(TaskState.FAILED), attempt, report.worker, failure.message)
    if rule.fault is Fault.WORKER or failure.kind is FailureKind.KILLED:
        _blame(core, turn, job, report.worker)
    if _is_final(core, job, task, failure):
        give_up(core, turn, job, task, failure)
        return
    reopened = reopen_lost_inputs(core, turn, job, report)
    if failure.kind is FailureKind.INPUT_LOST and not failure.lost and job.maps_done:
        job.doubtful = True
        turn.inspect(job)
    if task.running:
        job.move(task, TaskCause.BACKUP_FAILED)
        return
    tries = task.record.failures if rule.counts else task.record.losses
    task.due_at = turn.now if reopened else turn.now + delay(core, job, task, tries)
    job.move(task, TaskCause.ATTEMPT_FAILED)


def _is_final(core: SchedulerState, job: ActiveJob, task: Task, failure: Failure) -> bool:
    """Whether a failure ends the job; once the output is complete none does."""
    return _used_up(core, job, task) or (not failure.rule.retry and not job.output_done)


def _used_up(core: SchedulerState, job: ActiveJob, task: Task) -> bool:
    """Whether a task may not be tried again; once the output is complete nothing fails the job any more."""
    return not job.output_done and (
        task.record.failures >= job.spec.max_attempts
        or task.record.losses > core.settings.max_uncounted_attempts
    )


def _blame(core: SchedulerState, turn: Decisions, job: ActiveJob, worker: WorkerId) -> None:
    """Hold a failure against a worker, and pause one that fails tasks of many jobs.

    An exception in user code says nothing about the worker; a killed process may.
    """
    if core.cluster.blame(worker, job.job_id, turn.now):
        seconds = core.settings.exclude_seconds
        reason = f"tasks of {core.settings.exclude_jobs} jobs failed here within {seconds:g} s"
        turn.control(PauseWorker(worker, seconds, reason))


def give_up(core: SchedulerState, turn: Decisions, job: ActiveJob, task: Task, failure: Failure) -> None:
    """Fail a task for good, and its job with it, naming the first cause of its kind."""
    set_record(task, ended_at=turn.wall)
    job.move(task, TaskCause.GAVE_UP)
    group = job.groups.get(failure.signature)
    first = group.failure if group is not None else failure
    end_job(core, turn, job, JobCause.TASK_GAVE_UP, f"{task.task_id}: {first.message}")


# --- lost


def lose_attempts(core: SchedulerState, turn: Decisions, job: ActiveJob, task: Task, due_at: float) -> None:
    """Take in that whoever ran a task is gone: it runs again from `due_at`, uncounted."""
    set_record(task, losses=task.record.losses + 1, worker=WorkerId(""), started_at=0.0)
    turn.touch(job, task)
    if _used_up(core, job, task):
        message = f"{task.record.losses} attempts were lost with their workers"
        failure = Failure(FailureKind.INFRASTRUCTURE, message)
        set_record(task, failure=failure)
        job.add_failure(task, failure)
        give_up(core, turn, job, task, failure)
        return
    task.due_at = due_at
    job.move(task, TaskCause.ATTEMPT_LOST)


def reopen_lost_inputs(core: SchedulerState, turn: Decisions, job: ActiveJob, report: TaskFailed) -> bool:
    """Run those maps again whose recorded output is lost to a reduce. Returns whether there were any.

    Attempt 0 says that the store had no output of the map at all, whatever we recorded. An output that was
    relocated since is not lost, and one that may yet be is waited for. Of one that could not be reached,
    it is judged whose fault that is.
    """
    unreached: dict[WorkerId, Incarnation] = {}
    suspected: list[tuple[Task, MapOutput]] = []
    refused: set[WorkerId] = set()
    reopened = False
    for lost in report.failure.lost:
        task = job.tasks.get(lost.task_id)
        output = None if task is None or task.result is None else task.result.output
        if task is None or not isinstance(output, MapOutput) or lost.attempt not in (0, output.attempt):
            continue
        moved = lost.incarnation not in ("", output.incarnation)
        if moved or core.cluster.may_return(output.incarnation, turn.now):
            continue
        if lost.found is Loss.UNREACHABLE:
            unreached[output.worker] = output.incarnation
            suspected.append((task, output))
        else:
            refused.add(output.worker)
            reopened |= reopen_output(turn, job, task)
    judgement = core.reachability.judge(report.worker, unreached, turn.now)
    for task, output in suspected:
        if output.worker in judgement.lost:
            reopened |= reopen_output(turn, job, task)
    for pause in judgement.pauses:
        turn.control(pause)
    for worker in sorted(refused):
        _blame(core, turn, job, worker)
    return reopened


def reopen_output(turn: Decisions, job: ActiveJob, task: Task) -> bool:
    """Declare a committed map's output lost and run the map again. Returns whether it is needed at all."""
    output = None if task.result is None else task.result.output
    if not isinstance(output, MapOutput) or not job.needs_map_outputs:
        return False
    job.step(JobCause.MAP_OUTPUT_LOST, turn.wall)
    turn.reopen(job, task, output.placement)
    job.unfile_output(task)
    task.result = None
    task.fenced_attempt = max(task.fenced_attempt, task.record.attempt)
    task.due_at = turn.now
    task.leases.clear()
    task.lost.clear()
    #: Its statistics stay until another attempt replaces them: the output counts once, and counts always.
    set_record(
        task,
        losses=task.record.losses + 1,
        worker=WorkerId(""),
        started_at=0.0,
        ended_at=0.0,
        speculative=False,
    )
    job.move(task, TaskCause.OUTPUT_LOST)
    turn.touch(job, task)
    return True


# --- the end of a job


def end_job(core: SchedulerState, turn: Decisions, job: ActiveJob, cause: JobCause, detail: str = "") -> None:
    """Close a job: what has not ended is cancelled, the workers are told, the scheduler forgets it."""
    job.step(cause, turn.wall, detail)
    for task in job.tasks.values():
        if task.state in OPEN_STATES:
            set_record(task, ended_at=turn.wall)
            job.move(task, TaskCause.JOB_ENDED)
            turn.touch(job, task)
    job.record = msgspec.structs.replace(job.record, waiting_for="")
    turn.end(job)
    turn.emit_job_event(job)
    del core.jobs[job.job_id]
