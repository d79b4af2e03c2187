"""A real worker over the memory adapters, with the coordinator's part played by the test."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

from mr.adapters.memory.broker import MemoryBroker
from mr.adapters.memory.store import MemoryStore
from mr.ports.broker import Delivery, OutgoingMessage
from mr.protocol.claims import Claim
from mr.protocol.codec import decode, encode
from mr.protocol.ids import AttemptId, CodeId, Incarnation, JobId, TaskId, WorkerId
from mr.protocol.jobs import JobSpec
from mr.protocol.messages import WIRE_VERSION, Control, Report, TaskCommitted, TaskFailed, TaskMessage
from mr.protocol.queues import CONTROL_EXCHANGE, DEAD_QUEUE, REPORTS_QUEUE, TASKS_QUEUE
from mr.protocol.records import JobState, TaskResult, WorkerBeat, WorkerView
from mr.settings import Settings
from mr.workers.daemon.service import run_worker
from tests.support.job_records import job_record
from tests.support.specs import CODE, CODE_ID, make_spec, make_splits
from tests.support.waiting import eventually

WORKER = WorkerId("w1")
#: Whatever else the machine does is no pressure in a test.
_NO_PRESSURE: dict[str, Any] = {"pressure_cpu_percent": 1000.0, "pressure_memory_percent": 1000.0}


def worker_settings(**changes: Any) -> Settings:
    """Settings of a worker that a test can wait for."""
    return Settings(**{"heartbeat_seconds": 0.2, **_NO_PRESSURE, **changes})


SETTINGS = worker_settings()

#: The job file of job-1 in a worker's spool.
CODE_FILE = f"job-1/code-{CODE_ID.rpartition(':')[2][:16]}/job.py"


class RecordingStore(MemoryStore):
    """Notes in `effects` what a worker writes."""

    def __init__(self, effects: list[str]) -> None:
        super().__init__()
        self._effects = effects
        self.refused = 0

    async def heartbeat(
        self, beat: WorkerBeat, lease_seconds: float, replaces: WorkerBeat | None = None
    ) -> WorkerView | None:
        """Beat, and count those that were refused."""
        owner = await super().heartbeat(beat, lease_seconds, replaces)
        self.refused += owner is not None
        return owner

    async def commit(self, attempt: AttemptId, result: TaskResult, resumed: int = 0) -> bool:
        """Commit and note it."""
        self._effects.append(f"commit {attempt.task} {attempt.number}")
        return await super().commit(attempt, result, resumed)

    async def release(self, attempt: AttemptId, incarnation: Incarnation) -> None:
        """Release and note it."""
        self._effects.append(f"release {attempt.task} {attempt.number}")
        await super().release(attempt, incarnation)

    async def put_log(self, attempt: AttemptId, text: str, limit_bytes: int) -> None:
        """Keep a log and note it."""
        self._effects.append(f"log {attempt.task} {attempt.number}")
        await super().put_log(attempt, text, limit_bytes)


class RecordingBroker(MemoryBroker):
    """Notes in `effects` what a worker reports."""

    def __init__(self, effects: list[str]) -> None:
        super().__init__()
        self._effects = effects

    async def publish(self, message: OutgoingMessage) -> None:
        """Publish and note reports."""
        await super().publish(message)
        if message.routing_key == REPORTS_QUEUE:
            self._effects.append("report")


class Bench:
    """A worker, its store and broker, and what came out of them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.spool = directory / "spool"
        self.effects: list[str] = []
        self.store = RecordingStore(self.effects)
        self.broker = RecordingBroker(self.effects)
        self.reports: asyncio.Queue[Report] = asyncio.Queue()
        self.buried: asyncio.Queue[bytes] = asyncio.Queue()
        self.stop = asyncio.Event()
        self.kill = asyncio.Event()
        self.ended: asyncio.Task[None]

    async def open(self, settings: Settings, slots: int, listen: str | None) -> None:
        """Connect and start the worker; it takes tasks when this returns."""
        await self.store.connect()
        await self.broker.connect()
        await self.broker.consume(REPORTS_QUEUE, self._on_report, prefetch=100)
        await self.broker.consume(DEAD_QUEUE, self._on_dead, prefetch=100)
        self.ended = asyncio.create_task(
            run_worker(
                settings,
                self.broker,
                self.store,
                worker_id=WORKER,
                slots=slots,
                spool_dir=self.spool,
                listen=listen,
                advertise=None,
                stop=self.stop,
                kill=self.kill,
                entry="tests.support.entries:run",
                preload=(),
            )
        )
        queue = self.broker.server.queues[TASKS_QUEUE]
        await eventually(lambda: queue.consumers or self.ended.done() or self._takes_nothing())

    def _takes_nothing(self) -> bool:
        entry = self.store.server.workers.get(WORKER)
        return entry is not None and entry.beat.open_slots == 0

    async def close(self) -> None:
        """Stop the worker at once, if it still runs, and disconnect."""
        self.kill.set()
        await asyncio.wait([self.ended])
        await self.broker.close()
        await self.store.close()

    async def _on_report(self, delivery: Delivery) -> None:
        self.reports.put_nowait(decode(delivery.body, Report))  # type: ignore[arg-type]
        await delivery.ack()

    async def _on_dead(self, delivery: Delivery) -> None:
        self.buried.put_nowait(delivery.body)
        await delivery.ack()

    async def submit(self, spec: JobSpec) -> None:
        """Do what a coordinator does when it accepts a job."""
        await self.store.put_code(CodeId(CODE_ID), CODE, spec.code, 3600.0)
        record = job_record(spec.job_id)
        assert await self.store.create_job(spec, make_splits(spec.maps), record, 1)

    async def publish(self, job: str, task: str) -> None:
        """Publish one task message."""
        message = TaskMessage(WIRE_VERSION, JobId(job), TaskId(task))
        await self.publish_raw(encode(message))

    async def publish_raw(self, body: bytes) -> None:
        """Publish anything on the queue of tasks."""
        await self.broker.publish(OutgoingMessage(routing_key=TASKS_QUEUE, body=body))

    async def tell(self, message: Control) -> None:
        """Publish on the control exchange."""
        await self.broker.publish(
            OutgoingMessage(exchange=CONTROL_EXCHANGE, routing_key="", body=encode(message))
        )

    async def end_job(self, job: str) -> None:
        """Close the claims of a job, as a coordinator does before it tells the workers."""
        record = job_record(job, JobState.CANCELLED)
        await self.store.end_job(record, [], 1, 3600.0)

    async def claim(self, job: str, task: str) -> Claim:
        """What the store knows of a task's claim."""
        return (await self.store.claims(JobId(job))).get(TaskId(task), Claim())

    async def beat(self) -> WorkerBeat:
        """The worker's last heartbeat."""
        (view,) = await self.store.workers()
        return view.beat

    async def beat_when(self, condition: Callable[[WorkerBeat], object]) -> WorkerBeat:
        """The first heartbeat that meets a condition."""
        beats = self.store.server.workers
        await eventually(lambda: WORKER in beats and condition(beats[WORKER].beat))
        return beats[WORKER].beat

    async def settled(self) -> None:
        """Wait until no task message is ready or unsettled: none would come back after this."""
        queue = self.broker.server.queues[TASKS_QUEUE]
        mine = [consumer for consumer in self.broker._consumers if consumer.queue is queue]
        await eventually(lambda: not queue.ready and not any(consumer._unsettled for consumer in mine))

    def files(self) -> Sequence[str]:
        """What lies in the spool below this worker's jobs, as `job/...`."""
        # os.walk, unlike rglob, does not mind a directory that goes away under it
        found = [f"{directory}/{name}" for directory, _, names in os.walk(self.spool) for name in names]
        return sorted(path.partition("/jobs/")[2] for path in found if "/jobs/" in path)


