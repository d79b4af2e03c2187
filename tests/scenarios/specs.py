"""Job specs for tests of the scheduler."""

from mr.protocol.ids import JobId
from mr.protocol.jobs import CodeManifest, JobOptions, JobSpec
from mr.resolve import buffers_of
from mr.settings import Settings

CODE = CodeManifest("sha256:" + "0" * 64, "job.py", ("map_fn", "reduce_fn"), None, None, JobOptions())


def make_spec(
    job: str, maps: int, reduces: int, *, priority: int = 2, weight: float = 1.0, max_attempts: int = 4
) -> JobSpec:
    """A spec of which only the numbers matter."""
    return JobSpec(
        job_id=JobId(job),
        name=job,
        code=CODE,
        inputs=("in",),
        output=f"/out/{job}",
        maps=maps,
        reduces=reduces,
        split_bytes=100,
        input_format="text",
        output_format="text",
        encoding="utf-8",
        encoding_errors="strict",
        priority=priority,
        weight=weight,
        max_attempts=max_attempts,
        task_timeout_seconds=0.0,
        task_memory_bytes=1,
        buffers=buffers_of(Settings()),
        params={},
        token="token",
        submitted_at=0.0,
    )
