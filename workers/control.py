"""What the coordinator tells workers on `mr.control`, carried out."""

import logging

from mr.errors import BadMessage
from mr.ports import Delivery
from mr.protocol.codec import decode
from mr.protocol.ids import WorkerId, is_id
from mr.protocol.messages import Control, DrainWorker, EndJob, PauseWorker, StopAttempt
from workers.heartbeat import Heart
from workers.holding import StopReason
from workers.runner import TaskRunner

log = logging.getLogger(__name__)


class ControlDesk:
    """Takes control messages for one worker."""

    def __init__(self, worker: WorkerId, runner: TaskRunner, heart: Heart) -> None:
        self._worker = worker
        self._runner = runner
        self._heart = heart

    async def on_delivery(self, delivery: Delivery) -> None:
        """Carry one message out, then acknowledge it. What cannot be read is logged: nobody can resend it."""
        try:
            message: Control = decode(delivery.body, Control, delivery.content_type)  # type: ignore[arg-type]
        except BadMessage as error:
            log.warning("a control message cannot be read: %s", error)
        else:
            await self._carry_out(message)
        await delivery.ack()

    async def _carry_out(self, message: Control) -> None:
        match message:
            case EndJob(job_id=job) if is_id(job):
                await self._runner.end_job(job)
            case StopAttempt(job_id=job, task_id=task, winner=winner):
                self._runner.stop_matching(
                    lambda a: (a.job, a.task) == (job, task) and a.number != winner, StopReason.SUPERSEDED
                )
            case PauseWorker(worker=worker) if worker == self._worker:
                await self._heart.pause(message)
            case DrainWorker(worker=worker) if worker == self._worker:
                self._heart.draining.set()
            case _:
                return
