"""Records to store: small, complete, different where the tests look."""

from typing import Any

from mr.ports.store import StateStore
from mr.protocol.aggregation import AggregationSpec
from mr.protocol.ids import Incarnation, JobId, TaskId, WorkerId
from mr.protocol.jobs import CodeManifest, FileRange, JobOptions, JobSpec, Split
from mr.protocol.records import (
    JobRecord,
    JobState,
    MapOutput,
    PartOutput,
    TaskRecord,
    TaskResult,
    TaskState,
    TaskStats,
    Transition,
    WorkerBeat,
)
from mr.resolve import buffers_of
from mr.settings import Settings

JOB = JobId("job-1")
MAP_0, MAP_1 = TaskId("map-00000"), TaskId("map-00001")
REDUCE_0 = TaskId("reduce-00000")
ANN, BOB, CID = WorkerId("ann"), WorkerId("bob"), WorkerId("cid")
FIRST_LIFE, SECOND_LIFE = Incarnation("life-1"), Incarnation("life-2")

MANIFEST = CodeManifest(
    code_id="sha256:" + "0" * 64,
    entry="job.py",
    functions=("map_fn", "reduce_fn"),
    reduce_agg=None,
    combine_agg=AggregationSpec("sum"),
    options=JobOptions(name="count", params={"stop": "é"}),
)


def spec(job: str = JOB, **changes: Any) -> JobSpec:
    """A job of two maps and one reduce."""
    fields: dict[str, Any] = {
        "job_id": JobId(job),
        "name": "count",
        "code": MANIFEST,
        "inputs": ("/data/a.txt",),
        "output": "/out",
        "maps": 2,
        "reduces": 1,
        "split_bytes": 1024,
        "input_format": "text",
        "output_format": "text",
        "encoding": "utf-8",
        "encoding_errors": "strict",
        "priority": 2,
        "weight": 1.0,
        "max_attempts": 4,
        "task_timeout_seconds": 0.0,
        "task_memory_bytes": 1 << 30,
        "buffers": buffers_of(Settings()),
        "params": {"k": "v"},
        "token": "secret",
        "submitted_at": 1000.0,
    }
    return JobSpec(**fields | changes)


def splits(count: int = 2) -> tuple[Split, ...]:
    """One range of one file each."""
    return tuple(Split(i, (FileRange("/data/a.txt", i * 1024, 1024, count * 1024),)) for i in range(count))


def record(job: str = JOB, state: JobState = JobState.SUBMITTED, **changes: Any) -> JobRecord:
    """The account of that job."""
    fields: dict[str, Any] = {
        "job_id": JobId(job),
        "name": "count",
        "state": state,
        "output": "/out",
        "priority": 2,
        "maps": 2,
        "reduces": 1,
        "history": (Transition(state, 1000.0, "submitted"),),
    }
    return JobRecord(**fields | changes)


def task(task_id: TaskId, state: TaskState = TaskState.QUEUED, **changes: Any) -> TaskRecord:
    """The account of a task."""
    return TaskRecord(task_id=task_id, state=state, **changes)


def map_result(task_id: TaskId = MAP_0, attempt: int = 1, worker: WorkerId = ANN) -> TaskResult:
    """What a map leaves."""
    output = MapOutput(
        task_id=task_id,
        attempt=attempt,
        worker=worker,
        incarnation=FIRST_LIFE,
        address="127.0.0.1:7000",
        host="host",
        path=f"/spool/{task_id}-{attempt}",
    )
    return TaskResult(output, TaskStats(records_in=3, counters={"bad": 2}))


def part_result(task_id: TaskId = REDUCE_0, attempt: int = 1) -> TaskResult:
    """What a task that writes a part leaves."""
    output = PartOutput(
        task_id=task_id,
        attempt=attempt,
        worker=ANN,
        incarnation=FIRST_LIFE,
        rows=3,
        bytes=30,
        checksum="0" * 16,
    )
    return TaskResult(output, TaskStats(records_out=3))


def beat(worker: WorkerId = ANN, incarnation: Incarnation = FIRST_LIFE, **changes: Any) -> WorkerBeat:
    """A heartbeat."""
    fields: dict[str, Any] = {
        "worker": worker,
        "incarnation": incarnation,
        "host": "host",
        "address": "127.0.0.1:7000",
        "version": "0.1.0",
        "started_at": 900.0,
        "slots": 2,
        "open_slots": 2,
    }
    return WorkerBeat(**fields | changes)


async def create(store: StateStore, job: str = JOB, epoch: int = 1, **changes: object) -> bool:
    """Create a job of `spec`."""
    return await store.create_job(spec(job, **changes), splits(), record(job), epoch)


async def is_later(store: StateStore, before: float) -> bool:
    """Whether the store's clock has gone on since `before`."""
    return await store.server_time() > before
