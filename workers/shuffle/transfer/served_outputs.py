"""The map outputs this worker serves: the file of each, and the token that its job requires."""

import hmac
from pathlib import Path

from mr.protocol.ids import AttemptId, JobId
from mr.protocol.records import MapOutput


class _Job:
    def __init__(self, token: str) -> None:
        self.token = token
        self.files: dict[AttemptId, Path] = {}


class ServedOutputs:
    """The outputs of a worker by their attempt."""

    def __init__(self) -> None:
        self._jobs: dict[JobId, _Job] = {}

    def add(self, token: str, output: MapOutput) -> None:
        """Serve an output to clients that show the job's token."""
        entry = self._jobs.setdefault(output.attempt.job, _Job(token))
        entry.files[output.attempt] = Path(output.path)

    def remove(self, attempt: AttemptId) -> None:
        """Stop serving an output."""
        if entry := self._jobs.get(attempt.job):
            entry.files.pop(attempt, None)
            if not entry.files:
                del self._jobs[attempt.job]

    def remove_job(self, job: JobId) -> None:
        """Stop serving a job's outputs."""
        self._jobs.pop(job, None)

    def jobs(self) -> tuple[JobId, ...]:
        """The jobs of which something is served."""
        return tuple(self._jobs)

    def knows(self, job: JobId) -> bool:
        """Whether anything of a job is served."""
        return job in self._jobs

    def admits(self, job: JobId, token: str) -> bool:
        """Whether this is the job's token, compared in constant time."""
        entry = self._jobs.get(job)
        shown = token.encode("utf-8", "surrogateescape")  # a header may hold any bytes
        return entry is not None and hmac.compare_digest(entry.token.encode(), shown)

    def find(self, attempt: AttemptId) -> Path | None:
        """The file of an output; None when it is not here."""
        entry = self._jobs.get(attempt.job)
        return entry.files.get(attempt) if entry else None
