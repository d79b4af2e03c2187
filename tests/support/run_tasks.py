"""RunTask messages for tests of the worker, with every field that a test does not care for filled in."""

from pathlib import Path

from mr.protocol.ids import AttemptId, Incarnation, TaskId, WorkerId
from mr.protocol.jobs import JobSpec
from mr.protocol.locations import PackedOutputs
from mr.settings import Settings
from mr.workers.messages import RunTask, WorkerIdentity
from tests.support.specs import make_splits


def make_run_task(
    directory: Path,
    spec: JobSpec,
    task: str = "map-00000",
    attempt: int = 1,
    settings: Settings | None = None,
) -> RunTask:
    """A RunTask with a work directory of its own under `directory`."""
    work_dir = directory / f"{spec.job_id}-{task}-{attempt}"
    work_dir.mkdir()
    return RunTask(
        spec=spec,
        attempt=AttemptId(spec.job_id, TaskId(task), attempt),
        identity=WorkerIdentity(WorkerId("w1"), Incarnation("i1"), "", "here"),
        code_dir=str(directory / str(spec.job_id)),
        work_dir=str(work_dir),
        settings=settings or Settings(),
        split=make_splits(1, size=10)[0],
        map_outputs=PackedOutputs(),
    )
