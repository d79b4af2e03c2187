"""What can be asked of a cluster: submit, look, watch, cancel, drain. It knows the ports only."""

import asyncio
import re
import secrets
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

import msgspec

from mr.async_tools import wait_for_event
from mr.bundle import Bundle
from mr.errors import BadJob, BadMessage, BrokerUnavailable, ClusterUnreachable, MrError, NotFound
from mr.formats.output.directory import read_manifest
from mr.ports.broker import Broker, Delivery, OutgoingMessage
from mr.ports.store import StateStore
from mr.protocol import codec, queues
from mr.protocol.claims import Claim
from mr.protocol.codec import every_field
from mr.protocol.ids import CodeId, JobId, TaskId, WorkerId, is_id, task_sort_key
from mr.protocol.jobs import CancelRequest, CodeManifest, JobRequest, RequestReply, ResumeRequest
from mr.protocol.messages import DrainWorker
from mr.protocol.records import (
    JobRecord,
    JobState,
    Manifest,
    Refusal,
    RunningTask,
    TaskRecord,
    TaskState,
    WorkerBeat,
    WorkerView,
)
from mr.settings import Settings

#: How often a watched job is looked at when no event of it arrives.
WATCH_SECONDS = 0.5


class Unanswered(ClusterUnreachable):
    """The request waits in `mr.jobs`, but no coordinator has answered. Start one: `mr coordinator`."""


class Stall(msgspec.Struct, frozen=True):
    """A running attempt that has finished no record for longer than `stall_seconds`."""

    task_id: TaskId
    attempt: int
    worker: WorkerId
    seconds: float
    phase: str
    #: The record at work, where it is known.
    record: str


class Snapshot(msgspec.Struct, frozen=True):
    """A job at one moment: its record, and what the workers' slots do for it."""

    record: JobRecord
    running: tuple[RunningTask, ...]
    #: For how long no coordinator has been heard of, in words; empty while one leads.
    missing: str = ""
    #: The longest first.
    stalled: tuple[Stall, ...] = ()
    #: Whether the job has ended and `mr resume` lets it go on.
    resumable: bool = False

    @property
    def fields(self) -> dict[str, Any]:
        """What `--json` shows: the fields of the record, and `stalled`."""
        return {**every_field(self.record), "stalled": every_field(self.stalled)}

    @property
    def waiting_for(self) -> str:
        """What keeps the job from going on; empty when nothing does."""
        return ", ".join(filter(None, (self.missing, self.record.waiting_for)))


class TaskView(msgspec.Struct, frozen=True):
    """A task's record, with what its worker last reported of the running attempt."""

    record: TaskRecord
    running: RunningTask | None


def new_job_id(name: str) -> JobId:
    """Make a unique id from a job's name and the time: `wordcount-20261123-142501-3fa9c1`."""
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._")[:32] or "job"
    return JobId(f"{stem}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}")


