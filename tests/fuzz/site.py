"""The target of everything that the daemons are told: a real coordinator and a real worker over memory ports.

One job runs beside the poison, held at a gate. At the end it must have run as if nothing had happened; then
both daemons are started again on what the store holds, and another job must complete.
"""

import asyncio
import contextlib
import json
import random
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec

from mr.adapters.memory.broker import MemoryBroker
from mr.adapters.memory.store import MemoryStore
from mr.bundle import build_bundle
from mr.coordinator.service import run_coordinator
from mr.local import embedded_settings
from mr.ports.broker import OutgoingMessage
from mr.protocol.claims import Claim, Holder
from mr.protocol.codec import JSON, MSGPACK, decode
from mr.protocol.failures import Failure, FailureKind, LostInput
from mr.protocol.ids import AttemptId, CodeId, Incarnation, JobId, TaskId, TaskKind, WorkerId
from mr.protocol.jobs import JobRequest, JobSpec, RequestReply
from mr.protocol.messages import (
    DrainWorker,
    EndJob,
    PauseWorker,
    StopAttempt,
    TaskCommitted,
    TaskFailed,
    TaskMessage,
    WorkerStopped,
)
from mr.protocol.queues import CONTROL_EXCHANGE, JOBS_QUEUE, REPORTS_QUEUE, TASKS_QUEUE
from mr.protocol.records import JobState, MapOutput, TaskResult, TaskState, TaskStats
from mr.settings import Settings
from mr.workers.daemon.service import run_worker
from tests.fuzz.harness import Case
from tests.fuzz.values import message, plain
from tests.support.job_records import job_record, task_record, worker_beat
from tests.support.specs import make_manifest, make_spec, make_splits
from tests.support.waiting import eventually

#: Messages and records of one case.
PARTS = 120
BESIDE = JobId("beside-1")
WORKER = WorkerId("w1")
MAP, REDUCE = TaskId("map-00000"), TaskId("reduce-00000")
#: Stand in messages for what is known only when they are sent; both as long as what replaces them.
LIFE = "@incarnation-id@"
DIRECTORY = "/@directory@"
FOREIGN = Incarnation("another-process1")
ANSWER_SECONDS = 30.0

JOB_FILE = """
import time
from pathlib import Path
import mr

def map_init():
    gate = mr.param("gate", "")
    while gate and not Path(gate).exists():
        time.sleep(0.01)

def map_fn(key, line):
    mr.counter("most").add(2**62)
    yield line, 1

def reduce_fn(key, values):
    yield key, sum(values)
"""
LINES = [f"line {n}" for n in range(8)]
OPTIONS: dict[str, Any] = {
    "name": "n",
    "maps": 1,
    "reduces": 1,
    "split_size": "1MiB",
    "input_format": "text",
    "output_format": "text",
    "encoding": "utf-8",
    "encoding_errors": "strict",
    "max_record_bytes": "1MiB",
    "priority": 2,
    "weight": 1.0,
    "max_attempts": 2,
    "task_timeout": "10s",
    "task_memory": 1 << 30,
    "params": {"a": "b"},
    "secret_params": {"c": "d"},
}
SETTINGS = embedded_settings(
    Settings(lease_seconds=5.0, pressure_cpu_percent=1000.0, pressure_memory_percent=1000.0)
)


def _request(**changes: Any) -> dict[str, Any]:
    fields = {"version": 1, "job": "count", "inputs": [f"{DIRECTORY}/in"], "output": f"{DIRECTORY}/asked"}
    return {**plain(JobRequest(**fields, **OPTIONS)), **changes}


def _reports() -> list[Any]:
    """Reports of which the store confirms nothing."""
    failure = Failure(FailureKind.INPUT_LOST, "gone", lost=(LostInput(MAP, 1, WORKER),))
    own = Incarnation(LIFE)
    return [
        TaskCommitted(AttemptId(BESIDE, MAP, 1), WORKER, own),
        TaskFailed(AttemptId(BESIDE, MAP, 1), WORKER, FOREIGN, failure),
        TaskFailed(AttemptId(BESIDE, MAP, 1), WorkerId("w2"), own, Failure(FailureKind.USER_ERROR, "no")),
        TaskFailed(AttemptId(BESIDE, MAP, 7), WORKER, own, Failure(FailureKind.BAD_JOB, "no")),
        WorkerStopped(WORKER, own),
        WorkerStopped(WORKER, FOREIGN),
    ]


def _controls() -> list[Any]:
    """Control messages that the store does not confirm."""
    return [
        EndJob(BESIDE),
        StopAttempt(AttemptId(BESIDE, MAP, 2)),
        PauseWorker(WORKER, 1e6, "so"),
        DrainWorker(WORKER),
    ]


