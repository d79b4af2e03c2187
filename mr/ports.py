"""The Protocols between the engine and the outside: Broker, StateStore, Clock.

Each has a memory adapter and a real one, held to one contract suite. All are asyncio; one event
loop a daemon.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import Protocol

import msgspec

from mr.protocol.claims import Claim, Placement, Verdict
from mr.protocol.ids import CodeId, Incarnation, JobId, TaskId, TaskKind, WorkerId
from mr.protocol.jobs import CodeManifest, JobSpec, Split
from mr.protocol.locations import PackedOutputs
from mr.protocol.records import (
    JobRecord,
    MapOutput,
    Outcome,
    Pause,
    Refusal,
    TaskRecord,
    TaskResult,
    WorkerBeat,
    WorkerView,
)

#: `StateStore.workers` leaves out workers not heard of for this long.
WORKER_MEMORY_SECONDS = 3600.0

#: Stands for the output of the attempt that went over what is kept of one job.
LOGS_FULL = "(not kept, nor what was printed after it: the job has printed more than log_total_bytes)\n"


class OutgoingMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A message to publish. `exchange` empty = the default one: `routing_key` names a queue."""

    routing_key: str
    body: bytes
    exchange: str = ""
    content_type: str = "application/msgpack"
    #: AMQP `type` property: what the body is, where a queue carries several kinds.
    type: str = ""
    priority: int = 0
    #: False: sent once, and lost with the connection or the broker. For answers, which can be asked again.
    persistent: bool = True
    #: True: publishing it raises Unroutable when no queue takes it.
    mandatory: bool = False
    reply_to: str | None = None
    correlation_id: str | None = None
    headers: Mapping[str, str] = {}


class Delivery(Protocol):
    """A message handed to a consumer, until it is settled once."""

    body: bytes
    content_type: str | None
    type: str | None
    routing_key: str
    reply_to: str | None
    correlation_id: str | None
    #: Who published it, vouched for by the broker; None where the publisher did not say.
    user_id: str | None
    redelivered: bool

    async def ack(self) -> None:
        """Settle: done with. No effect when the connection it came by is gone (it comes again)."""

    async def reject(self, *, requeue: bool) -> None:
        """Settle: hand back to the queue, or drop. No effect when the connection is gone."""


OnDelivery = Callable[[Delivery], Awaitable[None]]


class Consumer(Protocol):
    """A subscription that survives reconnects until it is cancelled."""

    @property
    def queue_name(self) -> str:
        """The queue it consumes. A private one that was given no name has another after a reconnect."""

    async def set_prefetch(self, prefetch: int) -> None:
        """Change how many unsettled deliveries it may hold; 0 pauses it, unsettled ones stay its own."""

    async def cancel(self) -> None:
        """End the subscription. Deliveries not yet settled can still be settled."""


class QueueDepth(msgspec.Struct, frozen=True):
    """What a queue holds right now."""

    ready: int
    consumers: int


class Broker(Protocol):
    """RabbitMQ, or its like inside one process."""

    async def connect(self) -> None:
        """Connect and declare the topology (idempotent). Raises BrokerUnavailable with the reason.

        May be called again after `close`: subscriptions and failures of before are forgotten.
        """

    async def close(self) -> None:
        """Disconnect. Unsettled deliveries go back to their queues."""

    async def publish(self, message: OutgoingMessage) -> None:
        """Return once the broker confirmed. Retries over reconnects; raises BrokerUnavailable after that.

        Raises Unroutable for a `mandatory` message that no queue takes. Many publishes may be awaited
        together: their confirms come in batches.
        """

    async def consume(
        self, queue: str, on_delivery: OnDelivery, *, prefetch: int, single_active: bool = False
    ) -> Consumer:
        """Call `on_delivery` in a task of its own for each message; it settles the delivery.

        An exception out of `on_delivery` ends the subscription and is raised by `failed()`.
        """

    async def subscribe(
        self, exchange: str, binding_key: str, on_delivery: OnDelivery, *, name: str = ""
    ) -> Consumer:
        """Consume a private, exclusive queue; made again after a reconnect, and gone with the connection.

        It is bound to `exchange` unless that is empty. The broker chooses its name unless `name` does.
        """

    async def request(self, message: OutgoingMessage, *, timeout_seconds: float) -> bytes:
        """Publish with a private `reply_to`; return the answer. Raises BrokerUnavailable on time-out."""

    async def depth(self, queue: str) -> QueueDepth:
        """Ready messages and consumers of a queue."""

    async def failed(self) -> BaseException:
        """Wait for, and return, what ends this broker for good: refused credentials, a consumer's error."""


class ClaimReply(msgspec.Struct, frozen=True):
    """The answer to a claim."""

    verdict: Verdict
    #: The granted attempt's number, or the winner's when COMMITTED.
    attempt: int = 0
    #: For a granted map task: its input.
    split: Split | None = None
    #: When COMMITTED: what was recorded.
    result: TaskResult | None = None
    #: Why the split or the result that belongs to the answer is not in it: another version wrote it.
    unreadable: str = ""


