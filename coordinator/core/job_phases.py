"""How a job proceeds to its reduces, to its output and to its end. Pure."""

from mr.coordinator.core.commands import FinishOutput
from mr.coordinator.core.decisions import Decisions
from mr.coordinator.core.policy import retry_delay_seconds
from mr.coordinator.core.state import OPEN_STATES, ActiveJob
from mr.coordinator.core.transitions import JobCause, TaskCause
from mr.protocol.failures import Failure
from mr.protocol.ids import TaskId, TaskKind, task_index
from mr.protocol.part_names import final_part
from mr.protocol.records import JobState, Manifest, ManifestPart, PartOutput, TaskState

MANIFEST_VERSION = 1


def advance(decisions: Decisions, job: ActiveJob) -> None:
    """Start the reduces when all maps are committed, and finish the output when all parts are."""
    maps_done = job.maps_done and job.spec.reduces > 0
    if job.record.state is JobState.MAPPING and maps_done:
        decisions.step(job, JobCause.MAPS_COMMITTED)
    if job.output_done and not job.finishing and decisions.now >= job.finish_due_at:
        job.finishing = True
        decisions.finish(_finish(job, decisions.time_of_day))


def _finish(job: ActiveJob, now: float) -> FinishOutput:
    spec = job.spec
    results = (task.result for task in job.tasks.values())
    parts = tuple(r.output for r in results if r is not None and isinstance(r.output, PartOutput))
    manifest = _manifest(job, parts, now)
    cause = "all parts are committed"
    return FinishOutput(job.job_id, spec.output, spec.options.output_format, parts, manifest, cause=cause)


def _manifest(job: ActiveJob, parts: tuple[PartOutput, ...], now: float) -> Manifest:
    spec = job.spec
    listed = (
        ManifestPart(
            part.attempt.task,
            part.attempt.number,
            final_part(spec.output, task_index(part.attempt.task), spec.options.output_format),
            part.rows,
            part.bytes,
            part.checksum,
        )
        for part in parts
    )
    return Manifest(
        version=MANIFEST_VERSION,
        job_id=job.job_id,
        name=job.spec.options.name,
        completed_at=now,
        rows=sum(part.rows for part in parts),
        bytes=sum(part.bytes for part in parts),
        parts=tuple(listed),
        counters=job.totals.counters,
    )


def retry_output(decisions: Decisions, job: ActiveJob, failure: Failure) -> None:
    """Finish the output again later if the failure's rule and `max_attempts` allow it; else fail the job."""
    job.finishing = False
    job.finish_tries += 1
    if not failure.rule.retry or job.finish_tries >= job.spec.options.max_attempts:
        end_job(decisions, job, JobCause.OUTPUT_FAILED, failure.message)
        return
    state, name = decisions.state, TaskId("output")
    seconds = retry_delay_seconds(state.settings, state.seed, job.job_id, name, job.finish_tries)
    job.finish_due_at = decisions.now + seconds


def note_waiting(decisions: Decisions, job: ActiveJob) -> None:
    """Record what a job waits for, if it cannot proceed."""
    membership = decisions.state.membership
    running = any(job.count(kind, TaskState.RUNNING) for kind in TaskKind)
    waiting_for = ""
    if job.output_done or not membership.observed:
        waiting_for = ""
    elif membership.slots == 0:
        # Workers that are just starting have a lease's time to be heard of.
        silent_seconds = decisions.now - job.known_at
        long = silent_seconds >= decisions.state.settings.lease_seconds
        waiting_for = "no live workers" if long else ""
    elif membership.open_slots == 0 and not running:
        limits = membership.limits()
        waiting_for = "workers take no tasks" + (f" ({limits})" if limits else "")
    elif job.record.state is JobState.REDUCING and not job.maps_done:
        waiting_for = "lost map outputs are made again"
    decisions.note_waiting(job, waiting_for)


def end_job(decisions: Decisions, job: ActiveJob, cause: JobCause, detail: str = "") -> None:
    """End a job: cancel its open tasks, have it closed in the store and by the workers, forget it."""
    decisions.step(job, cause, detail)
    for task in job.tasks.values():
        if task.state in OPEN_STATES:
            decisions.move(job, task, TaskCause.JOB_ENDED, ended_at=decisions.time_of_day)
    decisions.close(job, cause)
