"""A worker's files: SPOOL/<worker>/<incarnation>/jobs/<job>/{code,attempts/<task>-<attempt>,outputs}.

An incarnation is marked as alive (`workers/lives.py`) for as long as the worker lives; those of dead
ones are cleared by the next worker that starts in the same SPOOL. Starts and ends are one at a time,
by the lock `SPOOL/.lock`.
"""

import contextlib
import fcntl
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from mr.errors import MrError
from mr.protocol.ids import Incarnation, JobId, TaskId, WorkerId, is_id
from mr.telling import why
from workers.lives import clear_dead, mark_alive

_STARTS_LOCK = ".lock"
_JOBS = "jobs"


class SpoolUnusable(MrError):
    """The spool directory cannot be written. Choose another with --spool."""


class Spool:
    """The directories of one life of a worker. All methods block on the disk."""

    def __init__(self, root: Path, worker: WorkerId, incarnation: Incarnation) -> None:
        """Clear what dead workers left below `root`, then make and lock our own. Raises SpoolUnusable."""
        if not (is_id(worker) and is_id(incarnation)):
            raise SpoolUnusable(f"{worker!r} cannot be a worker id: letters, digits, `.`, `_` and `-` only")
        self._root = root.absolute()
        self.directory = self._root / worker / incarnation
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            with self._starting():
                self.cleared = tuple(self._clear_dead())
                self.directory.mkdir(parents=True, mode=0o700)
                self._life: IO[str] | None = mark_alive(self.directory)
                (self.directory / _JOBS).mkdir()
        except OSError as error:
            raise SpoolUnusable(f"the spool {root} cannot be used: {why(error)}") from error

    @contextlib.contextmanager
    def _starting(self) -> Iterator[None]:
        """Be the only one that makes or clears incarnations below the root."""
        with open(self._root / _STARTS_LOCK, "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _clear_dead(self) -> Iterator[str]:
        """Delete the incarnations nobody locks; yields `worker/incarnation` of each."""
        for incarnation in clear_dead(sorted(self._root.glob("*/*"))):
            self._remove_if_empty(incarnation.parent)
            yield f"{incarnation.parent.name}/{incarnation.name}"

    @staticmethod
    def _remove_if_empty(directory: Path) -> None:
        with contextlib.suppress(OSError):  # not empty: another life of the worker is there
            directory.rmdir()

    def close(self) -> None:
        """Delete everything of this life; SPOOL itself and its lock stay."""
        if self._life is None:
            return
        with self._starting():
            shutil.rmtree(self.directory, ignore_errors=True)
            self._life.close()
            self._life = None
            self._remove_if_empty(self.directory.parent)

    # --- jobs

    def _job_dir(self, job: JobId) -> Path:
        if not is_id(job):
            raise SpoolUnusable(f"{job!r} is not a job id")
        return self.directory / _JOBS / job

    def code_dir(self, job: JobId) -> Path:
        """Where a job's bundle is unpacked (made by the unpacking)."""
        return self._job_dir(job) / "code"

    def attempt_dir(self, job: JobId, task: TaskId, attempt: int) -> Path:
        """Where one attempt works (not made by this call)."""
        return self._job_dir(job) / "attempts" / f"{task}-{attempt}"

    def make_attempt(self, job: JobId, task: TaskId, attempt: int) -> Path:
        """Make an attempt's directory, empty."""
        directory = self.attempt_dir(job, task, attempt)
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        return directory

    def drop_attempt(self, job: JobId, task: TaskId, attempt: int) -> None:
        """Delete what an attempt left, except its kept output."""
        shutil.rmtree(self.attempt_dir(job, task, attempt), ignore_errors=True)

    def output_path(self, job: JobId, task: TaskId, attempt: int) -> Path:
        """Where the finished segment file of a map attempt is kept."""
        return self._job_dir(job) / "outputs" / f"{task}-{attempt}.segments"

    def keep_output(self, job: JobId, task: TaskId, attempt: int, made: Path, index: bytes) -> Path:
        """Move a finished segment file out of its attempt's directory, its index beside it."""
        path = self.output_path(job, task, attempt)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".index").write_bytes(index)
        return made.rename(path)

    def drop_output(self, job: JobId, task: TaskId, attempt: int) -> None:
        """Delete a kept output that does not count."""
        path = self.output_path(job, task, attempt)
        path.unlink(missing_ok=True)
        path.with_suffix(".index").unlink(missing_ok=True)

    def jobs(self) -> tuple[JobId, ...]:
        """The jobs that have files here."""
        return tuple(JobId(path.name) for path in sorted((self.directory / _JOBS).glob("*")))

    def drop_job(self, job: JobId) -> None:
        """Delete all files of a job."""
        shutil.rmtree(self._job_dir(job), ignore_errors=True)
