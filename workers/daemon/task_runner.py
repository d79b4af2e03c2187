"""Takes task messages, claims the tasks, runs them, and reports how they ended.

The order of effects of an attempt that succeeds: data on disk -> result in the store -> part renamed ->
report confirmed -> delivery acknowledged. Of one that fails: claim released -> report confirmed -> delivery
acknowledged. If the worker dies between any two of them, the rest is done again.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path

import msgspec

from mr.dead_letters import dead_letter
from mr.error_text import error_text, fault
from mr.errors import BadMessage, MrError
from mr.formats.output.directory import publish_part
from mr.guards import FATAL, guarded
from mr.ports.broker import Broker, Consumer, Delivery
from mr.ports.store import StateStore
from mr.protocol.claims import Verdict
from mr.protocol.codec import decode, encode, pack
from mr.protocol.failures import Failure, FailureKind
from mr.protocol.ids import AttemptId, JobId, TaskId, is_id, is_task_id
from mr.protocol.jobs import JobSpec
from mr.protocol.messages import WIRE_VERSION, TaskCommitted, TaskFailed, TaskMessage
from mr.protocol.queues import TASKS_QUEUE
from mr.protocol.records import MapOutput, PartOutput, TaskResult
from mr.settings import Settings
from mr.workers.daemon.claimed_attempt import HeldAttempt, Stopped, StopReason
from mr.workers.daemon.lifecycle import BEFORE_COMMIT, AttemptEvent
from mr.workers.daemon.preparation import Preparation, Unprepared
from mr.workers.daemon.record_search import RecordSearch
from mr.workers.daemon.reports import encode_report, publish_report
from mr.workers.daemon.spool import Spool
from mr.workers.messages import RunTask, WorkerIdentity
from mr.workers.process.executor import Executor, Outcome
from mr.workers.shuffle.transfer.served_outputs import ServedOutputs

log = logging.getLogger(__name__)

#: Ended jobs that are remembered, for claims that were granted while the end was announced.
_ENDED_JOBS = 1000


class TaskRunner:
    """Runs the tasks of one worker, `slots` at a time."""

    def __init__(
        self,
        settings: Settings,
        broker: Broker,
        store: StateStore,
        *,
        identity: WorkerIdentity,
        slots: int,
        spool: Spool,
        executor: Executor,
        outputs: ServedOutputs,
        on_change: Callable[[], None],
    ) -> None:
        """`on_change` is called when an attempt starts or ends."""
        self._settings = settings
        self._broker = broker
        self._store = store
        self._identity = identity
        self._spool = spool
        self._executor = executor
        self._outputs = outputs
        self._on_change = on_change
        self._preparation = Preparation(store, spool, settings, identity)
        # More deliveries than slots can be here: those from before a reconnect still run.
        self._slots = asyncio.Semaphore(slots)
        self._attempts: dict[AttemptId, HeldAttempt] = {}
        self._ended: OrderedDict[JobId, None] = OrderedDict()
        #: Ended jobs whose map outputs are kept for a resume, in the order of their end.
        self._kept: dict[JobId, None] = {}
        #: Jobs whose files are being deleted, each with what is set when they are.
        self._ending: dict[JobId, asyncio.Event] = {}
        self._consumer: Consumer | None = None
        self._closing = False
        #: Deliveries whose claim is being asked for or held; `_idle` is set when there are none.
        self._busy = 0
        self._idle = asyncio.Event()
        self._idle.set()
        #: Set when the broker sends no more, so that deliveries handed back go to other workers.
        self._unsubscribed = asyncio.Event()
        self.committed = 0
        self.failed = 0

    # --- from outside

    async def start(self, prefetch: int) -> None:
        """Begin to take tasks."""
        self._consumer = await self._broker.consume(
            TASKS_QUEUE, guarded(self._broker, self._on_delivery), prefetch=prefetch
        )

    async def set_open_slots(self, count: int) -> None:
        """Take at most this many tasks at once; with 0 none. What runs goes on."""
        if self._consumer is not None and not self._closing:
            await self._consumer.set_prefetch(count)

    def refuse(self) -> None:
        """Start nothing more, even if it is still delivered."""
        self._closing = True

    async def close_intake(self) -> None:
        """Take no more tasks."""
        self.refuse()
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await consumer.cancel()
        self._unsubscribed.set()

    async def idle(self) -> None:
        """Wait until no attempt is left and no claim is being asked for."""
        await self._idle.wait()

    @property
    def is_idle(self) -> bool:
        """Whether no attempt is left."""
        return self._idle.is_set()

    @property
    def jobs_served(self) -> int:
        """Of how many jobs this worker serves map outputs."""
        return sum(job not in self._kept for job in self._outputs.jobs())

    def leased(self) -> Mapping[JobId, Mapping[TaskId, int]]:
        """The attempts whose leases are to be renewed, by job."""
        found: dict[JobId, dict[TaskId, int]] = {}
        for attempt in self._attempts.values():
            if attempt.leased:
                found.setdefault(attempt.id.job, {})[attempt.id.task] = attempt.id.number
        return found

    def stop_matching(self, matches: Callable[[HeldAttempt], bool], reason: StopReason) -> list[HeldAttempt]:
        """Stop the attempts that `matches` selects; returns them."""
        chosen = [attempt for attempt in self._attempts.values() if matches(attempt)]
        for attempt in chosen:
            attempt.stop(reason)
            if attempt.stopping:
                log.info("stopping %s: %s", attempt.id, reason)
                self._executor.stop(attempt.id)
        return chosen

    def stop(self, attempts: Collection[AttemptId], reason: StopReason) -> None:
        """Stop the attempts named; no effect on others."""
        self.stop_matching(lambda attempt: attempt.id in attempts, reason)

    async def end_job(self, job: JobId, *, keep_outputs: bool = False) -> None:
        """Kill the job's attempts and delete its files, or all but its map outputs."""
        while (ending := self._ending.get(job)) is not None:
            await ending.wait()
        self._ending[job] = asyncio.Event()
        try:
            await self._end_job(job, keep_outputs=keep_outputs)
        finally:
            self._ending.pop(job).set()

    async def _end_job(self, job: JobId, *, keep_outputs: bool) -> None:
        self._ended[job] = None
        while len(self._ended) > _ENDED_JOBS:
            self._ended.popitem(last=False)
        for attempt in self.stop_matching(lambda a: a.id.job == job, StopReason.JOB_ENDED):
            await attempt.ended.wait()
        self._kept.pop(job, None)
        if keep_outputs:
            self._kept[job] = None
        else:
            self._outputs.remove_job(job)
        self._preparation.forget(job)
        self._executor.forget_job(job)
        await asyncio.to_thread(self._spool.drop_job, job, keep_outputs=keep_outputs)

    @property
    def kept(self) -> tuple[JobId, ...]:
        """The ended jobs whose map outputs are kept here, in the order of their end."""
        return tuple(self._kept)

    # --- one delivery

    async def _on_delivery(self, delivery: Delivery) -> None:
        try:
            message = _read(delivery)
        except BadMessage as error:
            log.warning("a message on %s cannot be read: %s", TASKS_QUEUE, error)
            await dead_letter(self._broker, delivery, str(error))
            await delivery.ack()
            return
        async with self._slots:
            if self._closing:
                await self._unsubscribed.wait()
                await delivery.reject(requeue=True)
                return
            self._busy += 1
            self._idle.clear()
            try:
                await self._claim(message.job_id, message.task_id, delivery)
            finally:
                self._busy -= 1
                if not self._busy:
                    self._idle.set()

    async def _claim(self, job: JobId, task: TaskId, delivery: Delivery) -> None:
        """Ask the store whether the task may run here, and run it; else acknowledge the hint."""
        reply = await self._store.claim(
            job, task, self._identity.worker, self._identity.incarnation, self._settings.lease_seconds
        )
        if reply.verdict is Verdict.COMMITTED:  # its worker may have died between commit and report
            await self._report_committed(AttemptId(job, task, reply.attempt))
        if reply.unreadable:
            log.error("%s %s: %s", job, task, reply.unreadable)
        if reply.verdict is not Verdict.GRANTED:
            log.debug("%s %s is %s", job, task, reply.verdict)
            await delivery.ack()
            return
        # A lease of this worker that ran out unnoticed: the newer attempt goes on.
        self.stop_matching(lambda a: a.id[:2] == (job, task), StopReason.LEASE_LOST)
        attempt = HeldAttempt(AttemptId(job, task, reply.attempt), reply.split, delivery, reply.resumed)
        while (ending := self._ending.get(job)) is not None:
            await ending.wait()  # what is being deleted must not be what this attempt makes
        if job in self._ended:
            await self._look_again(job)
        # A store that came back older gives a number again. The two would share their files, so one follows
        # the other; if the first was not stopped, it has committed or failed for both.
        while (older := self._attempts.get(attempt.id)) is not None:
            await older.ended.wait()
            if older.stop_reason is None:
                await delivery.ack()
                return
        self._attempts[attempt.id] = attempt
        if job in self._ended:  # while the store was asked
            attempt.stop(StopReason.JOB_ENDED)
        elif self._closing:
            attempt.stop(StopReason.WORKER_STOPPING)
        self._on_change()
        try:
            await self._run(attempt, reply.unreadable)
        except FATAL:
            raise
        except Exception as error:
            log.exception("the worker failed over %s", attempt.id)
            await self._give_up(attempt, error)
        finally:
            del self._attempts[attempt.id]
            attempt.ended.set()
            self._on_change()

    async def _look_again(self, job: JobId) -> None:
        """Let a job run that ended here, if it was resumed, or forgotten by the store and submitted again."""
        del self._ended[job]
        record = await self._store.get_job(job)
        if record is None or record.state.terminal:
            self._ended[job] = None
        else:
            self._kept.pop(job, None)

    async def _give_up(self, attempt: HeldAttempt, error: Exception) -> None:
        """Report an attempt over which the worker itself failed, in whatever state it was."""
        self._executor.stop(attempt.id)
        if attempt.state in BEFORE_COMMIT:
            await asyncio.to_thread(self._drop_files, attempt)
        await self._store.release(attempt.id, self._identity.incarnation)
        message = f"the worker {self._identity.worker} failed over this task: {fault(error)}"
        await self._report_failed(attempt, Failure(FailureKind.INFRASTRUCTURE, message))
        await attempt.delivery.ack()

    async def _report_committed(self, attempt: AttemptId) -> None:
        report = TaskCommitted(attempt, self._identity.worker, self._identity.incarnation)
        await publish_report(self._broker, encode_report(report))

    # --- one attempt

    async def _run(self, attempt: HeldAttempt, unreadable: str) -> None:
        """Take an attempt to its end; `unreadable`: why its input cannot be read, empty if it can."""
        try:
            end = await self._work(attempt, unreadable)
        except Stopped:
            attempt.advance(AttemptEvent.KILLED)
            await self._discard(attempt)
            return
        # Nothing was awaited since the last check for a stop, and from the next step on a stop has no effect.
        if isinstance(end, Failure):
            await self._fail(attempt, end)
        else:
            await self._commit(attempt, *end)

    async def _work(self, attempt: HeldAttempt, unreadable: str) -> tuple[TaskResult, JobSpec] | Failure:
        """Prepare and run an attempt; returns its result and its job, or how it failed.

        A stop, the end of the job, a lost lease or a close may come at every await. Raises Stopped then.
        """
        attempt.check()
        if unreadable:
            # A worker of another version may be able to read it. If none can, the job fails in the end.
            return Failure(FailureKind.INFRASTRUCTURE, unreadable)
        try:
            run_task = await attempt.unless_stopped(self._preparation.run_task(attempt))
        except Unprepared as error:
            return error.failure
        if run_task is None:
            attempt.stop(StopReason.JOB_ENDED)
            raise Stopped
        attempt.advance(AttemptEvent.PREPARED)
        run = partial(self._run_child, attempt)
        if run_task.split is not None and run_task.spec.options.skip_bad_records is not None:
            outcome = await RecordSearch(run_task, run_task.split, run).outcome()
            attempt.check()
        else:
            outcome = await run(run_task)
        return await self._keep(attempt, run_task, outcome)

    async def _run_child(self, attempt: HeldAttempt, run_task: RunTask) -> Outcome:
        """Run an attempt in a child process. Raises Stopped if a stop came before its end."""
        attempt.check()
        outcome = await self._executor.run(run_task, on_start=lambda: self._stop_if_asked(attempt))
        if outcome.printed:  # also that of an attempt that was stopped: `mr logs` shows it
            await self._store.put_log(attempt.id, outcome.printed, self._settings.log_total_bytes)
        if outcome.stopped and not attempt.stopping:
            attempt.stop(StopReason.WORKER_STOPPING)  # the executor was closed around it
        attempt.check()
        return outcome

    def _stop_if_asked(self, attempt: HeldAttempt) -> None:
        """Let a stop take effect that came while the child was being started."""
        if attempt.stopping:
            self._executor.stop(attempt.id)
        self._on_change()

    async def _keep(
        self, attempt: HeldAttempt, run_task: RunTask, outcome: Outcome
    ) -> tuple[TaskResult, JobSpec] | Failure:
        """Move a finished map output to where it stays; returns the result and the job, or what failed.

        Raises Stopped; the output is served only if no stop has come.
        """
        if outcome.result is None:
            failure = outcome.failure
            if failure is not None and failure.lost:
                failure = await attempt.unless_stopped(self._preparation.look_again(attempt.id.job, failure))
            return failure or Failure(FailureKind.INFRASTRUCTURE, "the task ended without an answer")
        result = outcome.result
        if isinstance(result.output, MapOutput):
            made = Path(result.output.path)
            output = msgspec.structs.replace(result.output, path=str(self._spool.output_path(attempt.id)))
            try:
                await attempt.unless_stopped(
                    asyncio.to_thread(self._spool.keep_output, attempt.id, made, pack(output))
                )
            except OSError as error:
                reason = error_text(error)
                return Failure(FailureKind.INFRASTRUCTURE, f"the map output cannot be kept: {reason}")
            result = msgspec.structs.replace(result, output=output)
        try:
            encode(result)
        except BadMessage as error:
            return Failure(FailureKind.BAD_JOB, f"{error}; the job keeps too many counters")
        if isinstance(result.output, MapOutput):
            # Offered before it is recorded, so that no reducer can ask too early.
            self._outputs.add(run_task.spec.token, result.output)
        return result, run_task.spec

    async def _commit(self, attempt: HeldAttempt, result: TaskResult, spec: JobSpec) -> None:
        """Record the result, publish its part and report it; discard it if another attempt has committed."""
        attempt.advance(AttemptEvent.FINISHED)
        if not await self._store.commit(attempt.id, result, attempt.resumed):
            attempt.advance(AttemptEvent.LOST)
            await self._discard(attempt)
            return
        attempt.advance(AttemptEvent.WON)
        if isinstance(result.output, PartOutput):
            await self._publish_part(spec, result.output)
        await asyncio.to_thread(self._spool.drop_attempt, attempt.id)
        self.committed += 1
        await self._report_committed(attempt.id)
        await self._settle(attempt, AttemptEvent.REPORTED)

    @staticmethod
    async def _publish_part(spec: JobSpec, part: PartOutput) -> None:
        """Rename a committed part. If that fails, the coordinator does it at the end of the job."""
        try:
            await asyncio.to_thread(publish_part, spec.output, spec.job_id, part, spec.options.output_format)
        except (OSError, MrError) as error:
            log.warning("%s %s could not be given its name yet: %s", spec.job_id, part.attempt.task, error)

    async def _fail(self, attempt: HeldAttempt, failure: Failure) -> None:
        """Release, report, acknowledge."""
        attempt.advance(AttemptEvent.FAILED)
        log.warning("%s failed: %s: %s", attempt.id, failure.kind, failure.message)
        self.failed += 1
        await asyncio.to_thread(self._drop_files, attempt)
        await self._store.release(attempt.id, self._identity.incarnation)
        attempt.advance(AttemptEvent.RELEASED)
        await self._report_failed(attempt, failure)
        await self._settle(attempt, AttemptEvent.REPORTED)

    async def _report_failed(self, attempt: HeldAttempt, failure: Failure) -> None:
        report = TaskFailed(attempt.id, self._identity.worker, self._identity.incarnation, failure)
        await publish_report(self._broker, encode_report(report))

    async def _discard(self, attempt: HeldAttempt) -> None:
        """Delete what the attempt made, without a report. A stopping worker hands the task to another."""
        self._outputs.remove(attempt.id)
        await asyncio.to_thread(self._drop_files, attempt)
        requeue = attempt.stop_reason is StopReason.WORKER_STOPPING
        if requeue:
            await self._store.release(attempt.id, self._identity.incarnation)
        await self._settle(attempt, AttemptEvent.DISCARDED, requeue=requeue)

    async def _settle(self, attempt: HeldAttempt, event: AttemptEvent, *, requeue: bool = False) -> None:
        attempt.advance(event)
        if requeue:
            await self._unsubscribed.wait()
            await attempt.delivery.reject(requeue=True)
        else:
            await attempt.delivery.ack()
        attempt.advance(AttemptEvent.ACKNOWLEDGED)

    def _drop_files(self, attempt: HeldAttempt) -> None:
        self._spool.drop_attempt(attempt.id)
        self._spool.drop_output(self._spool.output_path(attempt.id))


def _read(delivery: Delivery) -> TaskMessage:
    """Decode a task message. Raises BadMessage."""
    message = decode(delivery.body, TaskMessage, delivery.content_type)
    if message.version != WIRE_VERSION:
        raise BadMessage(f"wire version {message.version}; this worker speaks {WIRE_VERSION}")
    if not is_id(message.job_id) or not is_task_id(message.task_id):
        raise BadMessage(f"{message.job_id!r} {message.task_id!r} is not a job id and a task id")
    return message
