"""One message or stored record with an absurd value ends no daemon: an answer, a dead letter or a failed job.

Structure-aware: valid ones, with one field replaced, over memory ports and in this process.
"""

import asyncio
import contextlib
import json
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mr.adapters.memory.broker import MemoryBroker
from mr.adapters.memory.store import MemoryStore
from mr.bundle import build_bundle
from mr.coordinator.core import commands as c
from mr.coordinator.core import events as e
from mr.coordinator.core.job_records import submitted_record
from mr.coordinator.core.scheduler import Scheduler
from mr.coordinator.service import run_coordinator
from mr.errors import BadMessage
from mr.ports.broker import OutgoingMessage
from mr.protocol.claims import Claim, Holder
from mr.protocol.codec import JSON, MSGPACK, decode, encode, pack, unpack
from mr.protocol.failures import Failure, FailureKind, LostInput
from mr.protocol.ids import AttemptId, CodeId, Incarnation, JobId, TaskId, TaskKind, WorkerId
from mr.protocol.jobs import JobRequest, JobSpec, RequestReply, Split
from mr.protocol.messages import Report, TaskCommitted, TaskFailed, WorkerStopped
from mr.protocol.queues import JOBS_QUEUE, REPORTS_QUEUE
from mr.protocol.records import (
    JobRecord,
    JobState,
    MapOutput,
    PartOutput,
    RestoredJob,
    RunningTask,
    TaskRecord,
    TaskResult,
    TaskState,
    TaskStats,
    WorkerBeat,
    WorkerView,
)
from mr.settings import Settings
from tests.support.poison import ABSURD, HUGE, plain, poisoned
from tests.support.specs import make_manifest, make_spec, make_splits
from tests.support.waiting import eventually

SETTINGS = Settings(lease_seconds=5, heartbeat_seconds=1, tick_seconds=0.01)
ANN, LIFE = WorkerId("ann"), Incarnation("ann-1")
MAP, REDUCE = TaskId("map-00000"), TaskId("reduce-00000")
OTHER = JobId("other")
quick = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))


