"""What the coordinator knows of its active jobs and tasks. Pure."""

import heapq
from bisect import insort
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import msgspec

from mr.coordinator.core.complaints import Complaints
from mr.coordinator.core.membership import Membership
from mr.coordinator.core.policy import MAX_FAILURE_GROUPS, MAX_GROUP_TASKS, MINIMUM_COST_SECONDS
from mr.coordinator.core.story import Story
from mr.coordinator.core.totals import Totals
from mr.coordinator.core.transitions import TaskCause
from mr.protocol.claims import Placement
from mr.protocol.failures import Failure
from mr.protocol.ids import Incarnation, JobId, TaskId, TaskKind, WorkerId, task_id, task_ids, task_index
from mr.protocol.jobs import JobSpec, Split
from mr.protocol.queues import MAX_JOB_PRIORITY
from mr.protocol.records import (
    FailureGroup,
    JobRecord,
    MapOutput,
    TaskRecord,
    TaskResult,
    TaskState,
    TaskStats,
)
from mr.settings import Settings

#: Events kept of each job, for the log if the engine fails over it.
RECENT_EVENTS = 20
#: Steps kept of each task, for the message of IllegalTransition.
RECENT_STEPS = 8

OPEN_STATES = (TaskState.WAITING, TaskState.QUEUED, TaskState.RUNNING)
#: The tasks that count against the window: published and unfinished.
OUTSTANDING_STATES = (TaskState.QUEUED, TaskState.RUNNING)


@dataclass(slots=True)
class RunningAttempt:
    """One attempt that is believed to run."""

    worker: WorkerId
    incarnation: Incarnation
    #: When it was last known to run: listed by a live worker, or its lease was renewed.
    seen_at: float
    #: Estimated from heartbeats, by the coordinator's clock.
    started_at: float
    #: Bytes it has to read, from its last heartbeat.
    bytes_in: int = 0
    #: Share of the input consumed, and how long it has finished no record, from its last heartbeat.
    share: float = 0.0
    stalled_seconds: float = 0.0


@dataclass(slots=True)
class Task:
    """One task of an active job."""

    kind: TaskKind
    _record: TaskRecord
    #: Its last steps: (when, why).
    history: tuple[tuple[float, TaskCause], ...] = ()
    running: dict[int, RunningAttempt] = field(default_factory=dict)
    #: Attempts whose failure was reported. Anything later about them is ignored.
    failed: set[int] = field(default_factory=set)
    #: Attempts given up with their worker. They may prove to be alive, and may still commit.
    lost: set[int] = field(default_factory=set)
    #: Attempts up to this number can no longer commit, because a committed output was lost.
    fenced_attempt: int = 0
    #: Places where outputs of this task were before they were lost or relocated.
    left_places: set[Placement] = field(default_factory=set)
    #: When its message was last published.
    queued_at: float = 0.0
    #: While WAITING: the earliest time to publish it.
    due_at: float = 0.0
    #: When this coordinator learnt of the commit.
    committed_at: float = 0.0
    #: Of the committed attempt; None unless COMMITTED.
    result: TaskResult | None = None
    #: attempt -> (expiry of its lease by the store's clock, when that expiry was first seen).
    leases: dict[int, tuple[int, float]] = field(default_factory=dict)
    #: When a message for its backup attempt was last published.
    backup_at: float = 0.0

    @property
    def record(self) -> TaskRecord:
        """The record to be saved. Only `Decisions` changes it."""
        return self._record

    @property
    def task_id(self) -> TaskId:
        """The task's id."""
        return self._record.task_id

    @property
    def state(self) -> TaskState:
        """The task's state."""
        return self._record.state

    @property
    def index(self) -> int:
        """The number of its split or partition."""
        return task_index(self._record.task_id)

    def write(self, fields: Mapping[str, object]) -> None:
        """Change fields of the record. Called only by ActiveJob, which counts the states."""
        self._record = msgspec.structs.replace(self._record, **fields)


@dataclass(slots=True)
class Level:
    """What the jobs of one priority share: start-time fair queueing (Goyal, Vin, Cheng 1996)."""

    #: Virtual time: the start tag of the last published task. A job that joins or returns starts here.
    virtual_seconds: float = 0.0
    #: The last charge for a task that was based on finished tasks.
    cost_seconds: float = MINIMUM_COST_SECONDS


