"""A host's disk, and the spool of one worker's incarnation on it: the interface of the real Spool."""

from pathlib import Path
from typing import Any

from mr.protocol.codec import pack, unpack
from mr.protocol.ids import AttemptId, Incarnation, JobId, WorkerId
from mr.protocol.jobs import CodeManifest
from mr.protocol.records import MapOutput
from mr.workers.daemon.spool import DiskUsage, LeftOutput
from tests.simulation.loop import Life, LifeState
from tests.simulation.world import World

_SEGMENTS, _INDEX = ".segments", ".index"


class Disk:
    """The files of one host, and who holds the lock of each directory below the spool's root."""

    def __init__(self, world: World, host: str, full: float) -> None:
        self.world = world
        self.host = host
        #: The share of writes that find no room.
        self._full = full
        self.files: dict[str, Any] = {}
        self.locks: dict[str, Life | None] = {}

    def write(self, path: str, content: Any) -> None:
        """Write a file. Raises OSError."""
        if self.world.strikes(self._full):
            self.world.say(f"the disk of {self.host} is full")
            raise OSError("no space left on device")
        self.files[path] = content

    def rename(self, source: str, target: str) -> None:
        """Rename a file. Raises FileNotFoundError."""
        if source not in self.files:
            raise FileNotFoundError(source)
        self.files[target] = self.files.pop(source)

    def remove(self, directory: str) -> None:
        """Remove everything below a directory."""
        for path in [path for path in self.files if path.startswith(directory + "/")]:
            del self.files[path]

    def locked(self, directory: str) -> bool:
        """Whether a process holds the lock of a directory: the kernel frees that of a dead one."""
        holder = self.locks[directory]
        return holder is not None and holder.state is not LifeState.DEAD

    def lose(self) -> None:
        """Lose what dead workers left, as when the machine comes back with another disk."""
        for directory in [name for name in self.locks if not self.locked(name)]:
            self.remove(directory)
            del self.locks[directory]


class SimulatedSpool:
    """The directories of one incarnation."""

    def __init__(self, disk: Disk, worker: WorkerId, incarnation: Incarnation, life: Life) -> None:
        self._disk = disk
        self._life = life
        self._dead = [directory for directory in sorted(disk.locks) if not disk.locked(directory)]
        for directory in self._dead:
            disk.locks[directory] = life
        self.cleared = tuple(directory.removeprefix("/spool/") for directory in self._dead)
        self.ended_incarnations = tuple(Incarnation(name.rpartition("/")[2]) for name in self._dead)
        self.directory = Path(f"/spool/{worker}/{incarnation}")
        self._root = str(self.directory)
        disk.locks[self._root] = life
        self._open = True

    def _check_open(self) -> None:
        if not self._open:
            raise OSError("the worker is stopping")

    # --- what dead workers left

    def left_outputs(self) -> dict[JobId, list[LeftOutput]]:
        """The map outputs of dead workers, by job."""
        found: dict[JobId, list[LeftOutput]] = {}
        for path in sorted(self._disk.files):
            directory = "/".join(path.split("/")[:4])
            if directory in self._dead and "/outputs/" in path and path.endswith(_INDEX):
                output = unpack(self._disk.files[path], MapOutput)
                inner = path.partition("/outputs/")[2].split("/")
                owner = Incarnation(directory.rpartition("/")[2])
                maker = Incarnation(inner[0]) if len(inner) > 1 else owner
                left = LeftOutput(owner, maker, Path(path).with_suffix(_SEGMENTS), output)
                found.setdefault(output.attempt.job, []).append(left)
        return found

    def take(self, left: LeftOutput) -> Path | None:
        """Move a dead worker's output here. None: it is gone."""
        path = self.output_path(left.output.attempt, left.maker)
        try:
            self._check_open()
            self._disk.rename(str(left.path), str(path))
            self._disk.rename(str(left.path.with_suffix(_INDEX)), str(path.with_suffix(_INDEX)))
        except OSError:
            return None
        return path

    def clear_dead(self) -> None:
        """Delete what is left of dead workers."""
        dead, self._dead = self._dead, []
        for directory in dead:
            self._disk.remove(directory)
            self._disk.locks.pop(directory, None)

    def close(self, *, keep_outputs: bool = False) -> None:
        """Delete everything, or all but the map outputs; from now on the lock is free."""
        for directory in self._dead:
            self._disk.locks[directory] = None
        if not self._open:
            return
        self._open = False
        for path in [path for path in self._disk.files if path.startswith(self._root + "/")]:
            if not keep_outputs or "/outputs/" not in path:
                del self._disk.files[path]
        self._disk.locks[self._root] = None
        if not keep_outputs:
            del self._disk.locks[self._root]

    def disk_usage(self) -> DiskUsage:
        """There is always room when somebody looks."""
        return DiskUsage(1 << 40, 1 << 39)

    # --- jobs

    def _job(self, job: JobId) -> str:
        return f"{self._root}/jobs/{job}"

    def code_dir(self, job: JobId, code: CodeManifest) -> Path:
        """Where a job's code is."""
        return Path(self._job(job)) / "code"

    def has_code(self, job: JobId, code: CodeManifest) -> bool:
        """Whether it was unpacked."""
        return f"{self._job(job)}/code/{code.entry}" in self._disk.files

    def unpack_code(self, job: JobId, code: CodeManifest, bundle: bytes) -> None:
        """Keep it. Raises OSError."""
        self._disk.write(f"{self._job(job)}/code/{code.entry}", bundle)

    def _attempt(self, attempt: AttemptId) -> str:
        return f"{self._job(attempt.job)}/attempts/{attempt.task}-{attempt.number}"

    def make_attempt(self, attempt: AttemptId) -> Path:
        """Make an attempt's directory, empty. Raises OSError."""
        self._check_open()
        directory = self._attempt(attempt)
        self._disk.remove(directory)
        self._disk.write(directory + "/.made", None)
        return Path(directory)

    def drop_attempt(self, attempt: AttemptId) -> None:
        """Delete what an attempt left."""
        self._disk.remove(self._attempt(attempt))

    def output_path(self, attempt: AttemptId, maker: Incarnation | None = None) -> Path:
        """Where a map output is kept."""
        inner = f"{maker}/" if maker else ""
        return Path(f"{self._job(attempt.job)}/outputs/{inner}{attempt.task}-{attempt.number}{_SEGMENTS}")

    def keep_output(self, attempt: AttemptId, made: Path, index: bytes) -> Path:
        """Move a finished output to where it stays. Raises OSError."""
        self._check_open()
        path = self.output_path(attempt)
        self._disk.write(str(path.with_suffix(_INDEX)), index)
        self._disk.rename(str(made), str(path))
        return path

    def write_index(self, path: Path, output: MapOutput) -> None:
        """Rewrite an index. Raises OSError."""
        self._check_open()
        self._disk.files[str(path.with_suffix(_INDEX))] = pack(output)

    def drop_output(self, path: Path) -> None:
        """Delete a kept output."""
        self._disk.files.pop(str(path), None)
        self._disk.files.pop(str(path.with_suffix(_INDEX)), None)

    def jobs(self) -> tuple[JobId, ...]:
        """The jobs that have files here."""
        prefix = f"{self._root}/jobs/"
        names = {path[len(prefix) :].split("/")[0] for path in self._disk.files if path.startswith(prefix)}
        return tuple(JobId(name) for name in sorted(names))

    def drop_job(self, job: JobId, *, keep_outputs: bool = False) -> None:
        """Delete all files of a job; no output is kept here for a resume."""
        assert not keep_outputs
        self._disk.remove(self._job(job))