@contextlib.asynccontextmanager
async def bench(
    directory: Path, settings: Settings = SETTINGS, slots: int = 2, listen: str | None = None
) -> AsyncIterator[Bench]:
    """A running worker, stopped and checked for leftovers at the end."""
    found = Bench(directory)
    await found.open(settings, slots, listen)
    try:
        yield found
    finally:
        await found.close()
    found.ended.result()
    assert found.files() == []


async def submit(worker: Bench, do: str = "nothing", job: str = "job-1", **changes: Any) -> None:
    """Submit a job whose tasks `do` something: see `tests.support.entries`."""
    output = worker.directory / "out"
    output.mkdir(exist_ok=True)
    params = {"do": do, "mark": str(worker.directory), "blocks": "1", **changes.pop("params", {})}
    await worker.submit(make_spec(job, params=params, output=str(output), **changes))


async def committed(worker: Bench) -> TaskCommitted:
    """The next report, which says that a task is committed."""
    report = await worker.reports.get()
    assert isinstance(report, TaskCommitted), report
    return report


async def committed_result(worker: Bench) -> TaskResult:
    """What the store has of the task that the next report says is committed."""
    report = await committed(worker)
    result = (await worker.store.outcomes(report.attempt.job, [report.attempt.task]))[
        report.attempt.task
    ].result
    assert result is not None
    return result


async def failed(worker: Bench) -> TaskFailed:
    """The next report, which says that a task failed."""
    report = await worker.reports.get()
    assert isinstance(report, TaskFailed), report
    return report
