"""Carries out the scheduler's commands in the order of effects (`mr.coordinator.core.commands`)."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any

from mr.coordinator.core.commands import (
    AbandonOutput,
    CloseJob,
    Command,
    EmitEvent,
    FinishOutput,
    InspectClaims,
    LogFault,
    ProbeWorker,
    PublishTasks,
    ReleaseDead,
    Reopen,
    SaveJob,
    SendControl,
    Speculate,
)
from mr.coordinator.core.events import (
    ClaimsObserved,
    Event,
    JobBroken,
    JobWrittenBack,
    OutputFailed,
    OutputFinished,
)
from mr.coordinator.core.job_records import bare_record
from mr.coordinator.outputs import Outputs
from mr.coordinator.probes import Prober
from mr.error_text import fault
from mr.errors import BadMessage, MrError, StoreBehind
from mr.formats.output.directory import finish_output, read_manifest, remove_temporary
from mr.guards import FATAL, surviving
from mr.ports.broker import Broker, OutgoingMessage
from mr.ports.clock import Clock
from mr.ports.store import StateStore
from mr.protocol.codec import JSON, encode
from mr.protocol.failures import Failure, FailureKind
from mr.protocol.ids import JobId, TaskId, TaskKind
from mr.protocol.messages import LifecycleEvent, PauseWorker
from mr.protocol.queues import CONTROL_EXCHANGE, EVENTS_EXCHANGE, TASKS_QUEUE, job_event_key, task_event_key
from mr.protocol.records import JobRecord, JobState, Pause, TaskRecord, TaskResult
from mr.settings import Settings

log = logging.getLogger(__name__)

#: How long it may take to look for `_SUCCESS` in an output directory.
LOOK_SECONDS = 10.0

#: Errors that concern more than the job whose write raised them.
_PASSING = (*FATAL, StoreBehind)

Spawn = Callable[[Coroutine[Any, Any, None]], object]


class Effects:
    """Performs commands through the ports. `epoch` marks every write as this coordinator's.

    `on_event` takes what the commands that ask bring back; `spawn` runs those beside the others.
    """

    def __init__(
        self,
        settings: Settings,
        broker: Broker,
        store: StateStore,
        clock: Clock,
        on_event: Callable[[Event], Awaitable[None]],
        spawn: Spawn,
        outputs: Outputs,
    ) -> None:
        self.epoch = 0
        self._settings = settings
        self._broker = broker
        self._store = store
        self._clock = clock
        self._on_event = on_event
        self._spawn = spawn
        self._outputs = outputs
        self._prober = Prober(broker, clock, on_event)

    async def perform(self, commands: Sequence[Command]) -> None:
        """Persist, then publish, then ask. Returns when all is persisted and confirmed.

        Commands of several events may come together: what is saved twice is then saved once, with
        its last value. Raises StoreBehind, before anything is published, when the store is to be given back
        what it lost; then all may be carried out anew. Raises Deposed, StoreUnavailable or BrokerUnavailable.
        """
        for command in commands:
            log.debug("%s: %s", type(command).__name__, command.cause)
        await self.persist(commands)
        await self._publish(commands)
        for command in commands:
            self._ask(command)

    async def persist(self, commands: Sequence[Command]) -> None:
        """Carry out the commands that write to the store. Raises Deposed, StoreBehind, StoreUnavailable."""
        await self._change_claims(commands)
        await self._save(commands)

    async def _change_claims(self, commands: Sequence[Command]) -> None:
        reopens = [c for c in commands if isinstance(c, Reopen)]
        released = [c for c in commands if isinstance(c, ReleaseDead)]
        controls = [c.control for c in commands if isinstance(c, SendControl)]
        speculations = [c for c in commands if isinstance(c, Speculate)]
        await asyncio.gather(
            *(self._isolated(c.job_id, self._store.reopen, c.job_id, c.lost, self.epoch) for c in reopens),
            *(
                self._isolated(c.job_id, self._store.release_dead, c.job_id, c.leases, self.epoch)
                for c in released
            ),
            *(
                self._store.pause_worker(control.worker, Pause(control.seconds, control.reason))
                for control in controls
                if isinstance(control, PauseWorker)
            ),
            *(
                self._isolated(c.job_id, self._store.speculate, c.job_id, c.tasks, self.epoch)
                for c in speculations
            ),
        )

    async def _save(self, commands: Sequence[Command]) -> None:
        records: dict[JobId, JobRecord] = {}
        tasks: dict[JobId, dict[TaskId, TaskRecord]] = {}
        ended: set[JobId] = set()
        for command in commands:
            if isinstance(command, SaveJob | CloseJob):
                job_id = command.record.job_id
                records[job_id] = command.record
                tasks.setdefault(job_id, {}).update((task.task_id, task) for task in command.tasks)
                if isinstance(command, CloseJob):
                    ended.add(job_id)
        await asyncio.gather(
            *(
                self._end(records[job], tasks[job].values())
                if job in ended
                else self._isolated(job, self._store.save_job, records[job], tasks[job].values(), self.epoch)
                for job in records
            )
        )

    async def _isolated(
        self, job_id: JobId, write: Callable[..., Awaitable[object]], *arguments: object
    ) -> None:
        """Carry out a write for one job. An exception fails only that job."""
        try:
            await write(*arguments)
        except _PASSING:
            raise
        except Exception as error:
            log.exception("job %s cannot be handled", job_id)
            event = JobBroken(self._clock.now(), job_id, fault(error))
            self._spawn(self._send(event))

    async def _send(self, event: Event) -> None:
        await self._on_event(event)

    async def _end(self, record: JobRecord, tasks: Iterable[TaskRecord]) -> None:
        """Write a job's end. If its records cannot be written, a record of the plain facts is."""
        seconds = self._settings.history_seconds
        resume_seconds = 0.0 if record.state is JobState.COMPLETED else self._settings.resume_seconds
        try:
            await self._store.end_job(record, tasks, self.epoch, seconds, resume_seconds)
        except _PASSING:
            raise
        except Exception:
            log.exception("the records of job %s cannot be written", record.job_id)
            with surviving(f"ending job {record.job_id}"):
                await self._store.end_job(bare_record(record), (), self.epoch, seconds)
        log.info("job %s %s%s", record.job_id, record.state, f": {record.cause}" if record.cause else "")

    async def _publish(self, commands: Iterable[Command]) -> None:
        messages: list[OutgoingMessage] = [
            OutgoingMessage(
                routing_key=TASKS_QUEUE, body=encode(task.message), type="task", priority=task.priority
            )
            for command in commands
            if isinstance(command, PublishTasks)
            for task in command.tasks
        ]
        messages += [
            OutgoingMessage(exchange=CONTROL_EXCHANGE, routing_key="", body=encode(c.control), type="control")
            for c in commands
            if isinstance(c, SendControl)
        ]
        for command in commands:
            if isinstance(command, EmitEvent):
                with surviving(f"emitting an event of job {command.event.job_id}"):
                    messages.append(_event_message(command.event))
        if messages:
            await asyncio.gather(*map(self._broker.publish, messages))

    def _ask(self, command: Command) -> None:
        match command:
            case InspectClaims():
                self._spawn(self._inspect_claims(command))
            case ProbeWorker():
                self._spawn(self._prober.probe(command))
            case FinishOutput():
                self._spawn(self._finish_output(command))
            case LogFault():
                log.error("%s", command.text)
            case AbandonOutput() if command.output:
                self._spawn(self._outputs.clear(command.job_id, command.output, keep=command.keep))

    async def _inspect_claims(self, command: InspectClaims) -> None:
        """Read the claims of a job. No event follows if the store has lost data: it is rewritten first."""
        job_id = command.job_id
        event: Event
        try:
            claims = await self._store.claims(job_id)
            committed = any(claims[task].winner for task in command.tasks if task in claims)
            results = await self._results(job_id) if command.outputs or committed else {}
            event = ClaimsObserved(
                self._clock.now(), job_id, claims, results, command.outputs, command.asked_at
            )
        except StoreBehind as error:
            log.warning("%s", error)
            return
        except BadMessage as error:
            event = self._unreadable(job_id, error)
        except FATAL:
            raise
        except Exception as error:
            log.exception("the claims of job %s cannot be read", job_id)
            event = JobBroken(self._clock.now(), job_id, fault(error))
        await self._on_event(event)

    async def read_written_back(self, job_id: JobId) -> Event | None:
        """What the store says of a job that was rewritten. None: it has lost data again."""
        try:
            claims = await self._store.claims(job_id)
            return JobWrittenBack(self._clock.now(), job_id, claims, await self._results(job_id))
        except StoreBehind:
            return None
        except BadMessage as error:
            return self._unreadable(job_id, error)

    async def _results(self, job_id: JobId) -> dict[TaskId, TaskResult]:
        results: dict[TaskId, TaskResult] = {}
        for kind in TaskKind:
            results.update(await self._store.get_results(job_id, kind))
        return results

    def _unreadable(self, job_id: JobId, error: BadMessage) -> Event:
        log.error("job %s cannot go on: %s", job_id, error)
        return JobBroken(self._clock.now(), job_id, str(error))

    async def _finish_output(self, command: FinishOutput) -> None:
        job_id = command.job_id
        event: Event
        async with self._outputs.lock(job_id):
            try:
                await asyncio.to_thread(
                    finish_output,
                    command.output,
                    job_id,
                    command.parts,
                    command.output_format,
                    command.manifest,
                    command.bad_records,
                )
                event = OutputFinished(self._clock.now(), job_id)
            except FATAL:
                raise
            except Exception as error:
                log.exception("the output of job %s cannot be finished", job_id)
                event = await self._unfinished(command, error)
        await self._on_event(event)

    async def _unfinished(self, command: FinishOutput, error: Exception) -> Event:
        """The event after an error: OutputFinished if `_SUCCESS` exists nevertheless, else OutputFailed."""
        message = f"the coordinator cannot finish the output {command.output}: {error}"
        if await self.finished({command.job_id: command.output}):
            log.warning("job %s has completed, but %s", command.job_id, message)
            return OutputFinished(self._clock.now(), command.job_id)
        # A part that is gone, or is another's, does not come back; a disk may.
        lost = isinstance(error, FileNotFoundError)
        kind = FailureKind.OUTPUT_UNWRITABLE if lost else FailureKind.INFRASTRUCTURE
        failure = Failure(kind=kind, message=message)
        return OutputFailed(self._clock.now(), command.job_id, failure)

    async def finished(self, outputs: Mapping[JobId, str]) -> set[JobId]:
        """Those of these jobs (id -> output) whose `_SUCCESS` exists."""
        found = await asyncio.gather(*(self._has_finished(*item) for item in outputs.items()))
        return {job_id for job_id, finished in zip(outputs, found, strict=True) if finished}

    async def _has_finished(self, job_id: JobId, output: str) -> bool:
        """Whether a job's `_SUCCESS` exists; False if that cannot be determined in time.

        A coordinator that ended right after writing it has left the temporary files: they are removed.
        """
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                manifest = await asyncio.to_thread(read_manifest, output)
                if manifest is not None and manifest.job_id == job_id:
                    await self._clear(job_id, output)
        except (MrError, TimeoutError) as error:
            reason = error or f"no answer within {LOOK_SECONDS:g} s"
            log.warning("job %s: whether %s is complete is not known: %s", job_id, output, reason)
            return False
        return manifest is not None and manifest.job_id == job_id

    async def _clear(self, job_id: JobId, output: str) -> None:
        """Remove the temporary files of a finished output."""
        try:
            await asyncio.to_thread(remove_temporary, output, job_id)
        except (OSError, MrError, ValueError) as error:
            log.warning("job %s: the temporary files of %s cannot be removed: %s", job_id, output, error)


def _event_message(event: LifecycleEvent) -> OutgoingMessage:
    key = job_event_key if event.task_id is None else task_event_key
    return OutgoingMessage(
        exchange=EVENTS_EXCHANGE,
        routing_key=key(event.state, event.job_id),
        body=encode(event, JSON),
        content_type=JSON,
        type="event",
    )
