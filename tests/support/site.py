"""A cluster on servers of its own that a test may harm, and what must be true of a job afterwards."""

import json
import os
import signal
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any

import redis

from tests.e2e.gate import GatedJob
from tests.e2e.references import same_parts
from tests.support.commands import Commands
from tests.support.links import LinkedCluster, Links
from tests.support.servers import PrivateRabbitMQ, PrivateRedis
from tests.support.waiting import until

#: Of every job here.
MAPS, REDUCES = 6, 4
#: Only a failing test waits this long for its job.
PATIENCE_SECONDS = 90.0
#: When a fault strikes. `finish`: every task is committed, and the coordinator does not know yet.
PHASES = ("map", "reduce", "finish")
#: Debian's package faketime.
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")
#: A worker that others cannot reach is given time to be left out; the next test waits for its return.
EXCLUDE_SECONDS = "12"
#: Of a worker's spool, where the test may mount one.
SPOOL_BYTES = 64 * 1024 * 1024


class Site:
    """A private RabbitMQ and Redis, a coordinator and three workers; every connection is a link.

    The spool of w1 is a file system of its own where `mounts` (that needs root). With `clocks` each daemon
    has its own clock of the day.
    """

    def __init__(self, directory: Path, *, clocks: bool = False) -> None:
        self.directory = directory
        self.mounts = os.geteuid() == 0
        self.links = Links()
        self.rabbitmq = PrivateRabbitMQ(directory / "rabbitmq")
        self.redis = PrivateRedis(directory / "redis", persistent=True)
        self._clocks = clocks
        self.cluster: LinkedCluster
        #: Whether the last test left everything as it should be.
        self.sound = True
        self._frozen: list[int] = []

    def __enter__(self) -> "Site":
        self.links.__enter__()
        try:
            self.rabbitmq.start()
            self.redis.start()
            self.cluster = LinkedCluster(
                self.links,
                self.directory / "cluster",
                self.rabbitmq.port,
                self.redis.port,
                extra=self._clock_of if self._clocks else lambda name: {},
                settings={"MR_SPOOL_RESERVE_BYTES": "1MiB", "MR_EXCLUDE_SECONDS": EXCLUDE_SECONDS},
            )
            self.mount_spool()
            self.cluster.ensure()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop everything, and unmount what is mounted."""
        self.thaw()
        self.links.heal()
        if hasattr(self, "cluster"):
            self.cluster.close()
        self.rabbitmq.stop()
        self.redis.stop()
        unmount(self.spool)
        self.links.__exit__(None, None, None)

    # --- what can be harmed

    def _clock_of(self, name: str) -> dict[str, str]:
        """What makes a daemon ask a file how far its clock is off."""
        file = self.directory / f"clock-{name}"
        file.write_text("+0")
        return {
            "LD_PRELOAD": str(FAKETIME),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set_clocks(self, seconds: int, name: str = "*") -> None:
        """Set a daemon's clock, or all of them, so many seconds ahead or, if negative, back."""
        for file in self.directory.glob(f"clock-{name}"):
            scratch = file.with_name(f"next-{file.name}")
            scratch.write_text(f"{seconds:+d}")
            scratch.rename(file)

    @property
    def spool(self) -> Path:
        """The `--spool` of w1."""
        return self.directory / "cluster" / "spool" / "w1"

    def mount_spool(self) -> None:
        """Give w1 a disk of its own."""
        self.spool.mkdir(parents=True, exist_ok=True)
        if self.mounts:
            mount(self.spool, SPOOL_BYTES)

    @property
    def store(self) -> "redis.Redis":
        """A client of Redis that bypasses all links."""
        return redis.Redis(port=self.redis.port)

    def wait_taking(self) -> None:
        """Wait until no worker is paused."""
        with self.store as store:
            until(lambda: not store.keys("mr:pause:*"), "the end of all pauses")

    def freeze(self, name: str) -> None:
        """SIGSTOP to a daemon."""
        pid = self.cluster.daemons[name].pid
        os.kill(pid, signal.SIGSTOP)
        self._frozen.append(pid)

    def thaw(self) -> None:
        """SIGCONT to all frozen daemons."""
        while self._frozen:
            os.kill(self._frozen.pop(), signal.SIGCONT)

    # --- jobs

    def reach(self, directory: Path, job_id: str, phase: str, *flags: object) -> GatedJob:
        """Submit a job and bring it to a phase of PHASES."""
        at = "map" if phase == "map" else "reduce"
        job = GatedJob(self.cluster, directory, job_id, at, "-m", MAPS, "-r", REDUCES, *flags).submit()
        job.wait_begun(len(self.cluster.names))
        if phase == "finish":
            self.pass_to_finish(job)
        return job

    def pass_to_finish(self, job: GatedJob) -> None:
        """Freeze the coordinator, and wait until all reduces are committed."""
        self.freeze("coordinator")
        job.open()
        with self.store as store:
            until(lambda: store.hlen(f"mr:{{{job.job_id}}}:results:reduce") == REDUCES, "all results")

    def finish(self, job: GatedJob) -> None:
        """Let a job go on, to its end."""
        self.thaw()
        job.open()
        until(
            (job.output / "_SUCCESS").exists,
            f"the end of {job.job_id}; see {self.cluster.root}/*.log",
            PATIENCE_SECONDS,
        )

    def prove(self, job: GatedJob, reference: Path) -> None:
        """Let a job go on: it must complete, exactly, and nothing may be left of it."""
        self.finish(job)
        job.wait_state("COMPLETED")
        self.check_output(job, reference)
        job.wait_clean()
        self.all_run()
        self.sound = True

    def check_output(self, job: GatedJob, reference: Path) -> None:
        """Bytes, rows and counters are those of the embedded run, and nothing else lies there."""
        same_parts(reference, job.output)
        assert facts(job.output) == facts(reference)
        names = {path.name for path in job.output.iterdir()}
        assert names == {path.name for path in reference.iterdir()}, f"{job.output} holds something else"

    def all_run(self) -> None:
        """No daemon has ended."""
        for name, daemon in self.cluster.daemons.items():
            assert daemon.poll() is None, f"{name} has ended: {self.cluster.log(name)}"

    def wait_logged(self, name: str, *parts: str) -> None:
        """Wait until the log of a daemon says something since the test began."""
        until(lambda: all(part in self.new_log(name) for part in parts), f"{parts} in the log of {name}")

    def mark_logs(self) -> None:
        """What was logged until now is not of this test."""
        self._log_starts = {
            name: (self.cluster.root / f"{name}.log").stat().st_size for name in self.cluster.daemons
        }

    def new_log(self, name: str) -> str:
        """What a daemon has logged since the test began."""
        text = (self.cluster.root / f"{name}.log").read_bytes()
        return text[self._log_starts[name] :].decode(errors="replace")

    def wait_told(self, *parts: str, command: tuple[str, ...] = ("workers",)) -> None:
        """Wait until `mr COMMAND` shows something; it may fail meanwhile."""

        def told() -> bool:
            done = self.cluster.run(*command)
            text = (done.stdout + done.stderr).decode()
            return all(part in text for part in parts)

        until(told, f"{parts} in `mr {' '.join(command)}`")


