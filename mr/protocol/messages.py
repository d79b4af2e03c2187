"""What the queues carry. Ids and small facts only; the bytes travel in the data plane."""

import msgspec

from mr.protocol.bounds import Seconds
from mr.protocol.failures import Failure
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
    """On `mr.reports`: an attempt ended without commit. Believed of whom the claim names for that attempt."""

    attempt: AttemptId
    worker: WorkerId
    incarnation: Incarnation
    failure: Failure


class WorkerStopped(msgspec.Struct, frozen=True, tag="stopped"):
    """On `mr.reports`: a worker leaves in good order, with its leases given back."""

    worker: WorkerId
    incarnation: Incarnation
    #: Whether map outputs stay behind in its spool, which the next worker to start there registers again.
    leaves_outputs: bool = False


Report = TaskCommitted | TaskFailed | WorkerStopped


class EndJob(msgspec.Struct, frozen=True, tag="end_job"):
    """On `mr.control`: a job may be over. If the store says so: kill its attempts, delete its files."""

    job_id: JobId


class StopAttempt(msgspec.Struct, frozen=True, tag="stop_attempt"):
    """On `mr.control`: another attempt of this task committed first. If its claim is gone: kill this one."""

    #: The attempt that won; every other is to stop.
    winner: AttemptId


class PauseWorker(msgspec.Struct, frozen=True, tag="pause"):
    """On `mr.control`: take no more tasks for so long, for this reason; 0 seconds: take tasks again.

    The coordinator writes it into the store first, and the worker believes the store.
    """

    worker: WorkerId
    seconds: Seconds
    reason: str


class DrainWorker(msgspec.Struct, frozen=True, tag="drain"):
    """On `mr.control`: finish what runs, take no more, then exit. If the store says so of this life."""

    worker: WorkerId


class Ping(msgspec.Struct, frozen=True, tag="ping"):
    """To one private queue: nothing is to be done. Sent as mandatory, it shows whether the queue exists."""


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
