"""What the queues carry. Ids and small facts only; the bytes travel in the data plane."""

import msgspec

from mr.protocol.bounds import Seconds
from mr.protocol.failures import Failure, FailureKind
from mr.protocol.ids import AttemptId, Incarnation, JobId, TaskId, WorkerId

WIRE_VERSION = 1


class TaskMessage(msgspec.Struct, frozen=True, array_like=True):
    """On `mr.tasks`: a hint that this task wants to run. The claim in the store decides."""

    version: int
    job_id: JobId
    task_id: TaskId


class TaskCommitted(msgspec.Struct, frozen=True, tag="committed"):
    """On `mr.reports`: a hint that an attempt's result is in the store, where the coordinator reads it."""

    attempt: AttemptId
    worker: WorkerId
    incarnation: Incarnation


class TaskFailed(msgspec.Struct, frozen=True, tag="failed"):
    """On `mr.reports`: an attempt failed. Believed only of the worker that its claim names."""

    attempt: AttemptId
    worker: WorkerId
    incarnation: Incarnation
    failure: Failure


class WorkerStopped(msgspec.Struct, frozen=True, tag="stopped"):
    """On `mr.reports`: a worker is leaving in good order and has given back its leases."""

    worker: WorkerId
    incarnation: Incarnation
    #: Whether map outputs stay in its spool, where the next worker to start there registers them again.
    leaves_outputs: bool = False


Report = TaskCommitted | TaskFailed | WorkerStopped


class EndJob(msgspec.Struct, frozen=True, tag="end_job"):
    """On `mr.control`: a job may be over. If the store confirms it: kill its attempts, delete its files."""

    job_id: JobId


class StopAttempt(msgspec.Struct, frozen=True, tag="stop_attempt"):
    """On `mr.control`: another attempt of a task committed first. If this one has lost its claim: kill it."""

    #: The attempt that won; every other is to stop.
    winner: AttemptId


class PauseWorker(msgspec.Struct, frozen=True, tag="pause"):
    """On `mr.control`: take no tasks for this many seconds; 0: take tasks again.

    The coordinator writes it to the store first, and the worker reads it there.
    """

    worker: WorkerId
    seconds: Seconds
    reason: str


class DrainWorker(msgspec.Struct, frozen=True, tag="drain"):
    """On `mr.control`: finish what runs, take no more, exit. If the store confirms it for this process."""

    worker: WorkerId


class Ping(msgspec.Struct, frozen=True, tag="ping"):
    """To one private queue: nothing to do. Sent as mandatory, it shows whether the queue exists."""


Control = EndJob | StopAttempt | PauseWorker | DrainWorker | Ping


class LifecycleEvent(msgspec.Struct, frozen=True, omit_defaults=True):
    """On `mr.events`, as JSON: a job or a task entered a state.

    Published for other systems, so its fields stay as they are: the attempt's identity is spread over them.
    """

    version: int
    job_id: JobId
    state: str
    #: Seconds since the epoch.
    at: float
    task_id: TaskId | None = None
    attempt: int | None = None
    worker: WorkerId | None = None
    cause: str | None = None
    #: Of an attempt that failed: the kind of its failure, as in `mr status`.
    failure_kind: FailureKind | None = None