class Site:
    """A coordinator over memory ports with one registered job and one input file."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.broker = MemoryBroker()
        self.store = MemoryStore()
        self.number = 0

    @contextlib.asynccontextmanager
    async def coordinator(self) -> AsyncIterator[None]:
        """Run a coordinator; whatever ends it early is raised."""
        broker, stop = MemoryBroker(self.broker.server), asyncio.Event()
        await broker.connect()
        running = asyncio.create_task(run_coordinator(SETTINGS, broker, self.store, stop=stop))
        try:
            yield
            assert not running.done(), "the coordinator has ended"
        finally:
            stop.set()
            await running
            await broker.close()

    async def open(self) -> None:
        await self.broker.connect()
        await self.store.connect()
        job_file = self.directory / "count.py"
        job_file.write_text("def map_fn(k, v):\n    yield v, 1\n")
        (self.directory / "in.txt").write_text("a\n")
        bundle = build_bundle(job_file, ())
        manifest = make_manifest(bundle.code_id, ("map_fn",), entry=bundle.entry)
        await self.store.put_code(CodeId(bundle.code_id), bundle.data, manifest, 3600.0)
        await self.store.register("count", manifest, 3600.0)

    def request(self, **options: Any) -> Any:
        """A valid request with every option."""
        self.number += 1
        return plain(
            JobRequest(
                version=1,
                job="count",
                inputs=[str(self.directory / "in.txt")],
                output=str(self.directory / f"out-{self.number}"),
                job_id=f"job-{self.number}",
                **options,
            )
        )

    async def ask(self, body: bytes, content_type: str = JSON) -> RequestReply:
        """Send a request; its answer."""
        message = OutgoingMessage(routing_key=JOBS_QUEUE, body=body, content_type=content_type)
        return decode(await self.broker.request(message, timeout_seconds=30), RequestReply, JSON)

    async def cancel(self, job: str) -> None:
        body = json.dumps({"version": 1, "job_id": job}).encode()
        message = OutgoingMessage(routing_key=JOBS_QUEUE, body=body, content_type=JSON, type="cancel")
        await self.broker.request(message, timeout_seconds=30)


OPTIONS = {
    "name": "n",
    "maps": 1,
    "reduces": 0,
    "split_size": "1MiB",
    "input_format": "text",
    "output_format": "text",
    "encoding": "utf-8",
    "encoding_errors": "strict",
    "priority": 2,
    "weight": 1.0,
    "max_attempts": 2,
    "task_timeout": "10s",
    "task_memory": 1 << 20,
    "params": {"a": "b"},
}


def with_site(work: Any) -> None:
    async def run() -> None:
        with tempfile.TemporaryDirectory() as directory:
            site = Site(Path(directory))
            await site.open()
            await work(site)

    asyncio.run(run())


@quick
@given(data=st.data())
def test_every_request_is_answered_and_the_next_one_taken(data: st.DataObject) -> None:
    async def work(site: Site) -> None:
        async with site.coordinator():
            for _ in range(5):
                valid = site.request(**OPTIONS)
                kind = data.draw(st.sampled_from((JSON, MSGPACK)))
                bad = data.draw(poisoned(valid, ABSURD + HUGE if kind == JSON else ABSURD))
                if kind == JSON:
                    body = json.dumps(bad, default=lambda value: value.decode("latin-1")).encode()
                else:
                    body = msgspec.msgpack.encode(bad)
                reply = await site.ask(body, kind)
                assert reply.accepted or reply.reason
            reply = await site.ask(json.dumps(site.request()).encode())
            assert reply.accepted, reply.reason
        async with site.coordinator():  # nor at its restart
            await site.cancel(f"job-{site.number}")
            await eventually(lambda: _is(site, JobState.CANCELLED))

    with_site(work)


async def _is(site: Site, state: JobState) -> bool:
    record = await site.store.get_job(JobId(f"job-{site.number}"))
    return record is not None and record.state is state


def _reports(job: JobId) -> list[Report]:
    failure = Failure(FailureKind.INPUT_LOST, "gone", lost=(LostInput(MAP, 1, ANN),))
    return [
        TaskCommitted(AttemptId(job, MAP, 1), ANN, LIFE),
        TaskFailed(AttemptId(job, MAP, 1), ANN, LIFE, failure),
        WorkerStopped(ANN, LIFE),
    ]


@quick
@given(data=st.data())
def test_no_report_ends_the_coordinator(data: st.DataObject) -> None:
    async def work(site: Site) -> None:
        async with site.coordinator():
            reply = await site.ask(json.dumps(site.request()).encode())
            job = JobId(str(reply.job_id))
            await site.store.claim(job, MAP, ANN, LIFE, 60.0)
            for _ in range(10):
                valid = plain(data.draw(st.sampled_from(_reports(job))))
                body = msgspec.msgpack.encode(data.draw(poisoned(valid)))
                await site.broker.publish(OutgoingMessage(routing_key=REPORTS_QUEUE, body=body))
            queue = site.broker.server.queues[REPORTS_QUEUE]
            await eventually(lambda: not queue.ready)
            await site.cancel(job)  # answered after all that came before

    with_site(work)


# --- stored records


def _restored() -> dict[str, Any]:
    """A job in its reduce phase, as the store has it."""
    spec = make_spec("one", 1, 1)
    stats = TaskStats(records_in=1, cpu_seconds=0.5, counters={"words": 3})
    output = MapOutput(AttemptId(JobId("one"), MAP, 1), ANN, LIFE, "ann:1", "host", "/spool/1")
    failure = Failure(FailureKind.USER_ERROR, "no", traceback="t", lost=(LostInput(MAP, 1, ANN),))
    record = submitted_record(spec)
    held = Claim(2, 0, 0, False, (Holder(ANN, LIFE, 2, 9),))
    running = TaskRecord(
        task_id=REDUCE, state=TaskState.RUNNING, attempt=2, failures=1, losses=1, worker=ANN, failure=failure
    )
    return {
        "record": plain(msgspec.structs.replace(record, state=JobState.REDUCING, stats=stats)),
        "spec": plain(spec),
        "splits": plain(make_splits(1)),
        "tasks": {
            MAP: plain(TaskRecord(task_id=MAP, state=TaskState.COMMITTED, attempt=1, stats=stats)),
            REDUCE: plain(running),
        },
        "claims": {
            MAP: plain(Claim(1, 0, 1)),
            REDUCE: plain(held),
        },
        "results": {MAP: plain(TaskResult(output, stats))},
    }


def _read(stored: dict[str, Any]) -> RestoredJob:
    """Decode a job as the store does. Raises BadMessage."""
    try:
        return RestoredJob(
            unpack(msgspec.msgpack.encode(stored["record"]), JobRecord),
            unpack(msgspec.msgpack.encode(stored["spec"]), JobSpec),
            unpack(msgspec.msgpack.encode(stored["splits"]), tuple[Split, ...]),
            unpack(msgspec.msgpack.encode(stored["tasks"]), dict[TaskId, TaskRecord]),
            unpack(msgspec.msgpack.encode(stored["claims"]), dict[TaskId, Claim]),
            unpack(msgspec.msgpack.encode(stored["results"]), dict[TaskId, TaskResult]),
        )
    except (TypeError, OverflowError) as error:  # what msgpack itself cannot hold
        raise BadMessage(str(error)) from error


def _beat(*running: RunningTask) -> WorkerBeat:
    return WorkerBeat(
        worker=ANN,
        incarnation=LIFE,
        host="h",
        address="a",
        version="0",
        started_at=0.0,
        slots=4,
        open_slots=4,
        running=running,
    )


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_no_stored_record_ends_the_scheduler_nor_another_job(data: st.DataObject) -> None:
    """What decoding lets through is handled, and whatever comes of it can be stored again."""
    stored = _restored()
    part = data.draw(st.sampled_from(sorted(stored)))
    stored[part] = data.draw(poisoned(stored[part]))
    beat = plain(_beat(RunningTask(JobId("one"), REDUCE, 2, 0.0, 1.0, bytes_in=9)))
    poisoned_beat = data.draw(st.one_of(st.just(beat), poisoned(beat)))
    scheduler = Scheduler(Settings(), seed=1)
    commands = scheduler.handle(e.JobAccepted(1.0, make_spec(OTHER, 2, 0), _splits(2)))
    with contextlib.suppress(BadMessage):
        commands += scheduler.handle(e.JobRestored(2.0, _read(stored)))
    views: tuple[WorkerView, ...] = ()
    with contextlib.suppress(BadMessage):
        views = (WorkerView(unpack(msgspec.msgpack.encode(poisoned_beat), WorkerBeat), 0.1, True),)
    for now in (3.0, 30.0, 60.0, 600.0):
        commands += scheduler.handle_all((e.QueueObserved(now, 0), e.WorkersObserved(now, views)))
        for command in [x for x in commands if type(x) is c.InspectClaims and x.job_id == "one"][-1:]:
            with contextlib.suppress(BadMessage):
                read = _read(stored)
                commands += scheduler.handle(
                    e.ClaimsObserved(now, command.job_id, read.claims, read.results, command.outputs)
                )
    assert OTHER in scheduler.active_jobs()
    for command in commands:
        if isinstance(command, c.SaveJob | c.CloseJob):
            unpack(pack(command.record), JobRecord)
            unpack(pack(command.tasks), tuple[TaskRecord, ...])
        elif isinstance(command, c.EmitEvent):
            encode(command.event, JSON)
        elif isinstance(command, c.FinishOutput):
            encode(command.manifest, JSON)


def _splits(count: int) -> tuple[Split, ...]:
    return make_splits(count)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_no_stored_result_ends_the_scheduler(data: st.DataObject) -> None:
    """Nor what Redis says of a task that was reported."""
    output = PartOutput(AttemptId(JobId("one"), MAP, 1), ANN, LIFE, 3, 30, "0" * 16)
    result = plain(TaskResult(output, TaskStats(counters={"a": 1})))
    claim = plain(Claim(1, 0, 1))
    bad = data.draw(poisoned([claim, result]))
    scheduler = Scheduler(Settings(), seed=1)
    scheduler.handle(e.JobAccepted(1.0, make_spec(OTHER, 1, 0), _splits(1)))
    store = MemoryStore(lambda: 0.0)

    async def read() -> Any:
        await store.connect()
        spec = make_spec(OTHER, 1, 0)
        await store.create_job(spec, _splits(1), submitted_record(spec), 1)
        entry = store.server.jobs[OTHER]
        entry.claims[MAP] = unpack(msgspec.msgpack.encode(bad[0]), Claim)
        entry.results[TaskKind.MAP][MAP] = msgspec.msgpack.encode(bad[1])
        return (await store.outcomes(OTHER, [MAP]))[MAP]

    with contextlib.suppress(BadMessage, TypeError, IndexError, KeyError):
        outcome = asyncio.run(read())
        report = e.ReportReceived(2.0, TaskCommitted(AttemptId(OTHER, MAP, 1), ANN, LIFE), outcome)
        for command in scheduler.handle(report):
            if isinstance(command, c.CloseJob | c.SaveJob):
                unpack(pack(command.record), JobRecord)
