"""The first and the last record of a job. Pure."""

import msgspec

from mr.coordinator.core.transitions import JobCause
from mr.protocol.ids import JobId
from mr.protocol.jobs import JobSpec
from mr.protocol.records import JobRecord, JobState, Transition


def submitted_record(spec: JobSpec) -> JobRecord:
    """Make the first record of a job, to be written by `StateStore.create_job`."""
    return JobRecord(
        job_id=spec.job_id,
        name=spec.options.name,
        state=JobState.SUBMITTED,
        output=spec.output,
        priority=spec.options.priority,
        maps=spec.maps,
        reduces=spec.reduces,
        history=(Transition(JobState.SUBMITTED, spec.submitted_at, "submitted"),),
        request=spec.request,
    )


def unreadable_record(job_id: JobId, at: float) -> JobRecord:
    """Make a record for a job of which the store can say no more than its id."""
    return JobRecord(
        job_id=job_id,
        name="",
        state=JobState.SUBMITTED,
        output="",
        priority=0,
        maps=0,
        reduces=0,
        history=(Transition(JobState.SUBMITTED, at, "submitted at an unknown time"),),
    )


def failed_record(record: JobRecord, cause: str, at: float) -> JobRecord:
    """Make the last record of a job that cannot be handled, from its record until then."""
    history = (*record.history, Transition(JobState.FAILED, at, f"{JobCause.BROKEN}: {cause}"))
    return msgspec.structs.replace(
        record, state=JobState.FAILED, history=history, cause=cause, waiting_for="", tasks_running=0
    )


def bare_record(record: JobRecord) -> JobRecord:
    """Reduce a final record that cannot be stored to the plain facts, in ASCII."""
    last = record.history[-1]
    cause = ascii(record.cause[:1000]).strip("'")
    return JobRecord(
        job_id=record.job_id,
        name=ascii(record.name[:200]).strip("'"),
        state=record.state,
        output=ascii(record.output).strip("'"),
        priority=record.priority,
        maps=record.maps,
        reduces=record.reduces,
        history=(Transition(record.state, last.at, cause),),
        cause=cause,
    )
