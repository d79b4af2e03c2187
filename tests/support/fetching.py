"""Map outputs as real files, and reduces that fetch them."""

from pathlib import Path

import msgspec

from mr.protocol.failures import Loss
from mr.protocol.ids import AttemptId, Incarnation, JobId, TaskKind, WorkerId, task_id
from mr.protocol.locations import pack_outputs
from mr.protocol.records import MapOutput
from mr.settings import Settings
from mr.workers.messages import RunTask, WorkerIdentity
from mr.workers.shuffle.buffer import MapBuffer
from mr.workers.shuffle.segment import read_segment
from mr.workers.shuffle.segment_index import find_segment
from mr.workers.shuffle.transfer.fetch import InputLost
from mr.workers.shuffle.transfer.host_fetch import ShuffleSource
from tests.support.run_tasks import make_run_task
from tests.support.specs import make_spec

JOB = JobId("job-1")
TOKEN = "secret"


def make_output(directory: Path, index: int, words: list[str], address: str, worker: str = "w1") -> MapOutput:
    """Run a map's buffer: partition 0 gets every word, partition 1 none."""
    work_dir = directory / f"work-{worker}-{index}"
    work_dir.mkdir()
    buffer = MapBuffer(
        partitions=2,
        work_dir=work_dir,
        spill_rows=1000,
        spill_bytes=1 << 20,
        combiner=None,
        partitioner=lambda key, partitions: 0,
    )
    buffer.add(words, [index] * len(words))
    made = buffer.finish(directory / f"{worker}-{index}.segments")
    return MapOutput(
        AttemptId(JOB, task_id(TaskKind.MAP, index), 1),
        WorkerId(worker),
        Incarnation("i"),
        address,
        f"host of {worker}",
        str(made.path),
    )


def make_reduce(
    directory: Path, outputs: list[MapOutput], host: str = "host of the reducer", **settings: object
) -> RunTask:
    run_task = make_run_task(directory, make_spec(token=TOKEN), "reduce-00000")
    return msgspec.structs.replace(
        run_task,
        map_outputs=pack_outputs(outputs),
        identity=WorkerIdentity(WorkerId("r"), Incarnation("i"), "", host),
        settings=Settings(**settings),
    )


def segment_of(output: MapOutput) -> bytes:
    """The bytes of partition 0."""
    segment = find_segment(Path(output.path), 0)
    with segment.open() as file:
        return file.read(segment.bytes)


def words_of(source: ShuffleSource) -> list[str]:
    return [key for rows in read_segment(source) for key in rows.keys.array().to_pylist()]


def found_in(error: InputLost) -> list[Loss]:
    return [item.found for item in error.lost]


def lost_in(error: InputLost) -> list[tuple[str, int, str]]:
    return [(item.task_id, item.attempt, item.worker) for item in error.lost]