class ActiveJob:
    """One job that has not ended."""

    def __init__(
        self, spec: JobSpec, splits: tuple[Split, ...], record: JobRecord, order: int, known_at: float
    ) -> None:
        self.spec = spec
        self.splits = splits
        self._record = record
        #: Its number in the order of acceptance, which breaks ties.
        self.order = order
        self.tasks: dict[TaskId, Task] = {}
        #: Tasks QUEUED or RUNNING, in the order they became so.
        self.outstanding: dict[TaskId, None] = {}
        self.counts: dict[tuple[TaskKind, TaskState], int] = {}
        #: Committed map outputs by the incarnation that holds them.
        self.outputs: dict[Incarnation, set[TaskId]] = {}
        #: (seconds, index) of committed attempts, sorted.
        self.durations: dict[TaskKind, list[tuple[float, int]]] = {kind: [] for kind in TaskKind}
        self.totals = Totals()
        self.story = Story(record.incidents)
        self.groups: dict[str, FailureGroup] = {g.failure.signature: g for g in record.failures}
        #: Whether FinishOutput was given and is not answered.
        self.finishing = False
        self.finish_tries = 0
        self.finish_due_at = 0.0
        #: Why the last try failed; empty before that.
        self.finish_failure = ""
        self.inspected_at = 0.0
        #: The last events about the job, one short line each.
        self.recent: deque[str] = deque(maxlen=RECENT_EVENTS)
        #: When this coordinator first heard of it.
        self.known_at = known_at
        #: Whether the places of the map outputs must be read again in the store: a reduce found fewer outputs
        #: than are committed here, or a worker that holds some is gone.
        self.doubtful = False
        #: Virtual time, in seconds for a weight of 1, up to which its published tasks are charged.
        self.charged_until = 0.0
        #: Since when it has tasks to run and none runs, because of jobs of higher priority; None otherwise.
        self.idle_since: float | None = None
        #: The task that was last published by ageing.
        self.aged: TaskId | None = None
        self._waiting: dict[TaskKind, list[tuple[float, int]]] = {kind: [] for kind in TaskKind}

    # --- tasks

    @property
    def job_id(self) -> JobId:
        """The job's id."""
        return self.spec.job_id

    def ids(self) -> Iterator[tuple[TaskKind, TaskId]]:
        """Kind and id of each task: maps, then reduces, in order of index."""
        return task_ids(len(self.splits), self.spec.reduces)

    def add(self, task: Task) -> None:
        """Add a task in the state that its record shows."""
        self.tasks[task.task_id] = task
        self._count(task, 1)
        self._file(task)
        self.totals.replace(TaskStats(), task.record.stats)

    def write_task(self, task: Task, **fields: object) -> None:
        """Change fields of a task's record, and what depends on its state. Called by `Decisions` only."""
        if "state" not in fields:
            task.write(fields)
            return
        self._count(task, -1)
        task.write(fields)
        self._count(task, 1)
        if task.state is not TaskState.RUNNING:
            task.running.clear()
        if task.state in (TaskState.RUNNING, TaskState.COMMITTED):
            self.idle_since = None
        self._file(task)

    def _file(self, task: Task) -> None:
        """Update `outstanding`, `outputs` and the waiting heaps after the task's state changed."""
        if task.state in OUTSTANDING_STATES:
            self.outstanding.setdefault(task.task_id)
        else:
            self.outstanding.pop(task.task_id, None)
        if task.state is TaskState.WAITING:
            heapq.heappush(self._waiting[task.kind], (task.due_at, task.index))
        if task.state is TaskState.COMMITTED and task.result is not None:
            output = task.result.output
            if isinstance(output, MapOutput):
                self._file_output(task, output)
            insort(self.durations[task.kind], (task.result.stats.wall_seconds, task.index))

    def _file_output(self, task: Task, output: MapOutput) -> None:
        self.outputs.setdefault(output.incarnation, set()).add(task.task_id)

    def _count(self, task: Task, change: int) -> None:
        key = (task.kind, task.state)
        self.counts[key] = self.counts.get(key, 0) + change

    def unfile_output(self, task: Task) -> None:
        """Remove a committed map's output from its place, before it is lost or moved."""
        if task.result is not None and isinstance(task.result.output, MapOutput):
            incarnation = task.result.output.incarnation
            task.left_places.add(task.result.output.placement)
            held = self.outputs.get(incarnation, set())
            held.discard(task.task_id)
            if not held:
                self.outputs.pop(incarnation, None)

    def move_output(self, task: Task, result: TaskResult) -> None:
        """Take over the result of a committed map whose output has moved."""
        self.unfile_output(task)
        task.result = result
        if isinstance(result.output, MapOutput):
            self._file_output(task, result.output)

    def next_waiting(self, now: float) -> Task | None:
        """The task to publish next: maps first, reduces only when all maps are committed."""
        kinds = (TaskKind.MAP, TaskKind.REDUCE) if self.maps_done else (TaskKind.MAP,)
        for kind in kinds:
            heap = self._waiting[kind]
            while heap and heap[0][0] <= now:
                due_at, index = heap[0]
                task = self.tasks[task_id(kind, index)]
                if task.state is TaskState.WAITING and task.due_at == due_at:
                    return task
                heapq.heappop(heap)
        return None

    def count(self, kind: TaskKind, state: TaskState) -> int:
        """How many tasks of a kind are in a state."""
        return self.counts.get((kind, state), 0)

    @property
    def maps_done(self) -> bool:
        """Whether every map is committed."""
        return self.count(TaskKind.MAP, TaskState.COMMITTED) == len(self.splits)

    @property
    def output_done(self) -> bool:
        """Whether every task that writes an output part is committed."""
        kind = self.spec.output_kind
        total = len(self.splits) if kind is TaskKind.MAP else self.spec.reduces
        return self.count(kind, TaskState.COMMITTED) == total

    @property
    def needs_map_outputs(self) -> bool:
        """Whether a reduce still has to read map outputs."""
        return self.spec.reduces > 0 and not self.output_done

    def running_on(self) -> dict[Incarnation, WorkerId]:
        """The workers on which attempts of it are believed to run."""
        attempts = (attempt for name in self.outstanding for attempt in self.tasks[name].running.values())
        return {attempt.incarnation: attempt.worker for attempt in attempts}

    def median(self, kind: TaskKind) -> tuple[float, int] | None:
        """(seconds, index) of the committed attempt with the median time; None before the first commit."""
        durations = self.durations[kind]
        return durations[len(durations) // 2] if durations else None

    def input_bytes(self, task: Task) -> int:
        """Bytes that a task reads: its split; or its partition, which is 0 until an attempt reports it."""
        if task.kind is TaskKind.MAP:
            return self.splits[task.index].input_bytes
        if task.result is not None:
            return task.result.stats.bytes_in
        return max((attempt.bytes_in for attempt in task.running.values()), default=0)

    # --- the record

    @property
    def record(self) -> JobRecord:
        """The record to be saved, with the counts of the last save. Only `Decisions` changes it."""
        return self._record

    def write(self, **fields: object) -> None:
        """Change fields of the record. Called by `Decisions` only."""
        self._record = msgspec.structs.replace(self._record, **fields)

    def group_failure(self, task: Task, failure: Failure) -> None:
        """Count a failed attempt under its cause. The number of causes and their tasks is bounded."""
        known = self.groups.get(failure.signature)
        if known is None:
            if len(self.groups) < MAX_FAILURE_GROUPS:
                self.groups[failure.signature] = FailureGroup(failure, 1, (task.task_id,))
            return
        tasks = known.tasks
        if task.task_id not in tasks and len(tasks) < MAX_GROUP_TASKS:
            tasks = (*tasks, task.task_id)
        self.groups[failure.signature] = FailureGroup(known.failure, known.count + 1, tasks)

    def current_record(self) -> JobRecord:
        """The record with its counts brought up to date."""
        self.write(
            maps_committed=self.count(TaskKind.MAP, TaskState.COMMITTED),
            reduces_committed=self.count(TaskKind.REDUCE, TaskState.COMMITTED),
            tasks_running=sum(self.count(kind, TaskState.RUNNING) for kind in TaskKind),
            stats=self.totals.stats(),
            failures=tuple(self.groups.values()),
            incidents=self.story.incidents,
        )
        return self._record


@dataclass(slots=True)
class SchedulerState:
    """Everything a decision may look at."""

    settings: Settings
    seed: int
    membership: Membership
    complaints: Complaints
    jobs: dict[JobId, ActiveJob] = field(default_factory=dict)
    #: Messages that wait in `mr.tasks`, as last seen.
    ready: int = 0
    #: The largest number of tasks of one priority level and above that the window ever allowed.
    peak_window: int = 0
    #: Jobs accepted so far.
    accepted: int = 0
    #: One for each job priority.
    levels: tuple[Level, ...] = field(
        default_factory=lambda: tuple(Level() for _ in range(MAX_JOB_PRIORITY + 1))
    )
