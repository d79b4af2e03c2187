"""The real TaskRunner over a store in memory, with a scripted broker and executor: no process, no thread."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from mr.adapters.memory.store import MemoryStore
from mr.ports.broker import OnDelivery, OutgoingMessage
from mr.protocol.claims import Verdict
from mr.protocol.codec import decode, encode
from mr.protocol.failures import Failure, FailureKind
from mr.protocol.ids import AttemptId, CodeId, Incarnation, JobId, TaskId, TaskKind, WorkerId, task_kind
from mr.protocol.jobs import JobSpec
from mr.protocol.messages import WIRE_VERSION, Report, TaskMessage
from mr.protocol.queues import REPORTS_QUEUE
from mr.protocol.records import JobState, MapOutput, PartOutput, TaskResult, TaskStats
from mr.settings import Settings
from mr.workers.daemon.claimed_attempt import StopReason
from mr.workers.daemon.spool import Spool
from mr.workers.daemon.task_runner import TaskRunner
from mr.workers.messages import RunTask, WorkerIdentity
from mr.workers.process.executor import Outcome
from mr.workers.shuffle.transfer.served_outputs import ServedOutputs
from tests.support.await_points import AwaitPoints
from tests.support.entries import write_part
from tests.support.job_records import job_record
from tests.support.specs import CODE, CODE_ID, make_splits

WORKER, OTHER = WorkerId("w1"), WorkerId("w2")
LIFE, OTHER_LIFE = Incarnation("life-1"), Incarnation("life-2")
LEASE_SECONDS = 60.0


class ScriptedDelivery:
    """A delivery that notes how it was settled."""

    content_type: str | None = "application/msgpack"
    type: str | None = "task"
    routing_key = "mr.tasks"
    reply_to = None
    correlation_id = None
    redelivered = False

    def __init__(self, body: bytes, points: AwaitPoints) -> None:
        self.body = body
        self.settled: list[str] = []
        self._points = points

    async def ack(self) -> None:
        """Note it."""
        await self._points.point("before ack")
        self.settled.append("ack")
        await self._points.point("after ack")

    async def reject(self, *, requeue: bool) -> None:
        """Note it."""
        await self._points.point("before reject")
        self.settled.append("requeue" if requeue else "drop")
        await self._points.point("after reject")


class ScriptedBroker:
    """Keeps what is published, and the one consumer."""

    def __init__(self) -> None:
        self.reports: list[Report] = []
        self.on_delivery: OnDelivery | None = None
        self.prefetch = 0

    async def consume(self, queue: str, on_delivery: OnDelivery, *, prefetch: int) -> "ScriptedBroker":
        """Take the consumer."""
        self.on_delivery, self.prefetch = on_delivery, prefetch
        return self

    async def set_prefetch(self, prefetch: int) -> None:
        """Take the consumer's prefetch."""
        self.prefetch = prefetch

    async def cancel(self) -> None:
        """End the subscription."""
        self.prefetch = 0

    async def publish(self, message: OutgoingMessage) -> None:
        """Keep a report."""
        assert message.routing_key == REPORTS_QUEUE
        self.reports.append(decode(message.body, Report))  # type: ignore[arg-type]


class ScriptedExecutor:
    """Plays the child processes: an attempt writes its files, then ends as `fails` and `prints` say."""

    def __init__(self, points: AwaitPoints) -> None:
        self._points = points
        self._killed: set[AttemptId] = set()
        self._running: set[AttemptId] = set()
        self.fails: Failure | None = None
        self.prints = ""
        #: How one run fails, where that differs from run to run of an attempt.
        self.fails_in: Callable[[RunTask], Failure | None] | None = None
        #: What others do while a task runs, without an await of the worker.
        self.meanwhile: Callable[[TaskId], Awaitable[None]] | None = None

    async def run(self, run_task: RunTask, on_start: Any = None) -> Outcome:
        """Run one attempt."""
        key = run_task.attempt
        await self._points.point("before start")
        self._running.add(key)
        if on_start is not None:
            on_start()
        await self._points.point("task runs")
        result = self._write(run_task)
        if self.meanwhile is not None:
            await self.meanwhile(run_task.attempt.task)
        await self._points.point("task has written")
        if key in self._killed:
            outcome = Outcome(printed=self.prints)
        elif failure := self.fails if self.fails_in is None else self.fails_in(run_task):
            outcome = Outcome(failure=failure, printed=self.prints)
        else:
            outcome = Outcome(result=result, printed=self.prints)
        # A stop from here on is too late: the process has ended.
        await self._points.point("task has ended")
        self._running.discard(key)
        return outcome

    @staticmethod
    def _write(run_task: RunTask) -> TaskResult:
        work_dir = Path(run_task.work_dir)
        if task_kind(run_task.attempt.task) is run_task.spec.output_kind:
            return TaskResult(write_part(run_task), TaskStats())
        path = work_dir / "segments"
        path.write_bytes(b"onetwo")
        identity = run_task.identity
        where = (identity.worker, identity.incarnation, identity.address, identity.host, str(path))
        return TaskResult(MapOutput(run_task.attempt, *where), TaskStats())

    def stop(self, key: AttemptId) -> None:
        """Kill what runs; no effect on others."""
        if key in self._running:
            self._killed.add(key)

    def forget_job(self, job: JobId) -> None:
        """Nothing is kept of a job."""


