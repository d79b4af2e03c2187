"""What can happen to the coordinator: the inputs of `Scheduler.handle`. Pure.

Time is data: every event carries `now`, seconds by a clock of the coordinator that never goes back
and that says nothing about the time of day.
"""

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from mr.protocol.claims import Claim
from mr.protocol.failures import Failure
from mr.protocol.ids import Incarnation, JobId, TaskId
from mr.protocol.jobs import JobSpec, Split
from mr.protocol.messages import Report
from mr.protocol.records import Outcome, RestoredJob, TaskResult, WorkerView


class JobAccepted(msgspec.Struct, frozen=True):
    """A job was accepted and exists in the store (`create_job` was True). An active one changes nothing."""

    now: float
    spec: JobSpec
    #: One a map task, in order of index.
    splits: tuple[Split, ...]


class JobRestored(msgspec.Struct, frozen=True):
    """A coordinator that takes over read an unfinished job from the store. A known id changes nothing."""

    now: float
    job: RestoredJob
    #: Its `_SUCCESS` is there: it has completed, and only its end is not recorded.
    finished: bool = False


class ReportReceived(msgspec.Struct, frozen=True):
    """A message of `mr.reports`. Acknowledge it when the commands it led to have been carried out.

    A report is a hint: what counts is what the store says, read after the report came. Doubled, late,
    unknown and untrue reports change nothing.
    """

    now: float
    report: Report
    #: Of the task that TaskCommitted or TaskFailed names.
    outcome: Outcome = Outcome()
    #: Of the incarnation that WorkerStopped names: whether the store still has a heartbeat of it.
    beats: bool = False


class QueueObserved(msgspec.Struct, frozen=True):
    """Once a tick, before WorkersObserved: how many messages of `mr.tasks` nobody has been handed yet.

    Not sent while the broker cannot be asked.
    """

    now: float
    ready: int


class WorkersObserved(msgspec.Struct, frozen=True):
    """Once a tick: all workers the store has heard of. Drives retries, losses and stragglers.

    Not sent while the store cannot be asked: silence of the store is not death of the workers.
    """

    now: float
    views: tuple[WorkerView, ...]


class ClaimsObserved(msgspec.Struct, frozen=True):
    """The answer to the command InspectClaims."""

    now: float
    job_id: JobId
    claims: Mapping[TaskId, Claim]
    #: At least of those tasks named by the command whose claim has a winner.
    results: Mapping[TaskId, TaskResult]
    #: Whether the results of all committed maps are among them, as the command asked.
    outputs: bool = False
    #: When it was asked, as the command says.
    asked_at: float = 0.0


class JobWrittenBack(msgspec.Struct, frozen=True):
    """The store had come back older, or empty, and was raised to what is known here: what it says now.

    Nothing was decided between the writing and this.
    """

    now: float
    job_id: JobId
    claims: Mapping[TaskId, Claim]
    #: Of every task whose claim has a winner.
    results: Mapping[TaskId, TaskResult]


class ProbeOutcome(StrEnum):
    """What asking about a worker's process showed."""

    #: Its connection to the broker is open, and its port answers from here.
    REACHED = "reached"
    #: Its connection to the broker is closed, and its port refuses or is another's: the process has ended.
    GONE = "gone"


class WorkerProbed(msgspec.Struct, frozen=True):
    """The answer to the command ProbeWorker. Changes nothing once a later heartbeat is known."""

    now: float
    incarnation: Incarnation
    #: The heartbeat that was the last one known when the question was asked.
    number: int
    outcome: ProbeOutcome


class CancelRequested(msgspec.Struct, frozen=True):
    """Somebody wants a job stopped.

    Of an unknown or ended job, or one whose output is being finished: it is too late, and changes nothing.
    """

    now: float
    job_id: JobId
    #: One line for the record: who wanted it, why.
    cause: str


class JobBroken(msgspec.Struct, frozen=True):
    """A job cannot be handled: the store's records of it cannot be read, or the engine failed over it."""

    now: float
    job_id: JobId
    #: One line for the record.
    cause: str


class OutputFinished(msgspec.Struct, frozen=True):
    """The command FinishOutput was carried out: `_SUCCESS` is there."""

    now: float
    job_id: JobId


class OutputFailed(msgspec.Struct, frozen=True):
    """The command FinishOutput could not be carried out, and `_SUCCESS` is not there.

    Tried again where the failure's rule says so.
    """

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
