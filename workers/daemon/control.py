"""Handles `mr.control`. Each message is a hint: the store is asked before anything is done."""

import logging

from mr.errors import BadMessage
from mr.guards import surviving
from mr.ports.broker import Delivery
from mr.ports.store import StateStore
from mr.protocol.codec import decode
from mr.protocol.ids import AttemptId, JobId, TaskId, is_id
from mr.protocol.messages import Control, DrainWorker, EndJob, PauseWorker, StopAttempt
from mr.settings import Settings
from mr.workers.daemon.claimed_attempt import StopReason
from mr.workers.daemon.heartbeat import Heartbeat
from mr.workers.daemon.kept_outputs import is_kept
from mr.workers.daemon.task_runner import TaskRunner
from mr.workers.messages import WorkerIdentity

log = logging.getLogger(__name__)


class ControlHandler:
    """Takes control messages for one worker."""

    def __init__(
        self,
        settings: Settings,
        store: StateStore,
        identity: WorkerIdentity,
        runner: TaskRunner,
        heartbeat: Heartbeat,
    ) -> None:
        self._settings = settings
        self._store = store
        self._identity = identity
        self._runner = runner
        self._heartbeat = heartbeat

    async def on_delivery(self, delivery: Delivery) -> None:
        """Act on a message, then acknowledge it. An unreadable one is only logged: it is a broadcast."""
        try:
            message: Control = decode(delivery.body, Control, delivery.content_type)  # type: ignore[arg-type]
            with surviving(f"following a {type(message).__name__}"):
                await self._follow(message)
        except BadMessage as error:
            log.warning("a control message, or what it is about, cannot be read: %s", error)
        await delivery.ack()

    async def _follow(self, message: Control) -> None:
        identity = self._identity
        match message:
            case EndJob(job_id=job) if is_id(job):
                await self._end_job(job)
            case StopAttempt(winner=winner):
                await self._stop_attempt(winner.job, winner.task)
            case PauseWorker(worker=worker) if worker == identity.worker:
                await self._heartbeat.pause(await self._store.worker_pause(worker))
            case DrainWorker(worker=worker) if worker == identity.worker:
                if await self._store.is_to_drain(worker, identity.incarnation):
                    self._heartbeat.draining.set()
            case _:
                return

    async def _end_job(self, job: JobId) -> None:
        """End a job here if the store says that it has ended. The heartbeat's sweep handles unknown jobs."""
        record = await self._store.get_job(job)
        if record is not None and record.state.terminal:
            await self._runner.end_job(job, keep_outputs=await is_kept(self._store, record))

    async def _stop_attempt(self, job: JobId, task: TaskId) -> None:
        """Stop the attempt of a task that runs here, unless it still holds its claim."""
        number = self._runner.leased().get(job, {}).get(task)
        if number is None:
            return
        lease_seconds = self._settings.lease_seconds
        if await self._store.renew(job, {task: number}, self._identity.incarnation, lease_seconds):
            self._runner.stop({AttemptId(job, task, number)}, StopReason.SUPERSEDED)