class Viewer:
    """Looks at jobs, tasks and workers, and keeps code; needs the store alone."""

    def __init__(self, store: StateStore, settings: Settings) -> None:
        self.store = store
        self.settings = settings

    async def jobs(self) -> Sequence[JobRecord]:
        """All jobs still remembered, newest first."""
        return await self.store.list_jobs()

    async def find(self, text: str) -> JobRecord:
        """The job of this id, or the only one whose id begins so. Raises NotFound."""
        if is_id(text) and (record := await self.store.get_job(JobId(text))):
            return record
        found = [record for record in await self.store.list_jobs() if record.job_id.startswith(text)]
        if len(found) == 1 and text:
            return found[0]
        if found and text:
            raise NotFound(f"{text!r} may be any of {len(found)} jobs; write more of the id")
        if (refusal := await self.refusal(text)) is not None:
            raise NotFound(f"there is no job {text!r}, as its request was refused: {refusal.reason}")
        raise NotFound(f"there is no job {text!r}; `mr jobs` lists those there are")

    async def refusal(self, text: str) -> Refusal | None:
        """The refusal of the request that chose this id; None when none is remembered."""
        return await self.store.get_refusal(JobId(text)) if is_id(text) else None

    async def snapshot(self, job: JobId) -> Snapshot | None:
        """The job as it stands; None when the store has no such job."""
        record = await self.store.get_job(job)
        if record is None:
            return None
        if record.state.terminal:
            return Snapshot(record, (), resumable=await self.can_be_resumed(record))
        slots = [(worker, task) for worker, task in await self._slots() if task.job_id == job]
        stalled = [
            Stall(task.task_id, task.attempt, worker, task.stalled_seconds, task.phase, task.record)
            for worker, task in slots
            if task.stalled_seconds > self.settings.stall_seconds
        ]
        stalled.sort(key=lambda stall: -stall.seconds)
        running = tuple(task for _, task in slots)
        return Snapshot(record, running, await self.missing_coordinator(), tuple(stalled))

    async def missing_coordinator(self) -> str:
        """Say for how long no coordinator has been heard of; empty while one leads."""
        silent_seconds = await self.store.coordinator_silence()
        if silent_seconds is None:
            return "no coordinator heard of"
        return f"coordinator silent for {silent_seconds:.0f} s" if silent_seconds else ""

    async def tasks(self, job: JobId) -> Sequence[TaskView]:
        """All tasks of a job, each with what heartbeats report of its newest running attempt.

        A claimed task is shown as running at once: the heartbeat that reports it comes a little later.
        """
        running: dict[str, RunningTask] = {}
        for _, task in await self._slots():
            known = running.get(task.task_id)
            if task.job_id == job and (known is None or known.attempt < task.attempt):
                running[task.task_id] = task
        claims, now = await self.store.claims(job), await self.store.server_time()
        return [
            TaskView(_claimed(record, claims.get(record.task_id, Claim()), now), running.get(record.task_id))
            for record in await self.store.get_tasks(job)
        ]

    async def workers(self) -> Sequence[WorkerView]:
        """All workers seen lately, live or not."""
        return await self.store.workers()

    async def find_worker(self, text: str) -> WorkerView:
        """The live worker of this id, or the only live one whose id begins so. Raises NotFound."""
        views = await self.store.workers()
        same = [view for view in views if view.beat.worker == text]
        found = same or [view for view in views if view.live and text and view.beat.worker.startswith(text)]
        if len(found) > 1:
            raise NotFound(f"{text!r} may be any of {len(found)} live workers; write more of the id")
        if not found:
            raise NotFound(f"there is no live worker {text!r}; `mr workers` lists those there are")
        if not found[0].live:
            raise NotFound(f"worker {text} is gone: it has been silent for {found[0].age_seconds:.0f} s")
        return found[0]

    async def incarnation(self, beat: WorkerBeat) -> WorkerView | None:
        """The same incarnation of a worker as it is now; None once it has left, or another has its id."""
        for view in await self.store.workers():
            if (view.beat.worker, view.beat.incarnation) == (beat.worker, beat.incarnation):
                return view
        return None

    async def logs(self, job: JobId, task: str | None = None) -> Mapping[str, str]:
        """What the attempts of a job, or of one task, printed, by `task id/attempt`, in order.

        Raises NotFound for a task the job does not have.
        """
        if task is not None and all(t.task_id != task for t in await self.store.get_tasks(job)):
            raise NotFound(f"job {job} has no task {task!r}; `mr tasks {job}` lists them")
        logs = await self.store.get_logs(job)
        chosen = (name for name in logs if task is None or name.rpartition("/")[0] == task)
        return {name: logs[name] for name in sorted(chosen, key=_log_order)}

    async def results(self, record: JobRecord) -> Manifest:
        """What a completed job wrote, from its `_SUCCESS`. Raises MrError when there is nothing yet."""
        if record.state is not JobState.COMPLETED:
            raise MrError(f"job {record.job_id} is {record.state}; only a COMPLETED job has results")
        manifest = await asyncio.to_thread(read_manifest, record.output)
        if manifest is None:
            raise NotFound(f"{record.output} holds no _SUCCESS that can be seen from here")
        return manifest

    async def upload(self, bundle: Bundle, manifest: CodeManifest) -> None:
        """Store code and what was found in it, so that requests may name it `sha256:...` for a time."""
        await self.store.put_code(bundle.code_id, bundle.data, manifest, self.settings.code_seconds)

    async def register(self, name: str, manifest: CodeManifest) -> None:
        """Give uploaded code a name for requests, which keeps it. Raises BadJob for an impossible one."""
        if not is_id(name):
            raise BadJob(f"{name!r} cannot be a name: letters, digits, '.', '_' and '-', at most 64")
        await self.store.register(name, manifest, self.settings.code_seconds)

    async def can_be_resumed(self, record: JobRecord) -> bool:
        """Whether a job has failed or was cancelled, and what a resume needs is still kept."""
        ended = record.state in (JobState.FAILED, JobState.CANCELLED)
        return ended and await self.store.get_spec(record.job_id) is not None

    async def _slots(self) -> list[tuple[WorkerId, RunningTask]]:
        """What the slots of the live workers do."""
        views = await self.store.workers()
        return [(view.beat.worker, task) for view in views if view.live for task in view.beat.running]


def _claimed(record: TaskRecord, claim: Claim, now: float) -> TaskRecord:
    """The record of a task, brought up to date by its claim; `now` by the store's clock."""
    holders = [holder for holder in claim.holders if holder.expires_ms > now * 1000]
    if not holders or record.state not in (TaskState.WAITING, TaskState.QUEUED):
        return record
    newest = holders[-1]
    return msgspec.structs.replace(
        record, state=TaskState.RUNNING, attempt=newest.attempt, worker=newest.worker
    )


