"""One coordinator while it leads: feeds events to the scheduler, and carries out its commands in order."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from mr.coordinator.core.commands import CloseJob, WriteBack
from mr.coordinator.core.events import (
    CancelRequested,
    Event,
    JobAccepted,
    JobRestored,
    QueueObserved,
    ReportReceived,
    WorkersObserved,
)
from mr.coordinator.core.job_records import submitted_record
from mr.coordinator.core.scheduler import Scheduler
from mr.coordinator.effects import Effects
from mr.coordinator.intake import Intake
from mr.coordinator.outputs import Outputs
from mr.coordinator.reports import with_outcomes
from mr.coordinator.resumer import Resumer
from mr.coordinator.stored_jobs import StoredJobs
from mr.dead_letters import dead_letter
from mr.errors import BadMessage, Deposed, MrError, StoreBehind
from mr.guards import guarded, surviving
from mr.ports.broker import Broker, Delivery
from mr.ports.clock import Clock
from mr.ports.store import StateStore
from mr.protocol.codec import MAX_REPORT_BYTES, check_size, decode
from mr.protocol.ids import JobId
from mr.protocol.jobs import JobSpec, Split
from mr.protocol.messages import Report
from mr.protocol.queues import JOBS_QUEUE, REPORTS_QUEUE, TASKS_QUEUE
from mr.protocol.records import JobRecord, JobState
from mr.settings import Settings

T = TypeVar("T")

log = logging.getLogger(__name__)

#: How often lost data is written back into the store during one batch of events.
WRITE_BACK_TRIES = 3

#: Reports taken from the queue and not yet acknowledged, of at most MAX_REPORT_BYTES each.
REPORTS_PREFETCH = 200
#: Requests planned at the same time.
JOBS_PREFETCH = 8
#: How often the list of jobs is pruned.
HOUSE_SECONDS = 3600.0
#: Events whose commands are carried out together.
BATCH_EVENTS = 500


@dataclass(frozen=True, slots=True)
class _Arrival:
    """An event (None: only work for `settle`), and what to do after its commands are carried out."""

    event: Event | None
    settle: Callable[[], Awaitable[None]] | None = None
    done: asyncio.Future[None] | None = None


class Runner:
    """Feeds the scheduler and carries out what it decides, until `stop` is set or the lead is lost."""

    def __init__(
        self, settings: Settings, broker: Broker, store: StateStore, clock: Clock, holder: str, epoch: int
    ) -> None:
        self._settings = settings
        self._broker = broker
        self._store = store
        self._clock = clock
        self._holder = holder
        self._scheduler = Scheduler(settings, seed=epoch)
        self._arrivals: asyncio.Queue[_Arrival] = asyncio.Queue(maxsize=4 * BATCH_EVENTS)
        self._tasks: asyncio.TaskGroup | None = None
        self._outputs = Outputs(store, self._is_unfinished)
        self._effects = Effects(settings, broker, store, clock, self._arrive, self._spawn, self._outputs)
        self._effects.epoch = epoch
        self._jobs = StoredJobs(
            settings, store, clock, self._effects, self._scheduler.snapshot, self._hold_lead
        )
        #: The lead is renewed or won back by one at a time: an answer is about the epoch it was asked for.
        self._lead_lock = asyncio.Lock()
        resumer = Resumer(
            settings,
            store,
            clock,
            self._effects,
            self._outputs,
            self._jobs,
            self._hold_lead,
            self._arrive_and_wait,
        )
        self._intake = Intake(
            settings,
            broker,
            store,
            clock,
            self._take_job,
            self._cancel_job,
            resumer.resume,
            self._jobs.check_share,
            self._known,
        )

    @property
    def epoch(self) -> int:
        """The epoch of this lead. It grows if the lead is lost and won back."""
        return self._effects.epoch

    async def run(self, stop: asyncio.Event) -> None:
        """Lead until `stop`. Raises Deposed, StoreUnavailable or BrokerUnavailable."""
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                loops = [
                    tasks.create_task(loop, name=name)
                    for name, loop in (
                        ("decide", self._decide()),
                        ("tick", self._tick()),
                        ("lead", self._keep_lead()),
                        ("broker", self._watch_broker()),
                        ("house", self._keep_house()),
                    )
                ]
                # All jobs must be known before the first report or request arrives.
                for event in await self._jobs.restore():
                    await self._arrive(event)
                consumers = [
                    await self._broker.consume(
                        REPORTS_QUEUE,
                        guarded(self._broker, self._on_report),
                        prefetch=REPORTS_PREFETCH,
                    ),
                    await self._broker.consume(
                        JOBS_QUEUE,
                        guarded(self._broker, self._intake.on_delivery),
                        prefetch=JOBS_PREFETCH,
                    ),
                ]
                loops.append(tasks.create_task(self._clear_outputs(), name="outputs"))
                await stop.wait()
                for consumer in consumers:
                    await consumer.cancel()
                for loop in loops:
                    loop.cancel()
        except* (MrError, OSError) as group:
            raise _first(group) from None

    # --- loops

    async def _decide(self) -> None:
        """Take what has arrived, decide, act, then acknowledge. In this order nothing is lost."""
        while True:
            batch = [await self._arrivals.get()]
            while len(batch) < BATCH_EVENTS and not self._arrivals.empty():
                batch.append(self._arrivals.get_nowait())
            with surviving("handling a batch of events"):
                await self._act([arrival.event for arrival in batch if arrival.event is not None])
            for arrival in batch:
                if arrival.settle is not None:
                    with surviving("acknowledging an event"):
                        await arrival.settle()
                if arrival.done is not None and not arrival.done.done():
                    arrival.done.set_result(None)
            with surviving("handling the jobs that were written back"):
                while news := await self._jobs.news():
                    await self._act(news)

    async def _act(self, events: Sequence[Event]) -> None:
        """Decide and carry out. If the store has lost data, that is written back first."""
        begun = [event.spec.job_id for event in events if isinstance(event, JobAccepted)]
        begun += [event.job.spec.job_id for event in events if isinstance(event, JobRestored)]
        active = {*self._scheduler.active_jobs(), *begun}
        read = await self._with_whole_store(lambda: with_outcomes(self._store, events, active))
        commands = self._scheduler.handle_all(read, self._clock.wall())
        await self._with_whole_store(lambda: self._effects.perform(commands))
        for command in commands:
            if isinstance(command, CloseJob):
                self._jobs.note_ended(command)
        await self._jobs.write_back(c.job_id for c in commands if isinstance(c, WriteBack))

    async def _with_whole_store(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do some work. If the store has lost writes, write them back and do it again."""
        for _ in range(WRITE_BACK_TRIES):
            try:
                return await work()
            except StoreBehind as error:
                log.warning("%s", error)
                await self._jobs.write_back_all()
        return await work()

    async def _tick(self) -> None:
        """Observe the queue and the workers at regular intervals."""
        while True:
            with surviving("observing the queue and the workers"):
                await self._look()
            await self._clock.sleep(self._settings.tick_seconds)

    async def _look(self) -> None:
        depth = await self._broker.depth(TASKS_QUEUE)
        views = await self._store.workers()
        await self._arrive(QueueObserved(self._clock.now(), depth.ready))
        await self._arrive(WorkersObserved(self._clock.now(), tuple(views)))
        if await self._jobs.forgotten():
            await self._arrivals.put(_Arrival(None, settle=self._jobs.write_back_all))

    async def _keep_lead(self) -> None:
        """Renew the lead at regular intervals. Raises Deposed."""
        while True:
            await self._clock.sleep(self._settings.lease_seconds / 3)
            await self._hold_lead()

    async def _hold_lead(self) -> None:
        """Renew the lead; win it back with the next epoch if the store has lost it or its epoch.

        Raises Deposed, also when another led meanwhile: what is known here is out of date then.
        """
        async with self._lead_lock:
            try:
                await self._renew_or_win(self._settings.lease_seconds)
            except BadMessage as error:
                raise Deposed(f"the lead cannot be kept: {error}") from error

    async def _renew_or_win(self, lease_seconds: float) -> None:
        led_before = self._effects.epoch
        renewed = await self._store.renew_lead(self._holder, lease_seconds)
        if renewed and await self._store.last_epoch() >= led_before:
            return
        epoch = await self._store.acquire_lead(self._holder, lease_seconds, led_before)
        while epoch is None and await self._store.last_epoch() < led_before:
            # A store that lost data shows the lease of an earlier leader, which will run out.
            await self._clock.sleep(lease_seconds / 20)
            epoch = await self._store.acquire_lead(self._holder, lease_seconds, led_before)
        if epoch is None:
            raise Deposed
        self._effects.epoch = epoch
        if epoch > led_before + 1:
            raise Deposed

    async def _keep_house(self) -> None:
        """Keep the code of unfinished jobs from expiring under them, and the list of jobs from growing."""
        while True:
            with surviving("pruning the list of jobs"):
                await self._store.prune_jobs()
            await self._clock.sleep(min(HOUSE_SECONDS, self._settings.code_seconds / 4))
            with surviving("keeping the code of jobs"):
                await self._jobs.keep_all_code()

    async def _clear_outputs(self) -> None:
        """Clear the outputs of ended jobs that a predecessor left, then those that were kept long enough."""
        with surviving("clearing what a predecessor left"):
            await self._outputs.sweep(await self._store.list_jobs(), self._clock.wall())
        while self._settings.resume_seconds > 0:
            await self._clock.sleep(max(self._settings.tick_seconds, self._settings.resume_seconds / 100))
            await self._outputs.clear_expired()

    async def _watch_broker(self) -> None:
        raise await self._broker.failed()

    # --- what arrives

    async def _arrive(self, event: Event) -> None:
        await self._arrivals.put(_Arrival(event))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a command in the background. A server that stays unreachable ends this lead."""
        assert self._tasks is not None, "commands are carried out while the runner runs"
        self._tasks.create_task(_survived(work))

    async def _arrive_and_wait(self, event: Event) -> None:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        await self._arrivals.put(_Arrival(event, done=done))
        await done

    async def _on_report(self, delivery: Delivery) -> None:
        try:
            check_size(delivery.body, "a report", MAX_REPORT_BYTES)
            report: Report = decode(delivery.body, Report, delivery.content_type)  # type: ignore[arg-type]
        except BadMessage as error:
            await dead_letter(self._broker, delivery, str(error))
            await delivery.ack()
            return
        await self._arrivals.put(_Arrival(ReportReceived(self._clock.now(), report), settle=delivery.ack))

    async def _take_job(self, spec: JobSpec, splits: tuple[Split, ...], bundle: bytes) -> bool:
        """Create a job and start it. False if its id is taken. Raises Deposed."""
        if self._jobs.is_unfinished(spec.job_id) or self._jobs.ended(spec.job_id) is not None:
            return False  # known here, even if the store has lost it
        record = submitted_record(spec)
        await self._hold_lead()  # the next leader would not learn of a job that a deposed one creates
        if not await self._store.create_job(spec, splits, record, self._effects.epoch):
            return False
        with surviving(f"keeping the code of job {spec.job_id}"):
            await self._jobs.take_code(spec, bundle)
        log.info("job %s accepted: %d maps, %d reduces", spec.job_id, spec.maps, spec.reduces)
        await self._arrive_and_wait(JobAccepted(self._clock.now(), spec, splits))
        return True

    def _is_unfinished(self, job_id: JobId) -> bool:
        return self._jobs.is_unfinished(job_id)

    def _known(self, job_id: JobId) -> JobRecord | None:
        job = self._scheduler.snapshot(job_id)
        return self._jobs.ended(job_id) if job is None else job.record

    async def _cancel_job(self, job_id: JobId, keep: bool) -> bool:
        """Stop a job; `keep`: what has committed is kept.

        False if it is unknown or has ended, or its output is being finished.
        """
        if not self._jobs.is_unfinished(job_id):
            return False
        event = CancelRequested(self._clock.now(), job_id, "cancelled on request", keep)
        await self._arrive_and_wait(event)
        ended = self._jobs.ended(job_id)
        return ended is not None and ended.state is JobState.CANCELLED


async def _survived(work: Coroutine[Any, Any, None]) -> None:
    with surviving("a command"):
        await work


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error in a group: it ended the other tasks."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
