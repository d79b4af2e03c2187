"""Specs and orders for tests of the worker, with every field that a test does not care for filled in."""

import io
import zipfile
from pathlib import Path
from typing import Any

from mr.bundle import content_id
from mr.protocol.ids import Incarnation, JobId, TaskId, WorkerId
from mr.protocol.jobs import CodeManifest, FileRange, JobOptions, JobSpec, Split
from mr.protocol.locations import PackedOutputs
from mr.resolve import buffers_of
from mr.settings import Settings
from mr.workers.messages import RunTask, WorkerIdentity


def _zipped(text: str) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr(zipfile.ZipInfo("job.py"), text)
    return target.getvalue()


CODE = _zipped("def map_fn(key, line): ...")
CODE_ID = content_id(CODE)


def make_spec(job: str = "job-1", **changes: Any) -> JobSpec:
    """A small job's spec: two maps, two reduces, no limits."""
    fields: dict[str, Any] = {
        "job_id": JobId(job),
        "name": "test",
        "code": CodeManifest(CODE_ID, "job.py", ("map_fn", "reduce_fn"), None, None, JobOptions()),
        "inputs": ("in",),
        "output": "out",
        "maps": 2,
        "reduces": 2,
        "split_bytes": Settings().split_bytes,
        "input_format": "text",
        "output_format": "text",
        "encoding": "utf-8",
        "encoding_errors": "strict",
        "priority": 2,
        "weight": 1.0,
        "max_attempts": 4,
        "task_timeout_seconds": 0.0,
        "task_memory_bytes": 0,
        "buffers": buffers_of(Settings()),
        "params": {},
        "token": "secret",
        "submitted_at": 0.0,
    }
    return JobSpec(**{**fields, **changes})


def make_split(index: int = 0) -> Split:
    """A split of one range."""
    return Split(index, (FileRange("in", 0, 10, 10),))


def make_order(
    directory: Path,
    spec: JobSpec,
    task: str = "map-00000",
    attempt: int = 1,
    settings: Settings | None = None,
) -> RunTask:
    """An order with a work directory of its own under `directory`."""
    work_dir = directory / f"{spec.job_id}-{task}-{attempt}"
    work_dir.mkdir()
    return RunTask(
        spec=spec,
        task_id=TaskId(task),
        attempt=attempt,
        origin=WorkerIdentity(WorkerId("w1"), Incarnation("i1"), "", "here"),
        code_dir=str(directory / str(spec.job_id)),
        work_dir=str(work_dir),
        settings=settings or Settings(),
        split=make_split(),
        map_outputs=PackedOutputs(),
    )