class Client(Viewer):
    """Submits, watches and cancels jobs, and drains workers."""

    def __init__(self, broker: Broker, store: StateStore, settings: Settings) -> None:
        super().__init__(store, settings)
        self.broker = broker

    async def submit(self, request: JobRequest, timeout_seconds: float | None = None) -> RequestReply:
        """Ask for a job; the reply says that it was accepted, now or before.

        `timeout_seconds` None: `connect_seconds` where nobody listens on `mr.jobs`, else
        `reconnect_seconds`. Raises BadJob with the coordinator's reason for a refusal, Unanswered
        when the request is queued and no answer came.
        """
        reply = await self._ask(codec.encode(request, codec.JSON), "", timeout_seconds)
        if not reply.accepted:
            raise BadJob(reply.reason)
        return reply

    async def cancel(
        self, job: JobId, timeout_seconds: float | None = None, *, keep: bool = False
    ) -> RequestReply:
        """Ask to stop a job; `keep`: what has committed is kept for a resume.

        Raises BadJob when it cannot be stopped, Unanswered as `submit` does.
        """
        request = CancelRequest(version=1, job_id=job, keep=keep)
        reply = await self._ask(codec.encode(request, codec.JSON), "cancel", timeout_seconds)
        if not reply.accepted:
            raise BadJob(f"job {job} cannot be cancelled: {reply.reason}")
        return reply

    async def resume(self, record: JobRecord, code: CodeId | None = None) -> RequestReply:
        """Ask to let a failed or cancelled job go on, with other code if it is given.

        Raises BadJob with the coordinator's reason for a refusal, Unanswered as `submit` does.
        """
        request = ResumeRequest(version=1, job_id=record.job_id, job=code, resumed=record.resumed)
        reply = await self._ask(codec.encode(request, codec.JSON), "resume", None)
        if not reply.accepted:
            raise BadJob(f"job {record.job_id} cannot be resumed: {reply.reason}")
        return reply

    async def drain(self, beat: WorkerBeat) -> None:
        """Ask one incarnation of a worker to finish what it runs and leave. May be asked again."""
        await self.store.drain_worker(beat.worker, beat.incarnation)
        body = codec.encode(DrainWorker(beat.worker))
        await self.broker.publish(
            OutgoingMessage(exchange=queues.CONTROL_EXCHANGE, routing_key="", body=body, type="control")
        )

    async def watch(
        self, job: JobId, interval_seconds: float = WATCH_SECONDS, queued_since: float | None = None
    ) -> AsyncGenerator[Snapshot, None]:
        """Yield the job at each change and at least every `interval_seconds`, until it has ended.

        Waits for a job that is not there yet. Raises NotFound when one that was there stays away
        for `reconnect_seconds`; BadJob when its request, which is queued since `queued_since` (seconds by the
        store's clock), is refused.
        """
        changed = asyncio.Event()

        async def on_event(delivery: Delivery) -> None:
            changed.set()
            await delivery.ack()

        consumer = await self.broker.subscribe(
            queues.EVENTS_EXCHANGE, queues.job_event_key("*", job), on_event
        )
        missing_since: float | None = None
        seen = False
        try:
            while True:
                changed.clear()
                if queued_since is not None:
                    refusal = await self.store.get_refusal(job)
                    if refusal is not None and refusal.at >= queued_since:
                        raise BadJob(refusal.reason)
                snapshot = await self.snapshot(job)
                if snapshot is not None:
                    seen, missing_since = True, None
                    yield snapshot
                    if snapshot.record.state.terminal:
                        return
                elif seen:
                    missing_since = missing_since or time.monotonic()
                    if time.monotonic() - missing_since > self.settings.reconnect_seconds:
                        raise NotFound(f"the record of job {job} has vanished from the store")
                await wait_for_event(changed, interval_seconds)
        finally:
            await consumer.cancel()

    async def ask_store(self, timeout_seconds: float) -> str | None:
        """The identity of the coordinator's store; None when it does not answer or is of an older version."""
        try:
            return (await self._ask(b"{}", "ping", timeout_seconds)).store
        except (Unanswered, BadMessage):
            return None

    async def _ask(self, body: bytes, kind: str, timeout_seconds: float | None) -> RequestReply:
        if timeout_seconds is None:
            depth = await self.broker.depth(queues.JOBS_QUEUE)
            heard = depth.consumers > 0
            timeout_seconds = self.settings.reconnect_seconds if heard else self.settings.connect_seconds
        message = OutgoingMessage(
            routing_key=queues.JOBS_QUEUE, body=body, content_type=codec.JSON, type=kind
        )
        try:
            answer = await self.broker.request(message, timeout_seconds=timeout_seconds)
        except BrokerUnavailable:
            await self.broker.depth(queues.JOBS_QUEUE)  # raises when it is the broker that is away
            raise Unanswered from None
        try:
            return codec.decode(answer, RequestReply, codec.JSON)
        except BadMessage as error:
            raise BadMessage(f"the coordinator's answer cannot be read: {error}") from error


def _log_order(name: str) -> tuple[tuple[str, int, str], int]:
    task, _, attempt = name.rpartition("/")
    return task_sort_key(task), int(attempt) if attempt.isdigit() else 0
