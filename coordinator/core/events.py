"""What can happen to the coordinator: the inputs of `Scheduler.handle`. Pure.

Every event carries `now`: seconds by a clock of the coordinator that never goes back and is unrelated to the
time of day.
"""

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from mr.protocol.claims import Claim
from mr.protocol.failures import Failure
from mr.protocol.ids import Incarnation, JobId, TaskId
from mr.protocol.jobs import JobSpec, Split
from mr.protocol.messages import Report
from mr.protocol.records import JobRecord, Outcome, RestoredJob, TaskResult, WorkerView


class JobAccepted(msgspec.Struct, frozen=True):
    """A job was accepted and is in the store (`create_job` was True). Ignored if the job is active."""

    now: float
    spec: JobSpec
    #: One per map task, by index.
    splits: tuple[Split, ...]


class JobRestored(msgspec.Struct, frozen=True):
    """A coordinator that took over or resumed a job has read it. Ignored if the job is active."""

    now: float
    job: RestoredJob
    #: Whether its `_SUCCESS` exists: then it has completed, and only its end is not recorded.
    finished: bool = False
    #: Whether it was opened again just now, after it had ended.
    resumed: bool = False


class ReportReceived(msgspec.Struct, frozen=True):
    """A message of `mr.reports`, to be acknowledged after its commands are carried out.

    A report is only a hint. What counts is what the store says, read after the report came; so reports that
    are repeated, late, of unknown tasks or wrong change nothing.
    """

    now: float
    report: Report
    #: What the store says of the task that TaskCommitted or TaskFailed names.
    outcome: Outcome = Outcome()
    #: Whether the store still has a heartbeat of the incarnation that WorkerStopped names.
    beats: bool = False


class QueueObserved(msgspec.Struct, frozen=True):
    """The number of messages that wait in `mr.tasks`. Sent once a tick, before WorkersObserved.

    Not sent while the broker cannot be reached.
    """

    now: float
    ready: int


class WorkersObserved(msgspec.Struct, frozen=True):
    """All workers that the store knows. Sent once a tick; drives retries, losses and backups.

    Not sent while the store cannot be reached, since that says nothing about the workers.
    """

    now: float
    views: tuple[WorkerView, ...]


class ClaimsObserved(msgspec.Struct, frozen=True):
    """The answer to the command InspectClaims."""

    now: float
    job_id: JobId
    claims: Mapping[TaskId, Claim]
    #: Of the tasks named by the command whose claim has a winner; others may be among them.
    results: Mapping[TaskId, TaskResult]
    #: Whether the results of all committed maps are included, as the command asked.
    outputs: bool = False
    #: As in the command.
    asked_at: float = 0.0


class JobWrittenBack(msgspec.Struct, frozen=True):
    """What the store says of a job after it had lost data and `rewrite` gave that back.

    No other event was handled between the rewrite and this one.
    """

    now: float
    job_id: JobId
    claims: Mapping[TaskId, Claim]
    #: Of all tasks whose claim has a winner.
    results: Mapping[TaskId, TaskResult]


class ProbeOutcome(StrEnum):
    """What a probe proved about a worker's process."""

    #: Its connection to the broker is open, and its port answers.
    REACHED = "reached"
    #: The process has ended: its connection to the broker is closed, and its port refuses or is reused.
    GONE = "gone"


class WorkerProbed(msgspec.Struct, frozen=True):
    """The answer to the command ProbeWorker. Ignored if a later heartbeat is known."""

    now: float
    incarnation: Incarnation
    #: As in the command.
    number: int
    outcome: ProbeOutcome


class CancelRequested(msgspec.Struct, frozen=True):
    """A client wants a job stopped. Ignored if the job is unknown or its output is being finished."""

    now: float
    job_id: JobId
    #: One line for the record.
    cause: str
    #: Whether what has committed is kept for a resume.
    keep: bool = False


class JobBroken(msgspec.Struct, frozen=True):
    """A job cannot be handled: its records in the store cannot be read, or the engine failed over it."""

    now: float
    job_id: JobId
    #: One line for the record.
    cause: str
    #: What is known of a job that could not be taken over; None for one that the scheduler has.
    record: JobRecord | None = None


class OutputFinished(msgspec.Struct, frozen=True):
    """The command FinishOutput was carried out: `_SUCCESS` exists."""

    now: float
    job_id: JobId


class OutputFailed(msgspec.Struct, frozen=True):
    """FinishOutput failed, and `_SUCCESS` does not exist. The failure's rule says whether it is retried."""

    now: float
    job_id: JobId
    failure: Failure


Event = (
    JobAccepted
    | JobRestored
    | ReportReceived
    | QueueObserved
    | WorkersObserved
    | ClaimsObserved
    | JobWrittenBack
    | WorkerProbed
    | CancelRequested
    | JobBroken
    | OutputFinished
    | OutputFailed
)
