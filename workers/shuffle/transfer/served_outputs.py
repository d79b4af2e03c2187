"""The map outputs this worker can serve: which file each is, and who may have it."""

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
        """Offer an output to whoever shows the job's token."""
        entry = self._jobs.setdefault(output.attempt.job, _Job(token))
        entry.files[output.attempt] = Path(output.path)

    def remove(self, attempt: AttemptId) -> None:
        """Offer an output no more."""
        if entry := self._jobs.get(attempt.job):
            entry.files.pop(attempt, None)
            if not entry.files:
                del self._jobs[attempt.job]

    def remove_job(self, job: JobId) -> None:
        """Offer nothing of a job any more."""
        self._jobs.pop(job, None)

    def jobs(self) -> tuple[JobId, ...]:
        """The jobs of which something is offered."""
        return tuple(self._jobs)

    def knows(self, job: JobId) -> bool:
        """Whether anything of a job is offered."""
        return job in self._jobs

    def admits(self, job: JobId, token: str) -> bool:
        """Whether this is the job's token; the time taken does not tell how much of it is right."""
        entry = self._jobs.get(job)
        return entry is not None and hmac.compare_digest(entry.token.encode(), token.encode())

    def find(self, attempt: AttemptId) -> Path | None:
        """The file of an output; None when it is not here."""
        entry = self._jobs.get(attempt.job)
        return entry.files.get(attempt) if entry else None