def facts(output: Path) -> dict[str, Any]:
    """What `_SUCCESS` says that does not depend on how the job ran."""
    manifest = json.loads((output / "_SUCCESS").read_text())
    parts = [(part["rows"], part["bytes"], part["checksum"]) for part in manifest["parts"]]
    return {"rows": manifest["rows"], "bytes": manifest["bytes"], "parts": parts, **manifest["counters"]}


def embedded(directory: Path, *flags: object) -> Path:
    """The output of such a job run embedded."""
    commands = Commands(directory / "home")
    job = GatedJob(None, directory, "embedded", "none", "-m", MAPS, "-r", REDUCES, *flags)  # type: ignore[arg-type]
    commands.succeed("run", *job.command)
    return job.output


def mount(place: Path, size_bytes: int) -> None:
    """Mount an empty file system in memory."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(place)], check=True)


def unmount(place: Path) -> None:
    """Unmount what is mounted there, at once, as often as it was mounted over."""
    while place.is_mount():
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(directory: Path) -> Path:
    """Write a file until its disk is full; returns it."""
    filler = directory / "filler"
    with filler.open("wb", buffering=0) as file:
        block = bytes(1024 * 1024)
        while block:
            try:
                file.write(block)
            except OSError:
                block = block[: len(block) // 2]
    return filler
