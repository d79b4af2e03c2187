"""How a job proceeds to its reduces, to its output and to its end. Pure."""

from mr.coordinator.core.commands import FinishOutput
from mr.coordinator.core.decisions import Decisions
from mr.coordinator.core.policy import retry_delay_seconds
from mr.coordinator.core.state import OPEN_STATES, ActiveJob
from mr.coordinator.core.transitions import JobCause, TaskCause
from mr.protocol.bad_records import READ_OPTIONS, BadRecordLimit, BadRecordsFile
from mr.protocol.failures import Failure
from mr.protocol.ids import TaskId, TaskKind, task_id, task_index
from mr.protocol.part_names import final_bad_records, final_part
from mr.protocol.records import (
    JobState,
    Manifest,
    ManifestBadRecords,
    ManifestPart,
    PartOutput,
    TaskState,
)

MANIFEST_VERSION = 1


def advance(decisions: Decisions, job: ActiveJob) -> None:
    """Start the reduces when all maps are committed, and finish the output when all parts are.

    Ends the job if it has too many bad records.
    """
    if too_many := _too_many_bad_records(job):
        end_job(decisions, job, JobCause.TOO_MANY_BAD_RECORDS, too_many)
        return
    maps_done = job.maps_done and job.spec.reduces > 0
    if job.record.state is JobState.MAPPING and maps_done:
        decisions.step(job, JobCause.MAPS_COMMITTED)
    if job.output_done and not job.finishing and decisions.now >= job.finish_due_at:
        job.finishing = True
        decisions.finish(_finish(job, decisions.time_of_day))


def _too_many_bad_records(job: ActiveJob) -> str:
    """Why a job fails that has too many bad records; empty if it has not.

    A number is exceeded at once. A share is one of all records read: it is judged when the last map commits.
    """
    given, bad = job.spec.options.skip_bad_records, job.totals.bad_records
    if given is None or not bad or job.finishing or (job.output_done and job.spec.reduces > 0):
        return ""
    read = None
    if job.maps_done and job.record.state is JobState.MAPPING:
        maps = [task.record.stats for task in job.tasks.values() if task.kind is TaskKind.MAP]
        read = sum(stats.records_in for stats in maps) + bad
    if not BadRecordLimit.of(given).exceeded(bad, read):
        return ""
    of_all = "" if read is None else f" of {read}"
    files = (task.record.stats.bad_file for task in job.tasks.values())
    first = next((file.first for file in files if file is not None), "")
    return (
        f"{bad}{of_all} records are bad, more than --skip-bad-records {given} allows; mend the input or the "
        f"job, or allow more. The first: {first}"
    )


def _finish(job: ActiveJob, now: float) -> FinishOutput:
    spec = job.spec
    results = (task.result for task in job.tasks.values())
    parts = tuple(r.output for r in results if r is not None and isinstance(r.output, PartOutput))
    # Of the records, not of the results: a map whose output is made again has none.
    bad = {
        task_index(task.task_id): task.record.stats.bad_file
        for task in job.tasks.values()
        if task.record.stats.bad_file is not None
    }
    manifest = _manifest(job, parts, bad, now)
    cause = "all parts are committed"
    return FinishOutput(
        job.job_id, spec.output, spec.options.output_format, parts, manifest, bad_records=bad, cause=cause
    )


def _manifest(
    job: ActiveJob, parts: tuple[PartOutput, ...], bad: dict[int, BadRecordsFile], now: float
) -> Manifest:
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
    skipped = (
        ManifestBadRecords(
            task_id(TaskKind.MAP, index),
            file.attempt,
            final_bad_records(spec.output, index),
            file.records,
            file.bytes,
            file.checksum,
        )
        for index, file in sorted(bad.items())
    )
    read_as = {name: getattr(spec.options, name) for name in READ_OPTIONS} if bad else {}
    return Manifest(
        version=MANIFEST_VERSION,
        job_id=job.job_id,
        name=job.spec.options.name,
        completed_at=now,
        rows=sum(part.rows for part in parts),
        bytes=sum(part.bytes for part in parts),
        parts=tuple(listed),
        counters=job.totals.counters,
        bad_records=tuple(skipped),
        read_as=read_as,
    )


def retry_output(decisions: Decisions, job: ActiveJob, failure: Failure) -> None:
    """Finish the output again later if the failure's rule allows it; else fail the job.

    A disk that is away for a while fails no job: such tries are limited by `max_uncounted_attempts` alone.
    """
    state, name = decisions.state, TaskId("output")
    job.finishing = False
    job.finish_tries += 1
    uncounted = state.settings.max_uncounted_attempts
    limit = job.spec.options.max_attempts if failure.rule.counts else uncounted
    if not failure.rule.retry or job.finish_tries >= limit:
        end_job(decisions, job, JobCause.OUTPUT_FAILED, failure.message, keep=True)
        return
    job.finish_failure = failure.message
    seconds = retry_delay_seconds(state.settings, state.seed, job.job_id, name, job.finish_tries)
    job.finish_due_at = decisions.now + seconds


def note_waiting(decisions: Decisions, job: ActiveJob) -> None:
    """Record what a job waits for, if it cannot proceed."""
    membership = decisions.state.membership
    running = any(job.count(kind, TaskState.RUNNING) for kind in TaskKind)
    waiting_for = ""
    if job.output_done or not membership.observed:
        waiting_for = job.finish_failure
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


def end_job(
    decisions: Decisions, job: ActiveJob, cause: JobCause, detail: str = "", *, keep: bool = False
) -> None:
    """End a job: cancel its open tasks, have it closed in the store and by the workers, forget it.

    `keep`: what has committed is kept for a resume, if the settings allow that.
    """
    decisions.step(job, cause, detail)
    decisions.note_kept(job, keep and decisions.state.settings.resume_seconds > 0)
    for task in job.tasks.values():
        if task.state in OPEN_STATES:
            decisions.move(job, task, TaskCause.JOB_ENDED, ended_at=decisions.time_of_day)
    decisions.close(job, cause)