class ScriptedWorker:
    """A runner, its ports, and what became of the deliveries handed to it."""

    def __init__(self, directory: Path, settings: Settings | None = None) -> None:
        self.points = AwaitPoints()
        self.directory = directory
        self.store = MemoryStore(lambda: 1000.0)
        self.broker = ScriptedBroker()
        self.executor = ScriptedExecutor(self.points)
        self.outputs = ServedOutputs()
        #: How many points were passed when the worker had been closed: nothing but hand-backs follows.
        self.closed_at: int | None = None
        self.spool = Spool(directory / "spool", WORKER, LIFE)
        self.runner = TaskRunner(
            settings or Settings(lease_seconds=LEASE_SECONDS),
            self.points.wrap(self.broker),
            self.points.wrap(self.store),
            identity=WorkerIdentity(WORKER, LIFE, "here:1", "host"),
            slots=2,
            spool=self.spool,
            executor=self.executor,  # type: ignore[arg-type]
            outputs=self.outputs,
            on_change=lambda: None,
        )

    async def open(self, spec: JobSpec) -> None:
        """Connect, create a job, and begin to consume."""
        await self.store.connect()
        await self.store.put_code(CodeId(CODE_ID), CODE, spec.code, 3600.0)
        splits = make_splits(spec.maps)
        assert await self.store.create_job(spec, splits, job_record(spec.job_id, reduces=spec.reduces), 1)
        await self.runner.start(2)

    async def deliver(self, job: JobId, task: TaskId) -> ScriptedDelivery:
        """Hand one task message over and return when it was dealt with."""
        delivery = ScriptedDelivery(encode(TaskMessage(WIRE_VERSION, job, task)), self.points)
        assert self.broker.on_delivery is not None
        await self.broker.on_delivery(delivery)
        return delivery

    # --- what others do to a task meanwhile

    async def commit_elsewhere(self, job: JobId, task: TaskId) -> None:
        """Have another worker run the task, too, and commit it, if it still may."""
        await self.store.speculate(job, [task], 1)
        reply = await self.store.claim(job, task, OTHER, OTHER_LIFE, LEASE_SECONDS)
        if reply.verdict is Verdict.GRANTED:
            where = (OTHER, OTHER_LIFE, "there:1", "elsewhere", "/there")
            output: MapOutput | PartOutput = MapOutput(AttemptId(job, task, reply.attempt), *where)
            if task_kind(task) is TaskKind.REDUCE:
                output = PartOutput(AttemptId(job, task, reply.attempt), *where[:2], 1, 4, "0" * 16)
            await self.store.commit(AttemptId(job, task, reply.attempt), TaskResult(output, TaskStats()))

    async def take_over(self, job: JobId, task: TaskId) -> None:
        """Have the lease run out and another worker take the task."""
        for holder in (await self.store.claims(job))[task].holders:
            await self.store.release(AttemptId(job, task, holder.attempt), holder.incarnation)
        await self.store.claim(job, task, OTHER, OTHER_LIFE, LEASE_SECONDS)

    async def end_job(self, job: JobId) -> None:
        """Cancel the job in the store, as a coordinator does, and tell the runner."""
        await self.store.end_job(job_record(job, state=JobState.CANCELLED), [], 1, 3600.0)
        await self.runner.end_job(job)

    async def close(self) -> None:
        """Do what a worker does that is killed in good order: stop all, hand back, wait."""
        self.runner.refuse()
        self.runner.stop_matching(lambda attempt: True, StopReason.WORKER_STOPPING)
        await self.runner.close_intake()
        await self.runner.idle()
        self.closed_at = len(self.points.names)

    def files(self) -> list[str]:
        """What lies in the spool below its jobs, as `job/...`."""
        jobs = self.spool.directory / "jobs"
        return sorted(str(path.relative_to(jobs)) for path in jobs.rglob("*") if path.is_file())


USER_ERROR = Failure(FailureKind.USER_ERROR, "ValueError: no")
