"""A worker's files: SPOOL/<worker>/<incarnation>/jobs/<job>/{code-<id>,attempts/<task>-<attempt>,outputs}.

An incarnation is marked as alive (`workers/daemon/directory_lock.py`) for as long as the worker lives. The
next worker that starts in the same SPOOL takes over what dead ones left: it adopts the map outputs that are
still needed (`workers/daemon/adoption.py`), each in `outputs/<the incarnation that made it>`, and deletes
the rest. `SPOOL/.lock` makes workers start and end one at a time.
"""

import contextlib
import errno
import fcntl
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

import msgspec

from mr.bundle import check_bundle, unpack_bundle
from mr.error_text import error_text
from mr.errors import BadMessage, MrError
from mr.protocol.codec import pack, unpack
from mr.protocol.ids import AttemptId, CodeId, Incarnation, JobId, WorkerId, is_id
from mr.protocol.jobs import CodeManifest
from mr.protocol.records import MapOutput
from mr.workers.daemon.directory_lock import hold_dead, mark_alive

_STARTS_LOCK = ".lock"
_JOBS = "jobs"
_OUTPUTS = "outputs"
#: Written and deleted to see whether the disk takes anything.
_PROBE = ".probe"
_SEGMENTS, _INDEX = ".segments", ".index"


class SpoolUnusable(MrError):
    """The spool directory cannot be written. Choose another with --spool."""


class DiskUsage(NamedTuple):
    """Bytes of a disk."""

    total: int
    free: int


class LeftOutput(msgspec.Struct, frozen=True):
    """A map output in the spool of a worker that is dead."""

    #: The incarnation in whose directory it lies.
    incarnation: Incarnation
    #: The incarnation that made it and ran its attempt: an output may have been adopted before.
    maker: Incarnation
    #: The segment file; its index lies beside it.
    path: Path
    output: MapOutput


