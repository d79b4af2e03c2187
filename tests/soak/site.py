"""What the soak acts on: a RabbitMQ, a Redis, and daemons, each behind proxies of its own."""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import psutil
import redis

from tests.support.cluster import Cluster
from tests.support.proxy import Proxy
from tests.support.servers import PrivateRabbitMQ, PrivateRedis

T = TypeVar("T")

#: One leads, the other stands by.
COORDINATORS = ("coordinator", "coordinator-2")
#: This worker's spool is on a small disk of its own, where the soak may mount one.
SMALL_DISK_WORKER = "w4"
SMALL_DISK_MIB = 256
#: A log above this many bytes is cut: what is older than its last half is gone.
LOG_BYTES = 32 * 1024 * 1024
#: The append-only file of Redis is rewritten when it is larger.
STORE_BYTES = 32 * 1024 * 1024

SETTINGS = {
    # Faults are many times more frequent than these settings are made for.
    "MR_MAX_UNCOUNTED_ATTEMPTS": "1000",
    "MR_RETRY_MAX_SECONDS": "2",
    "MR_EXCLUDE_SECONDS": "3",
    "MR_EXCLUDE_JOBS": "3",
    # A daemon that starts while its server is away waits for it.
    "MR_CONNECT_SECONDS": "120",
    "MR_RECONNECT_SECONDS": "120",
    # Small enough that jobs of a second spill, and that Redis does not grow.
    "MR_SPILL_BYTES": "2MiB",
    "MR_GROUP_BYTES": "2MiB",
    "MR_HISTORY_SECONDS": "300",
    # What failed jobs leave is kept for a resume, and gone well before a look at what they left.
    "MR_RESUME_SECONDS": "15",
    # The disk of SMALL_DISK_WORKER is to become full in the middle of tasks.
    "MR_SPOOL_RESERVE_BYTES": "0",
}


class SoakCluster(Cluster):
    """Two coordinators and four workers; each has its proxies to both servers, each worker its own spool."""

    def __init__(
        self,
        directory: Path,
        rabbitmq: PrivateRabbitMQ,
        store: PrivateRedis,
        proxies: dict[str, tuple[Proxy, Proxy]],
    ) -> None:
        directory.mkdir()
        super().__init__(directory, rabbitmq.url, store.url, workers=4, settings=SETTINGS)
        self._proxies = proxies

    def start_daemon(self, name: str) -> subprocess.Popen[bytes]:
        """Start the daemon of this name, connected through its proxies."""
        broker, store = self._proxies[name]
        environment = {
            **self.environment,
            "MR_BROKER_URL": f"amqp://guest:guest@127.0.0.1:{broker.port}/%2F",
            "MR_REDIS_URL": f"redis://127.0.0.1:{store.port}/0",
            "MR_SHUFFLE_LOCAL_READS": str(name in ("w1", "w2")).lower(),
        }
        arguments: list[object] = ["coordinator"]
        if name not in COORDINATORS:
            arguments = ["worker", "--id", name, "--slots", "1", "--spool", self.spool / name]
            arguments += ["--listen", "127.0.0.1:0", "--advertise", "127.0.0.1"]
        with (self.root / f"{name}.log").open("ab") as log:
            self.daemons[name] = self.start(
                *arguments, stdout=log, stderr=log, cwd=self.root, env=environment
            )
        return self.daemons[name]


