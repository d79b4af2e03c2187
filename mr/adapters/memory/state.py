"""The state that several `MemoryStore`s in one process share."""

import copy
from dataclasses import dataclass, field, is_dataclass
from typing import TypeVar

from mr.protocol.claims import Claim, Placement
from mr.protocol.ids import CodeId, Incarnation, JobId, TaskId, TaskKind, WorkerId
from mr.protocol.jobs import JobSpec, Split
from mr.protocol.records import MapOutput, TaskResult, WorkerBeat

T = TypeVar("T")


@dataclass
class JobEntry:
    """Everything about one job. Records are kept encoded, as Redis would keep them."""

    #: msgpack JobRecord; empty until the first write.
    record: bytes = b""
    #: Epoch of the coordinator that wrote last.
    epoch: int = 0
    #: Number of the coordinators' writes so far.
    generation: int = 0
    submitted_at: float = 0.0
    spec: JobSpec | None = None
    splits: dict[TaskId, Split] = field(default_factory=dict)
    #: Whether tasks of the job may run.
    open: bool = False
    claims: dict[TaskId, Claim] = field(default_factory=dict)
    tasks: dict[TaskId, bytes] = field(default_factory=dict)
    results: dict[TaskKind, dict[TaskId, bytes]] = field(
        default_factory=lambda: {kind: {} for kind in TaskKind}
    )
    logs: dict[str, str] = field(default_factory=dict)
    logs_bytes: int = 0
    #: Whether they exceeded their limit: nothing more is added then.
    logs_full: bool = False
    #: How often the job was resumed.
    resumed: int = 0
    #: When what a resume needs is deleted, by the store's clock; infinite while the job runs.
    kept_until: float = float("inf")
    #: When the job is forgotten, by the store's clock; infinite while it runs.
    expires_at: float = float("inf")

    def drop_kept(self) -> None:
        """Delete what only a resume would need."""
        if self.spec is not None and self.spec.reduces > 0:
            self.results[TaskKind.MAP] = {}
        self.spec, self.splits, self.claims = None, {}, {}


@dataclass
class CodeEntry:
    """One code bundle."""

    bundle: bytes
    #: msgpack CodeManifest.
    manifest: bytes
    #: When it is forgotten, by the store's clock, unless it has a name.
    expires_at: float
    names: set[str] = field(default_factory=set)


@dataclass
class WorkerEntry:
    """The last heartbeat of one worker."""

    beat: WorkerBeat
    at: float
    lease_seconds: float
    #: The incarnation whose id was taken before its lease ran out, and until when it may take it back.
    former: Incarnation | None = None
    former_until: float = 0.0

    @property
    def incarnation(self) -> Incarnation:
        """The incarnation of the worker that sent it."""
        return self.beat.incarnation


@dataclass
class MemoryStoreServer:
    """What a Redis server would hold. One event loop only."""

    jobs: dict[JobId, JobEntry] = field(default_factory=dict)
    code: dict[CodeId, CodeEntry] = field(default_factory=dict)
    registry: dict[str, bytes] = field(default_factory=dict)
    workers: dict[WorkerId, WorkerEntry] = field(default_factory=dict)
    #: Until when, by the store's clock, and the reason.
    pauses: dict[WorkerId, tuple[float, str]] = field(default_factory=dict)
    drains: dict[WorkerId, Incarnation] = field(default_factory=dict)
    leader: str | None = None
    leader_until: float = 0.0
    #: When a coordinator last took or renewed the lead.
    leader_seen: float | None = None
    epoch: int = 0
    identity: str = ""
    #: msgpack Refusal and when it is forgotten, oldest first.
    refusals: dict[JobId, tuple[bytes, float]] = field(default_factory=dict)

    def snapshot(self) -> "MemoryStoreServer":
        """Everything as it is now."""
        return _copied(self)

    def go_back(self, snapshot: "MemoryStoreServer") -> None:
        """Return to an earlier state, as when a replica that lagged behind takes over."""
        for name, value in vars(_copied(snapshot)).items():
            setattr(self, name, value)

    def flush(self) -> None:
        """Lose everything, as a Redis without persistence does when it restarts."""
        self.go_back(MemoryStoreServer())


def _copied(value: T) -> T:
    """A copy down to what never changes: records, ids and bytes are shared."""
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}  # type: ignore[return-value]
    if isinstance(value, set):
        return set(value)  # type: ignore[return-value]
    if not is_dataclass(value):
        return value
    made = copy.copy(value)
    for name, item in vars(made).items():
        setattr(made, name, _copied(item))
    return made


def recorded_placement(result: TaskResult) -> Placement | None:
    """Where a map output is recorded to be; None for an output part, which is in no worker's spool."""
    return result.output.placement if isinstance(result.output, MapOutput) else None
