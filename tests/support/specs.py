"""Job specs, their code and their splits, with every field filled in that a test does not care for."""

import io
import zipfile
from typing import Any

from mr.bundle import content_id
from mr.protocol.aggregation import AggregationSpec
from mr.protocol.ids import JobId
from mr.protocol.jobs import CodeManifest, FileRange, JobSpec, Split
from mr.protocol.options import JobOptions
from mr.resolve import buffers_of, default_options
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
    """The spec of a small job without limits. `changes`: fields of it, and of its options."""
    own = {name: value for name, value in changes.items() if name in JobSpec.__struct_fields__}
    options = {name: value for name, value in changes.items() if name not in own}
    fields: dict[str, Any] = {
        "job_id": JobId(job),
        "code": make_manifest(),
        "inputs": ("in",),
        "output": f"/out/{job}",
        "maps": maps,
        "reduces": reduces,
        "options": default_options(Settings(), **{"name": job, "task_memory": 0} | options),
        "buffers": buffers_of(Settings()),
        "token": "secret",
        "submitted_at": 0.0,
    }
    return JobSpec(**fields | own)


def make_splits(count: int = 2, size: int = 100) -> tuple[Split, ...]:
    """`count` splits of one file, of `size` bytes each."""
    return tuple(Split(i, (FileRange("in", i * size, size, count * size),)) for i in range(count))