class Site:
    """The servers, the daemons and what may be done to them. Methods that may take long run in threads."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.rabbitmq = PrivateRabbitMQ(directory / "rabbitmq")
        self.redis = PrivateRedis(directory / "redis", persistent=True)
        self.proxies = {
            name: (Proxy(self.rabbitmq.port), Proxy(self.redis.port))
            for name in (*COORDINATORS, "w1", "w2", "w3", "w4")
        }
        self.cluster = SoakCluster(directory / "cluster", self.rabbitmq, self.redis, self.proxies)
        self.workers: Sequence[str] = self.cluster.names
        #: Daemons that a fault has ended, or has told to end.
        self.expected_ends: set[str] = set()
        self.small_disk = False
        self._in_threads: set[asyncio.Task[Any]] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Site"]:
        """Everything runs inside the block, and nothing afterwards."""
        try:
            await self.in_thread(self.redis.start)
            await self.in_thread(self.rabbitmq.start)
            for proxies in self.proxies.values():
                for proxy in proxies:
                    await proxy.heal()
            for name in COORDINATORS:
                self.cluster.start_daemon(name)
            self._mount_small_disk()
            await self.in_thread(self.cluster.ensure)
            yield self
        finally:
            if self._in_threads:
                await asyncio.wait(self._in_threads)
            for name in self.proxies:
                await self.heal(name)
            await asyncio.to_thread(self._close)
            for proxies in self.proxies.values():
                for proxy in proxies:
                    await proxy.cut()

    async def in_thread(self, work: Callable[..., T], *arguments: object) -> T:
        """Call what blocks. It is finished before anything is closed, also when this is cancelled."""
        task = asyncio.create_task(asyncio.to_thread(work, *arguments))
        self._in_threads.add(task)
        task.add_done_callback(self._in_threads.discard)
        return await asyncio.shield(task)

    def _close(self) -> None:
        self.cluster.close()
        self.rabbitmq.stop()
        self.redis.stop()
        if self.small_disk:
            subprocess.run(["umount", "--lazy", self.spool(SMALL_DISK_WORKER)], check=False)

    def _mount_small_disk(self) -> None:
        """Only in a mount namespace of our own, so that no mount can be left behind."""
        if os.environ.get("SOAK_MOUNTS") != "yes":
            return
        spool = self.spool(SMALL_DISK_WORKER)
        spool.mkdir(parents=True)
        mount = ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK_MIB}m", "mrmq-soak", spool]
        subprocess.run(mount, check=True)
        self.small_disk = True

    # --- daemons

    def spool(self, worker: str) -> Path:
        """A worker's spool directory."""
        return self.cluster.spool / worker

    def send(self, name: str, number: signal.Signals) -> None:
        """Send a signal to a daemon that has not ended."""
        daemon = self.cluster.daemons[name]
        if daemon.poll() is None:
            os.kill(daemon.pid, number)

    async def end(self, name: str, *numbers: signal.Signals, within_seconds: float = 90) -> None:
        """End a daemon on purpose, by these signals half a second apart; SIGKILL when that does not help."""
        self.expected_ends.add(name)
        daemon = self.cluster.daemons[name]
        for index, number in enumerate(numbers):
            if index:
                await asyncio.sleep(0.5)
            self.send(name, number)
        try:
            await self.in_thread(daemon.wait, within_seconds)
        except subprocess.TimeoutExpired:
            daemon.kill()
            await self.in_thread(daemon.wait)
            raise AssertionError(f"{name} did not end within {within_seconds:.0f} s of {numbers}") from None

    def begin(self, name: str) -> None:
        """Start a daemon that was ended."""
        self.cluster.start_daemon(name)
        self.expected_ends.discard(name)

    def ended_by_themselves(self) -> Iterator[str]:
        """Daemons that nobody has ended; each is started again."""
        for name, daemon in list(self.cluster.daemons.items()):
            if daemon.poll() is not None and name not in self.expected_ends:
                yield f"{name} ended with {daemon.returncode}: {self.cluster.log(name)}"
                self.begin(name)

    def children(self, worker: str) -> list[psutil.Process]:
        """The processes of a worker that run tasks, or could."""
        return [child for template in self.templates(worker) for child in _children(template)]

    def templates(self, worker: str) -> list[psutil.Process]:
        """The fork templates of a worker."""
        with contextlib.suppress(psutil.Error):
            return _children(psutil.Process(self.cluster.daemons[worker].pid))
        return []

    # --- the network between a daemon and the servers

    async def cut(self, name: str, *, broker: bool, store: bool) -> None:
        """Cut a daemon off from a server or both."""
        for proxy, chosen in zip(self.proxies[name], (broker, store), strict=True):
            if chosen:
                await proxy.cut()

    async def heal(self, name: str) -> None:
        """Connect a daemon to both servers again."""
        for proxy in self.proxies[name]:
            await proxy.cut()
            await proxy.heal()

    # --- what grows

    def trim(self) -> None:
        """Cut logs and the file of Redis that have grown too large."""
        for path in (*self.cluster.root.glob("*.log"), *self.directory.glob("r*/*.log")):
            if path.stat().st_size > LOG_BYTES:
                with path.open("r+b") as log:
                    log.seek(-LOG_BYTES // 2, os.SEEK_END)
                    newest = log.read()
                    log.truncate(0)
                    log.seek(0)
                    log.write(newest)

    def compact_store(self) -> None:
        """Have Redis write its file anew once it is large, and wait for that."""
        if directory_bytes(self.directory / "redis") < STORE_BYTES:
            return
        with redis.Redis.from_url(self.redis.url) as client:
            client.bgrewriteaof()
            while client.info("persistence")["aof_rewrite_in_progress"]:
                pass

    def memory_bytes(self) -> int:
        """What the largest daemon holds in memory."""
        sizes = [0]
        for daemon in self.cluster.daemons.values():
            with contextlib.suppress(psutil.Error):
                sizes.append(psutil.Process(daemon.pid).memory_info().rss)
        return max(sizes)

    def empty_spool(self, worker: str) -> None:
        """Delete everything in the spool of a worker that does not run."""
        for path in self.spool(worker).iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def everything_below(directory: Path) -> list[Path]:
    """All files and directories below. What is removed during the look is no error, unlike with `rglob`."""
    return [Path(root, name) for root, below, files in os.walk(directory) for name in (*below, *files)]


def directory_bytes(directory: Path) -> int:
    """Bytes of all files below a directory."""
    total = 0
    for path in everything_below(directory):
        with contextlib.suppress(OSError):
            total += path.lstat().st_size
    return total


def _children(process: psutil.Process) -> list[psutil.Process]:
    with contextlib.suppress(psutil.Error):
        return [p for p in process.children() if p.status() != psutil.STATUS_ZOMBIE]
    return []
