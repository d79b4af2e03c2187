"""Records to store: small and complete."""

from typing import Any

from mr.ports.store import StateStore
from mr.protocol.aggregation import AggregationSpec
from mr.protocol.ids import AttemptId, Incarnation, JobId, TaskId, WorkerId
from mr.protocol.jobs import JobSpec
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
from tests.support.job_records import job_record, worker_beat
from tests.support.specs import make_manifest, make_spec, make_splits

JOB = JobId("job-1")
MAP_0, MAP_1 = TaskId("map-00000"), TaskId("map-00001")
REDUCE_0 = TaskId("reduce-00000")
ANN, BOB, CID = WorkerId("ann"), WorkerId("bob"), WorkerId("cid")
FIRST_RUN, SECOND_RUN = Incarnation("life-1"), Incarnation("life-2")

MANIFEST = make_manifest(combine_agg=AggregationSpec("sum"), name="count", params={"stop": "é"})


def spec(job: str = JOB, **changes: Any) -> JobSpec:
    """A job of two maps and one reduce."""
    return make_spec(job, **{"reduces": 1, "code": MANIFEST, "params": {"k": "v"}} | changes)


def record(job: str = JOB, state: JobState = JobState.SUBMITTED, **changes: Any) -> JobRecord:
    """The record of that job."""
    history = (Transition(state, 1000.0, "submitted"),)
    return job_record(job, state, **{"name": "count", "maps": 2, "reduces": 1, "history": history} | changes)


def task(task_id: TaskId, state: TaskState = TaskState.QUEUED, **changes: Any) -> TaskRecord:
    """The record of a task."""
    return TaskRecord(task_id=task_id, state=state, **changes)


def map_result(task_id: TaskId = MAP_0, attempt: int = 1, worker: WorkerId = ANN) -> TaskResult:
    """The result of a map task."""
    output = MapOutput(
        attempt=AttemptId(JOB, task_id, attempt),
        worker=worker,
        incarnation=FIRST_RUN,
        address="127.0.0.1:7000",
        host="host",
        path=f"/spool/{task_id}-{attempt}",
    )
    return TaskResult(output, TaskStats(records_in=3, counters={"bad": 2}))


def part_result(task_id: TaskId = REDUCE_0, attempt: int = 1, job: JobId = JOB) -> TaskResult:
    """The result of a task that writes an output part."""
    output = PartOutput(
        attempt=AttemptId(job, task_id, attempt),
        worker=ANN,
        incarnation=FIRST_RUN,
        rows=3,
        bytes=30,
        checksum="0" * 16,
    )
    return TaskResult(output, TaskStats(records_out=3))


def beat(worker: WorkerId = ANN, incarnation: Incarnation = FIRST_RUN, **changes: Any) -> WorkerBeat:
    """A heartbeat."""
    return worker_beat(worker, incarnation=incarnation, **{"address": "127.0.0.1:7000"} | changes)


async def create(store: StateStore, job: str = JOB, epoch: int = 1, **changes: object) -> bool:
    """Create a job of `spec`."""
    return await store.create_job(spec(job, **changes), make_splits(), record(job), epoch)


async def is_later(store: StateStore, before: float) -> bool:
    """Whether the store's clock has advanced since `before`."""
    return await store.server_time() > before
