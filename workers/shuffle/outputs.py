"""The map outputs this worker can serve: where each segment lies, and who may have it."""

import hmac
from itertools import accumulate
from pathlib import Path

import msgspec

from mr.protocol.ids import JobId, TaskId
from mr.protocol.records import MapOutput


class FileRegion(msgspec.Struct, frozen=True):
    """Bytes [offset, offset + bytes) of a file."""

    path: Path
    offset: int
    bytes: int


class _Kept:
    """One output with the offsets of its segments; the last offset is the file's size."""

    def __init__(self, output: MapOutput) -> None:
        self.path = Path(output.path)
        self.offsets = [0, *accumulate(output.partition_bytes)]

    def region(self, partition: int) -> FileRegion | None:
        if partition + 1 >= len(self.offsets):
            return None
        start, end = self.offsets[partition : partition + 2]
        return FileRegion(self.path, start, end - start)


class _Job:
    def __init__(self, token: str) -> None:
        self.token = token
        self.kept: dict[tuple[TaskId, int], _Kept] = {}


class Outputs:
    """All outputs of a worker by job, task and attempt."""

    def __init__(self) -> None:
        self._jobs: dict[JobId, _Job] = {}

    def add(self, job: JobId, token: str, output: MapOutput) -> None:
        """Offer an output to whoever shows the job's token."""
        entry = self._jobs.setdefault(job, _Job(token))
        entry.kept[output.task_id, output.attempt] = _Kept(output)

    def remove(self, job: JobId, task: TaskId, attempt: int) -> None:
        """Offer an output no more."""
        if entry := self._jobs.get(job):
            entry.kept.pop((task, attempt), None)

    def remove_job(self, job: JobId) -> None:
        """Offer nothing of a job any more."""
        self._jobs.pop(job, None)

    def knows(self, job: JobId) -> bool:
        """Whether anything of a job is offered."""
        return job in self._jobs

    def admits(self, job: JobId, token: str) -> bool:
        """Whether this is the job's token; the time taken does not tell how much of it is right."""
        entry = self._jobs.get(job)
        return entry is not None and hmac.compare_digest(entry.token.encode(), token.encode())

    def find(self, job: JobId, task: TaskId, attempt: int, partition: int) -> FileRegion | None:
        """Where a segment lies; None when it is not here."""
        entry = self._jobs.get(job)
        kept = entry.kept.get((task, attempt)) if entry else None
        return kept.region(partition) if kept else None
