"""What the state store keeps: records of jobs, tasks, outputs and workers."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Literal

import msgspec

from mr.protocol.bad_records import BadRecordsFile
from mr.protocol.bounds import Attempt, Int64, Natural, Real, Seconds, Slots
from mr.protocol.claims import Claim, Placement
from mr.protocol.failures import Failure
from mr.protocol.ids import AttemptId, Incarnation, JobId, TaskId, WorkerId
from mr.protocol.jobs import JobSpec, Split


class JobState(StrEnum):
    """Where a job stands. The last three are terminal."""

    SUBMITTED = "SUBMITTED"
    MAPPING = "MAPPING"
    REDUCING = "REDUCING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def terminal(self) -> bool:
        """Whether the job has ended for good."""
        return self in (JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED)


class TaskState(StrEnum):
    """Where a task stands. WAITING: not published yet, or waiting for its retry."""

    WAITING = "WAITING"
    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    COMMITTED = "COMMITTED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


class TaskStats(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one committed attempt used and made. Only committed attempts count."""

    records_in: Int64 = 0
    records_out: Int64 = 0
    bytes_in: Int64 = 0
    bytes_out: Int64 = 0
    spills: Int64 = 0
    spilled_bytes: Int64 = 0
    fetched_bytes: Int64 = 0
    cpu_seconds: Real = 0.0
    wall_seconds: Real = 0.0
    peak_memory_bytes: Int64 = 0
    #: The user's `mr.counter`s.
    counters: dict[str, Int64] = {}
    #: Records of a map that were skipped; they are not in `records_in`.
    bad_records: Int64 = 0
    #: The list of them. Of one task only: sums over tasks have none.
    bad_file: BadRecordsFile | None = None


class MapOutput(msgspec.Struct, frozen=True, tag="map"):
    """Where a committed map attempt's segment file lies."""

    attempt: AttemptId
    worker: WorkerId
    incarnation: Incarnation
    #: `host:port` of the worker's shuffle server; empty in the embedded mode.
    address: str
    #: Identity of machine and mount namespace: equal means that `path` can be opened directly.
    host: str
    #: The file says itself where each partition's segment begins: see `mr.workers.shuffle.segment_index`.
    path: str

    @property
    def placement(self) -> Placement:
        """Tells this output from one that was made again, or adopted by another incarnation of its worker."""
        return Placement(self.attempt.number, self.incarnation)


class PartOutput(msgspec.Struct, frozen=True, tag="part"):
    """One output part. It holds no path: that follows from the job's spec and these ids."""

    attempt: AttemptId
    worker: WorkerId
    incarnation: Incarnation
    rows: Natural
    bytes: Natural
    #: xxh3-64 of the file's bytes, 16 hex digits.
    checksum: str


class TaskResult(msgspec.Struct, frozen=True):
    """What a committed attempt leaves: where its output lies, and its statistics."""

    output: MapOutput | PartOutput
    stats: TaskStats


class Outcome(msgspec.Struct, frozen=True):
    """What the store says of one task: its claim, and the result of the attempt that committed."""

    claim: Claim = Claim()
    result: TaskResult | None = None