class Spool:
    """The directories of one incarnation of a worker. All methods block on the disk."""

    def __init__(self, root: Path, worker: WorkerId, incarnation: Incarnation) -> None:
        """Lock what dead workers left below `root`, then make and lock this one's. Raises SpoolUnusable."""
        if not (is_id(worker) and is_id(incarnation)):
            raise SpoolUnusable(f"{worker!r} cannot be a worker id: letters, digits, `.`, `_` and `-` only")
        self._root = root.absolute()
        self.directory = self._root / worker / incarnation
        #: Held while something is made, so that nothing is made in a spool that is closed.
        self._making = threading.Lock()
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            with self._starting():
                self._dead = list(hold_dead(sorted(self._root.glob("*/*"))))
                #: `worker/incarnation` of each one that had ended when this one began.
                self.cleared = tuple(f"{path.parent.name}/{path.name}" for path, _ in self._dead)
                self.ended_incarnations = tuple(
                    Incarnation(path.name) for path, _ in self._dead if is_id(path.name)
                )
                self.directory.mkdir(parents=True, mode=0o700)
                self._lock: IO[str] | None = mark_alive(self.directory)
                (self.directory / _JOBS).mkdir()
        except OSError as error:
            raise SpoolUnusable(f"the spool {root} cannot be used: {error_text(error)}") from error

    @contextlib.contextmanager
    def _starting(self) -> Iterator[None]:
        """Be the only process that makes or clears directories of incarnations below the root."""
        with open(self._root / _STARTS_LOCK, "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    # --- what dead workers left

    def left_outputs(self) -> dict[JobId, list[LeftOutput]]:
        """The map outputs of dead workers, by job."""
        found: dict[JobId, list[LeftOutput]] = {}
        for directory, _ in self._dead:
            incarnation = Incarnation(directory.name)
            for outputs in sorted(directory.glob(f"{_JOBS}/*/{_OUTPUTS}")):
                for index in sorted(outputs.rglob(f"*{_INDEX}")):
                    maker = incarnation if index.parent == outputs else Incarnation(index.parent.name)
                    with contextlib.suppress(OSError, BadMessage):
                        output = unpack(index.read_bytes(), MapOutput)
                        left = LeftOutput(incarnation, maker, index.with_suffix(_SEGMENTS), output)
                        if output.attempt.job == outputs.parent.name:
                            found.setdefault(output.attempt.job, []).append(left)
        return found

    def take(self, left: LeftOutput) -> Path | None:
        """Move a dead worker's output into this spool, apart from what others made. None: it is gone.

        A store that came back older may give a number again, so that no two attempts may share a file.
        """
        path = self.output_path(left.output.attempt, left.maker)
        try:
            with self._made():
                path.parent.mkdir(parents=True, exist_ok=True)
                left.path.rename(path)
                left.path.with_suffix(_INDEX).rename(path.with_suffix(_INDEX))
        except OSError:
            return None
        return path

    def clear_dead(self) -> None:
        """Delete what is left of dead workers."""
        dead, self._dead = self._dead, []
        with self._starting():
            for directory, lock in dead:
                with lock:
                    shutil.rmtree(directory, ignore_errors=True)
                self._remove_if_empty(directory.parent)

    @staticmethod
    def _remove_if_empty(directory: Path) -> None:
        with contextlib.suppress(OSError):  # not empty, such as where another incarnation of the worker is
            directory.rmdir()

    @contextlib.contextmanager
    def _made(self) -> Iterator[None]:
        """Make something while the spool is open. Raises OSError when it is closed."""
        with self._making:
            if self._lock is None:
                raise OSError("the worker is stopping")
            yield

    def close(self, *, keep_outputs: bool = False) -> None:
        """Delete everything of this incarnation, or all but its map outputs; SPOOL and its lock stay.

        What is kept then counts as left by a dead worker: the next one to start here takes it over.
        """
        with self._making:
            own_lock, self._lock = self._lock, None
        for _, lock in self._dead:
            lock.close()
        if own_lock is None:
            return
        with self._starting():
            for job in self.jobs() if keep_outputs else ():
                self.drop_job(job, keep_outputs=True)
            if not keep_outputs:
                shutil.rmtree(self.directory, ignore_errors=True)
            own_lock.close()
            self._remove_if_empty(self.directory.parent)

    def disk_usage(self) -> DiskUsage:
        """Total and free bytes where the spool lies, free ones only as far as a file can be written.

        Raises OSError, also when nothing can be written for another reason than lack of space.
        """
        probe = self.directory / _PROBE
        with self._made():
            self.directory.mkdir(parents=True, exist_ok=True)  # somebody may have deleted it
            usage = shutil.disk_usage(self.directory)
            try:
                probe.write_bytes(b"x")
                probe.unlink()
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                return DiskUsage(usage.total, 0)
        return DiskUsage(usage.total, usage.free)

    # --- jobs

    def _job_dir(self, job: JobId) -> Path:
        if not is_id(job):
            raise SpoolUnusable(f"{job!r} is not a job id")
        return self.directory / _JOBS / job

    def code_dir(self, job: JobId, code: CodeManifest) -> Path:
        """Where a job's bundle is unpacked (made by the unpacking). A job may be resumed with other code."""
        return self._job_dir(job) / f"code-{code.code_id.rpartition(':')[2][:16]}"

    def has_code(self, job: JobId, code: CodeManifest) -> bool:
        """Whether the unpacked code is still there: somebody may have cleaned up the spool's disk."""
        return (self.code_dir(job, code) / code.entry).is_file()

    def unpack_code(self, job: JobId, code: CodeManifest, bundle: bytes) -> None:
        """Check that a bundle is the code that its id names, and unpack it. Raises BadJob, OSError."""
        check_bundle(bundle, CodeId(code.code_id), code.entry)
        unpack_bundle(bundle, self.code_dir(job, code))

    def attempt_dir(self, attempt: AttemptId) -> Path:
        """Where one attempt works (not made by this call)."""
        return self._job_dir(attempt.job) / "attempts" / f"{attempt.task}-{attempt.number}"

    def make_attempt(self, attempt: AttemptId) -> Path:
        """Make an attempt's directory, empty."""
        directory = self.attempt_dir(attempt)
        with self._made():
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir(parents=True)
        return directory

    def drop_attempt(self, attempt: AttemptId) -> None:
        """Delete what an attempt left, except its kept output."""
        shutil.rmtree(self.attempt_dir(attempt), ignore_errors=True)

    def output_path(self, attempt: AttemptId, maker: Incarnation | None = None) -> Path:
        """Where a map attempt's segment file is kept; one that another incarnation made lies apart."""
        name = f"{attempt.task}-{attempt.number}{_SEGMENTS}"
        return self._job_dir(attempt.job) / _OUTPUTS / (maker or "") / name

    def keep_output(self, attempt: AttemptId, made: Path, index: bytes) -> Path:
        """Move a finished segment file out of its attempt's directory, its index beside it."""
        path = self.output_path(attempt)
        with self._made():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.with_suffix(_INDEX).write_bytes(index)
            return made.rename(path)

    def write_index(self, path: Path, output: MapOutput) -> None:
        """Rewrite the index of a kept output that was relocated. Raises OSError."""
        with self._made():
            path.with_suffix(_INDEX).write_bytes(pack(output))

    def drop_output(self, path: Path) -> None:
        """Delete a kept output that does not count."""
        path.unlink(missing_ok=True)
        path.with_suffix(_INDEX).unlink(missing_ok=True)

    def jobs(self) -> tuple[JobId, ...]:
        """The jobs that have files here."""
        return tuple(JobId(path.name) for path in sorted((self.directory / _JOBS).glob("*")))

    def drop_job(self, job: JobId, *, keep_outputs: bool = False) -> None:
        """Delete all files of a job, or all but its map outputs."""
        directory = self._job_dir(job)
        for path in directory.glob("*") if keep_outputs else (directory,):
            if path.name != _OUTPUTS or not keep_outputs:
                shutil.rmtree(path, ignore_errors=True)
        self._remove_if_empty(directory)
