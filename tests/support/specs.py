"""Job specs, their code and their splits, with every field filled in that a test does not care for."""

import io
import zipfile
from typing import Any

from mr.bundle import content_id
from mr.protocol.aggregation import AggregationSpec
from mr.protocol.ids import JobId
from mr.protocol.jobs import CodeManifest, FileRange, JobOptions, JobSpec, Split
from mr.resolve import buffers_of
from mr.settings import Settings


def _zipped(text: str) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr(zipfile.ZipInfo("job.py"), text)
    return target.getvalue()


#: A bundle, for tests that store one.
CODE = _zipped("def map_fn(key, line): ...")
CODE_ID = content_id(CODE)


def make_manifest(
    code_id: str = CODE_ID,
    functions: tuple[str, ...] = ("map_fn", "reduce_fn"),
    *,
    entry: str = "job.py",
    reduce_agg: AggregationSpec | None = None,
    combine_agg: AggregationSpec | None = None,
    **options: Any,
) -> CodeManifest:
    """The manifest of a bundle; `options` are those of the job file's `JOB`."""
    return CodeManifest(code_id, entry, functions, reduce_agg, combine_agg, JobOptions(**options))


def make_spec(job: str = "job-1", maps: int = 2, reduces: int = 2, **changes: Any) -> JobSpec:
    """The spec of a small job without limits."""
    settings = Settings()
    fields: dict[str, Any] = {
        "job_id": JobId(job),
        "name": job,
        "code": make_manifest(),
        "inputs": ("in",),
        "output": f"/out/{job}",
        "maps": maps,
        "reduces": reduces,
        "split_bytes": settings.split_bytes,
        "input_format": "text",
        "output_format": "text",
        "encoding": "utf-8",
        "encoding_errors": "strict",
        "priority": 2,
        "weight": 1.0,
        "max_attempts": 4,
        "task_timeout_seconds": 0.0,
        "task_memory_bytes": 0,
        "buffers": buffers_of(settings),
        "params": {},
        "token": "secret",
        "submitted_at": 0.0,
    }
    return JobSpec(**fields | changes)


def make_splits(count: int = 2, size: int = 100) -> tuple[Split, ...]:
    """`count` splits of one file, of `size` bytes each."""
    return tuple(Split(i, (FileRange("in", i * size, size, count * size),)) for i in range(count))