class RunningTask(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one slot of a worker is doing, as of its last heartbeat.

    Printed by `--json`, so the attempt's identity is spread over three fields.
    """

    job_id: JobId
    task_id: TaskId
    attempt: Attempt
    #: Seconds since the epoch, by the worker's clock.
    started_at: Real
    #: Seconds the attempt has run, by the worker's monotonic clock.
    elapsed_seconds: Real
    #: Share of the input consumed, 0 to 1.
    progress: Real = 0.0
    records: Int64 = 0
    memory_bytes: Int64 = 0
    cpu_percent: Real = 0.0
    #: For a reduce: bytes of its partition in all map outputs; 0 until it knows.
    bytes_in: Int64 = 0
    #: What the attempt is doing: `map`, `spill`, `fetch`, `merge`, `reduce`, `write`.
    phase: str = ""
    #: Seconds since it last finished a record or went on to another phase, by the worker's monotonic clock.
    stalled_seconds: Real = 0.0
    #: If it has stalled for long, and it is known: the record that the user's function was given last.
    record: str = ""


class Pause(msgspec.Struct, frozen=True):
    """For how long a worker is to take no tasks."""

    seconds: Seconds
    reason: str


class WorkerBeat(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One heartbeat: who the worker is, what its host has left, what its slots are doing."""

    worker: WorkerId
    incarnation: Incarnation
    host: str
    address: str
    version: str
    started_at: Real
    slots: Slots
    #: Slots that take tasks now: fewer than `slots` under pressure, 0 while draining or paused.
    open_slots: Slots
    #: Finishes what runs, serves its map outputs until no reduce needs them, then leaves.
    draining: bool = False
    #: Why `open_slots` is below `slots`, in words; empty if it is not.
    limited_by: str = ""
    cpu_percent: Real = 0.0
    memory_percent: Real = 0.0
    memory_available_bytes: Int64 = 0
    disk_free_bytes: Int64 = 0
    disk_total_bytes: Int64 = 0
    running: tuple[RunningTask, ...] = ()
    committed: Int64 = 0
    failed: Int64 = 0
    #: Counts the heartbeats of this incarnation, from 1: equal numbers are the same heartbeat.
    number: Int64 = 0
    #: The machine's own name, for people to read.
    host_name: str = ""
    #: Its private queue for control messages. If that is gone, the connection is closed.
    control_queue: str = ""
    #: Earlier incarnations in its spool that had ended when it started: their locks were free.
    ended: tuple[Incarnation, ...] = ()


class WorkerView(msgspec.Struct, frozen=True):
    """A heartbeat as the store returns it: with its age by the store's own clock."""

    beat: WorkerBeat
    age_seconds: float
    #: Whether the lease was still valid when the store was asked.
    live: bool


#: Failed attempts that a task's record names.
MAX_FAILED_KEPT = 32


class TaskRecord(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The coordinator's record of one task."""

    task_id: TaskId
    state: TaskState
    #: Highest attempt number known to the coordinator.
    attempt: Attempt = 0
    #: Failed attempts that count against `max_attempts`.
    failures: Int64 = 0
    #: The newest attempts whose failure was counted, at most MAX_FAILED_KEPT: each counts once.
    failed: tuple[Attempt, ...] = ()
    #: Attempts that ended without counting: lost workers, lost inputs, infrastructure.
    losses: Int64 = 0
    worker: WorkerId = WorkerId("")
    queued_at: Real = 0.0
    started_at: Real = 0.0
    ended_at: Real = 0.0
    stats: TaskStats = TaskStats()
    #: The most recent failure; it stays when a later attempt commits.
    failure: Failure | None = None
    speculative: bool = False


class FailureGroup(msgspec.Struct, frozen=True):
    """One cause and how often it occurred, grouped by `Failure.signature`."""

    failure: Failure
    count: Int64
    tasks: tuple[TaskId, ...]


class Transition(msgspec.Struct, frozen=True):
    """A job entered `state` at `at` (seconds since the epoch), because of `cause`."""

    state: JobState
    at: Real
    cause: str


class IncidentKind(StrEnum):
    """What can happen to a job beside its plan."""

    WORKER_DIED = "worker_died"
    #: It was drained or stopped in good order.
    WORKER_LEFT = "worker_left"
    #: It was told to take no tasks for a while.
    WORKER_EXCLUDED = "worker_excluded"
    ATTEMPT_FAILED = "attempt_failed"
    #: Nobody held it any more, though its worker lives.
    ATTEMPT_LOST = "attempt_lost"
    #: A map output was gone, though its worker lives.
    OUTPUT_LOST = "output_lost"
    BACKUP = "backup"
    MESSAGE_LOST = "message_lost"
    TAKEN_OVER = "taken_over"
    STORE_LOST_DATA = "store_lost_data"
    #: What came after MAX_INCIDENTS, counted together.
    MORE = "more"


#: Incidents kept of a job; equal ones are counted in one.
MAX_INCIDENTS = 200


class Incident(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What happened to a job beside its plan, one or more times, and what ran again because of it."""

    kind: IncidentKind
    #: When it first happened, in seconds since the epoch.
    at: Real
    #: The worker; of a failed attempt the kind of failure.
    subject: str = ""
    #: Which process of the worker.
    incarnation: Incarnation = Incarnation("")
    reason: str = ""
    times: Int64 = 1
    #: Attempts that ended by it without a result, or were begun as a backup.
    attempts: Int64 = 0
    #: Committed map outputs that were lost and are made again.
    outputs: Int64 = 0


class JobRecord(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The coordinator's record of one job; kept for `history_seconds` after the job's end."""

    job_id: JobId
    name: str
    state: JobState
    output: str
    priority: Int64
    maps: Int64
    reduces: Int64
    history: tuple[Transition, ...]
    maps_committed: Int64 = 0
    reduces_committed: Int64 = 0
    tasks_running: Int64 = 0
    attempts_failed: Int64 = 0
    #: Totals over the committed attempts, counters included.
    stats: TaskStats = TaskStats()
    #: One line for a job that FAILED or was CANCELLED.
    cause: str = ""
    failures: tuple[FailureGroup, ...] = ()
    #: What happened beside the plan, in the order in which it began; at most MAX_INCIDENTS.
    incidents: tuple[Incident, ...] = ()
    #: What keeps the job from going on (`no live workers`); empty if nothing does.
    waiting_for: str = ""
    #: What was asked for, shortened, secrets only by name: see `mr.request_summary`.
    request: dict[str, str] = {}
    #: How often the job was resumed after it had failed or was cancelled.
    resumed: Int64 = 0
    #: Of an ended job: whether its committed outputs are kept for a resume, as long as its spec is there.
    kept: bool = False

    @property
    def submitted_at(self) -> float:
        """When the job was submitted, in seconds since the epoch; 0 for a record without a history."""
        return self.history[0].at if self.history else 0.0


#: Refused requests that are remembered: the newest ones.
MAX_REFUSALS = 1000


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """A request that was refused: a trace for a sender that did not wait for the answer."""

    job_id: JobId
    #: Seconds since the epoch, by the store's clock.
    at: Real
    reason: str
    #: As in JobRecord.
    request: dict[str, str] = {}
    state: Literal["REFUSED"] = "REFUSED"


class RestoredJob(msgspec.Struct, frozen=True):
    """Everything the store knows of a job, for a coordinator that takes over or resumes it."""

    record: JobRecord
    spec: JobSpec
    splits: tuple[Split, ...]
    tasks: Mapping[TaskId, TaskRecord]
    claims: Mapping[TaskId, Claim]
    results: Mapping[TaskId, TaskResult]


class UnreadableJob(msgspec.Struct, frozen=True):
    """An unfinished job of which the store holds something that cannot be decoded."""

    job_id: JobId
    #: What cannot be read, and why.
    reason: str
    #: Its record; None when that is what cannot be read.
    record: JobRecord | None


class ManifestPart(msgspec.Struct, frozen=True):
    """One output part of a completed job, as it lies there."""

    task_id: TaskId
    attempt: Attempt
    path: str
    rows: Natural
    bytes: Natural
    #: xxh3-64 of the file's bytes, 16 hex digits.
    checksum: str


class ManifestBadRecords(msgspec.Struct, frozen=True):
    """The list of the bad records that one map skipped, as it lies in `OUT/_bad_records/`."""

    task_id: TaskId
    attempt: Attempt
    path: str
    records: Natural
    bytes: Natural
    #: xxh3-64 of the file's bytes, 16 hex digits.
    checksum: str


class Manifest(msgspec.Struct, frozen=True, omit_defaults=True):
    """The JSON inside `_SUCCESS`: what a completed job wrote."""

    version: Int64
    job_id: JobId
    name: str
    completed_at: Real
    rows: Natural
    bytes: Natural
    parts: tuple[ManifestPart, ...]
    counters: dict[str, Int64]
    #: Lists of the bad records that were skipped.
    bad_records: tuple[ManifestBadRecords, ...] = ()
    #: How the input was read, if there are any: the options input_format, encoding, encoding_errors.
    read_as: dict[str, str] = {}

    @property
    def skipped(self) -> int:
        """Number of bad records that were skipped."""
        return sum(listed.records for listed in self.bad_records)