class RestoredJob(msgspec.Struct, frozen=True):
    """Everything the store knows of an unfinished job, for a coordinator that takes over."""

    record: JobRecord
    spec: JobSpec
    splits: tuple[Split, ...]
    tasks: Mapping[TaskId, TaskRecord]
    claims: Mapping[TaskId, Claim]
    results: Mapping[TaskId, TaskResult]


class StateStore(Protocol):
    """Redis, or its like inside one process. Every method raises StoreUnavailable when it cannot be reached.

    What another version has stored may not be readable: methods that read one job raise BadMessage then;
    those that read many leave it out, and log that once.

    Times inside are the store's own. Writes that carry an `epoch` raise Deposed when a coordinator
    with a higher one has written that job. Each of them raises the job's generation; `save_job`, `reopen`
    and `speculate` raise StoreBehind, and change nothing, when the store has lost a write that it had
    acknowledged to this client: `rewrite` mends that.
    """

    async def connect(self) -> None:
        """Connect. Raises StoreUnavailable with the reason."""

    async def close(self) -> None:
        """Disconnect."""

    async def warnings(self) -> Sequence[str]:
        """What about the server's configuration endangers the data (no appendonly, an eviction policy)."""

    async def server_time(self) -> float:
        """Seconds since the epoch, by the store's own clock."""

    # --- who coordinates

    async def acquire_lead(self, holder: str, lease_seconds: float, above_epoch: int) -> int | None:
        """Become the coordinator if none is: a new epoch above this one and all before. None: another is."""

    async def renew_lead(self, holder: str, lease_seconds: float) -> bool:
        """Stay the coordinator. False: the lease was lost (also when the store was emptied)."""

    async def leader(self) -> str | None:
        """Who coordinates, as of its last renewal; None when the lease ran out or was released."""

    async def last_epoch(self) -> int:
        """The highest epoch given so far; 0 before the first, also when the store was emptied."""

    async def release_lead(self, holder: str) -> None:
        """End the lead of `holder`, who steps down or is dead, so that another can lead at once."""

    # --- what is left for onlookers

    async def identity(self) -> str:
        """A text made up at the first question, by which two clients tell whether they share a database."""

    async def coordinator_silence(self) -> float | None:
        """Seconds since a coordinator last held the lead; 0 while one does, None if none is remembered."""

    async def put_refusal(self, refusal: Refusal, keep_seconds: float) -> None:
        """Keep the trace of a refused request for a time, and MAX_REFUSALS of them at most, the newest."""

    async def get_refusal(self, job: JobId) -> Refusal | None:
        """The refusal of the request that chose this id, if it is remembered."""

    # --- code: kept for a time that begins anew at each use, and for good while it has a name

    async def put_code(
        self, code: CodeId, bundle: bytes, manifest: CodeManifest, keep_seconds: float
    ) -> None:
        """Store a bundle and its manifest under its content hash for at least `keep_seconds` (idempotent)."""

    async def keep_code(self, code: CodeId, keep_seconds: float) -> bool:
        """Keep stored code for at least so long from now. False: the store does not have it."""

    async def get_code(self, code: CodeId) -> bytes | None:
        """Fetch a bundle; None when the store has none such."""

    async def register(self, name: str, manifest: CodeManifest, keep_seconds: float) -> None:
        """Give stored code a name; the code that had it is kept for `keep_seconds`, unless it has another.

        Raises NotFound when the store has no such code.
        """

    async def registered(self, name: str) -> CodeManifest | None:
        """Look up a name or code id."""

    # --- jobs, as the coordinator writes them

    async def create_job(self, spec: JobSpec, splits: Sequence[Split], record: JobRecord, epoch: int) -> bool:
        """Write a new job and open its claims, at once or not at all. False: the id exists already."""

    async def save_job(self, record: JobRecord, tasks: Iterable[TaskRecord], epoch: int) -> None:
        """Write a job's record and those of its tasks that changed, in one step."""

    async def reopen(self, job: JobId, lost: Mapping[TaskId, Placement], epoch: int) -> None:
        """Declare committed map outputs lost; one that is no longer where it is said to be stays."""

    async def speculate(self, job: JobId, tasks: Sequence[TaskId], epoch: int) -> None:
        """Allow each of these tasks a second holder on another worker."""

    async def release_dead(
        self, job: JobId, leases: Iterable[tuple[TaskId, Incarnation]], epoch: int
    ) -> None:
        """Give back the leases of dead lives, so that others can claim the tasks at once."""

    async def end_job(
        self, record: JobRecord, tasks: Iterable[TaskRecord], epoch: int, history_seconds: float
    ) -> None:
        """Write the final records, close the claims (from now: GONE), delete spec, splits and map results.

        What stays expires after `history_seconds`.
        """

    async def restore(self, epoch: int) -> Sequence[RestoredJob]:
        """Read every unfinished job and raise its epoch to ours."""

    async def forgotten(self, jobs: Iterable[JobId]) -> Sequence[JobId]:
        """Those of these jobs of which the store has lost writes that it had acknowledged to this client.

        It was emptied, or came back as it was some time ago. One round trip for hundreds of jobs.
        """

    async def rewrite(self, job: RestoredJob, epoch: int, lease_seconds: float) -> None:
        """Raise an unfinished job in such a store to what is known of it: see `mr.protocol.claims.catch_up`.

        What the store knows beyond that stays. Leases of attempts that it had lost begin anew.
        """

    async def prune_jobs(self) -> None:
        """Let go of what is kept for jobs that are no longer remembered."""

    async def claims(self, job: JobId) -> Mapping[TaskId, Claim]:
        """All claims of a job that were ever asked for. Raises StoreBehind as writes do."""

    async def outcomes(self, job: JobId, tasks: Sequence[TaskId]) -> Mapping[TaskId, Outcome]:
        """What is recorded of each of these tasks, read in one step; of an unknown task an empty Outcome.

        Raises StoreBehind as writes do.
        """

    # --- jobs, as everybody reads them

    async def get_job(self, job: JobId) -> JobRecord | None:
        """A job's record; None when there is none such."""

    async def list_jobs(self) -> Sequence[JobRecord]:
        """All jobs still remembered, newest first."""

    async def get_spec(self, job: JobId) -> JobSpec | None:
        """An unfinished job's spec; None once it has ended."""

    async def get_tasks(self, job: JobId) -> Sequence[TaskRecord]:
        """The accounts of all tasks of a job, in order of task id."""

    async def get_results(self, job: JobId, kind: TaskKind) -> Mapping[TaskId, TaskResult]:
        """The committed results of one kind of task."""

    async def map_outputs(self, job: JobId) -> PackedOutputs:
        """Where the committed map outputs lie: for a reducer, and cheap however many they are."""

    # --- tasks, as workers see them

    async def claim(
        self, job: JobId, task: TaskId, worker: WorkerId, incarnation: Incarnation, lease_seconds: float
    ) -> ClaimReply:
        """Ask for the right to run a task: see `mr.protocol.claims.grant`."""

    async def renew(
        self, job: JobId, attempts: Mapping[TaskId, int], incarnation: Incarnation, lease_seconds: float
    ) -> Sequence[TaskId]:
        """Extend the leases of running attempts; returns those that are to stop."""

    async def commit(self, job: JobId, task: TaskId, attempt: int, result: TaskResult) -> bool:
        """Record a result; False: another attempt's counts, or the job is over."""

    async def relocate(
        self, job: JobId, moved: Mapping[TaskId, tuple[Placement, MapOutput]]
    ) -> Collection[TaskId]:
        """Record that committed map outputs lie elsewhere now, their statistics unchanged.

        Returns those that were still where they are said to have been; of the others nothing changes.
        """

    async def release(self, job: JobId, task: TaskId, attempt: int) -> None:
        """Give the lease of a failed or stopped attempt back."""

    async def put_log(self, job: JobId, task: TaskId, attempt: int, text: str, limit_bytes: int) -> None:
        """Keep what an attempt printed (already bounded), while the job's come to `limit_bytes` at most.

        The first that is too much is kept as LOGS_FULL, what comes after it not at all.
        """

    async def get_logs(self, job: JobId) -> Mapping[str, str]:
        """What attempts printed, by `task id/attempt`."""

    # --- workers

    async def heartbeat(
        self, beat: WorkerBeat, lease_seconds: float, replaces: WorkerBeat | None = None
    ) -> WorkerView | None:
        """Say that this worker lives, and what it does. Returns None, or who has its id: nothing is written.

        An id belongs to one life at a time, until that one leaves or is silent for its lease. Another gets
        it sooner where `replaces` is still the owner's last beat. The owner takes it back by beating again
        before its lease would have run out.
        """

    async def forget_worker(self, worker: WorkerId, incarnation: Incarnation) -> None:
        """Remove a worker that leaves in good order, unless another life has its id."""

    # What workers are asked on `mr.control` stands here: the message only wakes them.

    async def pause_worker(self, worker: WorkerId, pause: Pause) -> None:
        """Ask a worker to take no tasks for a while."""

    async def worker_pause(self, worker: WorkerId) -> Pause | None:
        """What is left of a worker's pause; None when there is none."""

    async def drain_worker(self, worker: WorkerId, incarnation: Incarnation) -> None:
        """Ask one life of a worker to finish what it runs and leave."""

    async def is_to_drain(self, worker: WorkerId, incarnation: Incarnation) -> bool:
        """Whether this life of a worker was asked to leave."""

    async def workers(self) -> Sequence[WorkerView]:
        """All workers heard of within WORKER_MEMORY_SECONDS, live or not, by id."""


class Clock(Protocol):
    """Time, so that tests can turn it."""

    def now(self) -> float:
        """Seconds that never go back, from some start: what every decision is taken by."""

    def wall(self) -> float:
        """Seconds since the epoch, as far as the machine's clock is right: for display alone."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""