def _records() -> dict[str, Any]:
    """What the store holds of a job that is not this cluster's."""
    stats = TaskStats(records_in=1, cpu_seconds=0.5, counters={"words": 3})
    output = MapOutput(
        AttemptId(JobId("spoilt"), MAP, 1), WORKER, Incarnation(LIFE), "w:1", "host", "/spool/1"
    )
    record = job_record("spoilt", JobState.REDUCING, maps=1, reduces=1, stats=stats)
    return {
        "record": plain(record),
        "spec": plain(make_spec("spoilt", 1, 1)),
        "task": plain(task_record(MAP, TaskState.COMMITTED, stats=stats)),
        "claim": plain(Claim(2, 0, 0, False, (Holder(WORKER, FOREIGN, 2, 9),))),
        "result": plain(TaskResult(output, stats)),
        "beat": plain(worker_beat("w9", incarnation=FOREIGN)),
        "manifest": plain(make_manifest()),
    }


class Site:
    """A cluster in this process, and what is sent to it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.client = MemoryBroker()
        self.store = MemoryStore()
        self.spoilt = 0

    async def open(self) -> None:
        """Register a job and write its input."""
        await self.client.connect()
        await self.store.connect()
        job_file = self.directory / "count.py"
        job_file.write_text(JOB_FILE)
        (self.directory / "in").write_text("".join(f"{line}\n" for line in LINES))
        bundle = build_bundle(job_file, ())
        manifest = make_manifest(bundle.code_id, ("map_init", "map_fn", "reduce_fn"), entry=bundle.entry)
        await self.store.put_code(CodeId(bundle.code_id), bundle.data, manifest, 3600.0)
        for name in ("count", "bad"):
            await self.store.register(name, manifest, 3600.0)
        self.bundle = bundle

    @contextlib.asynccontextmanager
    async def daemons(self) -> AsyncIterator[None]:
        """Run a coordinator and a worker; whatever ends one early is raised."""
        stop, kill = asyncio.Event(), asyncio.Event()
        brokers = [MemoryBroker(self.client.server) for _ in range(2)]
        for broker in brokers:
            await broker.connect()
        worker = run_worker(
            SETTINGS,
            brokers[1],
            self.store,
            worker_id=WORKER,
            slots=4,
            spool_dir=self.directory / "spool",
            listen=None,
            advertise=None,
            stop=stop,
            kill=kill,
        )
        running = [
            asyncio.create_task(
                run_coordinator(SETTINGS, brokers[0], self.store, stop=stop), name="coordinator"
            ),
            asyncio.create_task(worker, name="worker"),
        ]
        try:
            await eventually(lambda: WORKER in self.store.server.workers or any(t.done() for t in running))
            yield
        finally:
            ended = [task for task in running if task.done()]
            kill.set()
            stop.set()
            await asyncio.wait(running)
            for broker in brokers:
                await broker.close()
        for task in running:
            task.result()
        assert not ended, f"ended by itself: {ended}"

    def _filled(self, data: bytes, life: str) -> bytes:
        """Put in what is known only now: the incarnation, of equal length, and in JSON the directory."""
        data = data.replace(LIFE.encode(), life.encode())
        return data.replace(DIRECTORY.encode(), str(self.directory).encode()) if data[:1] == b"{" else data

    async def feed(self, kind: str, data: bytes) -> None:
        """Send one message, or write one record."""
        life = self.store.server.workers[WORKER].beat.incarnation
        where, _, how = kind.partition(":")
        data = self._filled(data, life)
        if where == "jobs":
            content_type, type_ = how.split("|")
            asked = OutgoingMessage(
                routing_key=JOBS_QUEUE, body=data, content_type=content_type, type=type_ or None
            )
            answer = await self.client.request(asked, timeout_seconds=ANSWER_SECONDS)
            reply = decode(answer, RequestReply, JSON)
            assert reply.accepted or reply.reason
        elif where == "control":
            await self.client.publish(OutgoingMessage(exchange=CONTROL_EXCHANGE, routing_key="", body=data))
        elif where in (TASKS_QUEUE, REPORTS_QUEUE):
            await self.client.publish(OutgoingMessage(routing_key=where, body=data))
        else:
            await self._spoil(how, data)

    async def _spoil(self, what: str, data: bytes) -> None:
        """Replace one record of a job, a worker or some code."""
        server = self.store.server
        if what == "manifest":
            server.registry["bad"] = data
            return
        if what == "bundle":
            server.code[CodeId(self.bundle.code_id + "x")] = server.code[CodeId(self.bundle.code_id)]
            return
        if what == "beat":
            with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                beat = msgspec.msgpack.decode(data, type=type(worker_beat("w9")))
                if beat.worker != WORKER:
                    await self.store.heartbeat(beat, 5.0)
            return
        self.spoilt += 1
        job = JobId(f"spoilt-{self.spoilt}")
        spec = make_spec(job, 1, 1, output=str(self.directory / job))
        await self.store.create_job(spec, make_splits(1), job_record(job, maps=1, reduces=1), server.epoch)
        entry = server.jobs[job]
        entry.tasks[MAP] = data if what == "task" else msgspec.msgpack.encode(_records()["task"])
        if what == "record":
            entry.record = data
        elif what == "result":
            entry.claims[MAP] = Claim(1, 0, 1)
            entry.results[TaskKind.MAP][MAP] = data
        with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            if what == "spec":
                spec = msgspec.msgpack.decode(data, type=JobSpec)
                entry.spec = msgspec.structs.replace(spec, job_id=job, output=str(self.directory / job))
            elif what == "claim":
                entry.claims[MAP] = msgspec.msgpack.decode(data, type=Claim)

    async def submit(self, job: str, **params: str) -> None:
        """Ask for the counting job."""
        request = {
            "version": 1,
            "job": "count",
            "inputs": [str(self.directory / "in")],
            "output": str(self.directory / job),
            "job_id": job,
            "maps": 2,
            "reduces": 1,
            "priority": 4,
            "params": params,
        }
        asked = OutgoingMessage(routing_key=JOBS_QUEUE, body=json.dumps(request).encode(), content_type=JSON)
        answer = await self.client.request(asked, timeout_seconds=ANSWER_SECONDS)
        reply = decode(answer, RequestReply, JSON)
        assert reply.accepted, reply.reason

    async def completed(self, job: str) -> None:
        """The job completes, with the right output."""
        job_id = JobId(job)

        async def ended() -> bool:
            record = await self.store.get_job(job_id)
            return record is not None and record.state.terminal

        await eventually(ended, f"the end of {job}")
        record = await self.store.get_job(job_id)
        assert record is not None
        assert record.state is JobState.COMPLETED, record
        part = (self.directory / job / "part-00000").read_text()
        assert part == "".join(f"{line}\t1\n" for line in sorted(LINES)), part
        assert record.stats.counters == {"most": 2**63 - 1}, record.stats
        # A reduce that somebody called for too early fails without harm: its inputs are not there yet.
        failed = [task for group in record.failures for task in group.tasks]
        assert not [task for task in failed if task.startswith("map")], record.failures
        for task in await self.store.get_tasks(job_id):
            if task.task_id.startswith("map"):
                assert (task.attempt, task.losses) == (1, 0), f"it did not run undisturbed: {task}"

    async def taken(self) -> None:
        """All messages are taken from the queues."""
        queues = self.client.server.queues
        await eventually(
            lambda: not any(queues[name].ready for name in (JOBS_QUEUE, REPORTS_QUEUE, TASKS_QUEUE)),
            "all messages to be taken",
        )


class Daemons:
    """Messages and stored records end no daemon, nor its next start, nor disturb another's job."""

    name = "daemons"
    case_seconds = 120.0

    async def close(self) -> None:
        """Nothing lasts longer than a case."""

    def draw(self, rng: random.Random) -> Case:
        """Many messages and records."""
        return [self._part(rng) for _ in range(PARTS)]

    def _part(self, rng: random.Random) -> tuple[str, bytes]:
        match rng.randrange(6):
            case 0 | 1:
                return self._asked(rng)
            case 2:
                return REPORTS_QUEUE, self._told(rng, rng.choice(_reports()))
            case 3:
                return "control", self._told(rng, rng.choice(_controls()))
            case 4:
                task = rng.choice((MAP, REDUCE, TaskId("reduce-00007"), TaskId("map-00099")))
                return TASKS_QUEUE, self._told(rng, TaskMessage(1, BESIDE, task))
        what, valid = rng.choice(list(_records().items()))
        return f"record:{what}", message(rng, valid)

    def _told(self, rng: random.Random, valid: Any) -> bytes:
        """A message that nothing confirms, as it is or poisoned."""
        return msgspec.msgpack.encode(valid) if rng.random() < 0.3 else message(rng, plain(valid))

    def _asked(self, rng: random.Random) -> tuple[str, bytes]:
        content_type = rng.choice((JSON, JSON, MSGPACK))
        type_ = rng.choice(("", "", "", "cancel", "ping", "unheard-of"))
        valid = (
            {"version": 1, "job_id": "asked"}
            if type_ == "cancel"
            else _request(
                job=rng.choice(("count", "count", "bad")), output=f"{DIRECTORY}/asked-{rng.random()}"
            )
        )
        told = content_type if rng.random() < 0.9 else rng.choice(("", "text/plain", "application/x-msgpack"))
        return f"jobs:{told}|{type_}", message(rng, valid, content_type)

    async def check(self, case: Case) -> None:
        """Feed all of it to a cluster on which a job runs, then start the daemons again."""
        with tempfile.TemporaryDirectory(prefix="mr-fuzz-") as name:
            site, gate = Site(Path(name)), Path(name) / "gate"
            await site.open()
            async with site.daemons():
                await site.submit(BESIDE, gate=str(gate))
                await eventually(lambda: len(site.store.server.jobs[BESIDE].claims) == 2, "both maps to run")
                for kind, data in case:
                    await site.feed(kind, data)
                await site.taken()
                gate.touch()
                await site.completed(BESIDE)
            async with site.daemons():
                await site.submit("after")
                await site.completed("after")
            await site.client.close()
