"""What `make bench-faults` does its faults to: a cluster with default settings, and jobs that sleep."""

import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import redis

from tests.benchmarks.sleeping import HEAVY, UNIT_BYTES
from tests.support.cluster import Cluster
from tests.support.servers import PrivateRabbitMQ, PrivateRedis
from tests.support.waiting import until

JOB = Path(__file__).with_name("sleeping.py")
#: What else the machine does is not measured; reducers fetch by HTTP although hosts are equal.
SETTINGS = {
    "MR_PRESSURE_CPU_PERCENT": "1000",
    "MR_PRESSURE_MEMORY_PERCENT": "1000",
    "MR_SHUFFLE_LOCAL_READS": "false",
}
#: A job that is not done by then is given up.
PATIENCE_SECONDS = 240.0


@dataclass(frozen=True)
class Attempt:
    """One start of a task: `map-3`, when (seconds since the epoch), in which network namespace."""

    task: str
    at: float
    network: str


class Job:
    """A submitted job that sleeps."""

    def __init__(
        self, cluster: "FaultCluster", name: str, arguments: tuple[object, ...], notes: Path
    ) -> None:
        self._cluster = cluster
        self.name = name
        self._notes = notes
        self._waiter = cluster.start(
            *("submit", *arguments, "--job-id", name, "--wait", "-q"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    def attempts(self, kind: str = "") -> list[Attempt]:
        """Attempts that started until now, oldest first."""
        notes = (path.name.split(".") for path in self._notes.glob(f"{kind}*.*"))
        return sorted((Attempt(n[0], int(n[1]) / 1e9, n[3]) for n in notes), key=lambda a: a.at)

    def wait_attempts(self, kind: str, number: int) -> None:
        """Wait until so many attempts of a kind have started."""
        until(lambda: len(self.attempts(kind)) >= number, f"{number} attempts of {kind}", PATIENCE_SECONDS)

    def extra(self, kind: str) -> int:
        """Attempts of a kind beyond the first of each task."""
        return sum(n - 1 for n in Counter(attempt.task for attempt in self.attempts(kind)).values())

    def seconds(self) -> float:
        """Wait for the end; seconds from its acceptance to it by the coordinator's clock.

        Infinite when it fails or takes too long; it is cancelled then.
        """
        try:
            _, errors = self._waiter.communicate(timeout=PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self.cancel()
            return float("inf")
        if self._waiter.returncode:
            print(f"    {self.name}: {errors.decode().strip()[-400:]}")
            return float("inf")
        history = self._cluster.json("status", self.name)["history"]
        return float(history[-1]["at"] - history[0]["at"])

    def cancel(self) -> None:
        """Cancel it and wait for its end."""
        self._cluster.run("cancel", self.name)
        self._waiter.communicate(timeout=60)


class FaultCluster(Cluster):
    """A coordinator and workers of one slot each, with default settings but for `settings`."""

    _databases = count()

    def __init__(
        self, directory: Path, servers: "Servers", workers: int, settings: Mapping[str, str] | None = None
    ) -> None:
        directory.mkdir(parents=True)
        super().__init__(directory, servers.rabbitmq.url, servers.redis.url, workers=workers, slots=1)
        database = next(self._databases) % 16
        self.redis_url = servers.redis.url.rsplit("/", 1)[0] + f"/{database}"
        self.settings = {
            **SETTINGS,
            "MR_BROKER_URL": servers.rabbitmq.url,
            "MR_REDIS_URL": self.redis_url,
            **(settings or {}),
        }
        self.store = redis.Redis.from_url(self.redis_url)
        self.store.flushdb()
        self._numbers = count(1)

    def submit(
        self,
        maps: int,
        reduces: int = 0,
        *,
        map_seconds: float = 0.05,
        reduce_seconds: float = 0.05,
        slow: str = "",
        slow_seconds: float = 0.0,
        heavy: str = "",
        flags: tuple[object, ...] = (),
    ) -> Job:
        """Hand a job over. `heavy` = the map or reduce with ten times the input."""
        number = next(self._numbers)
        source, notes = self.root / f"in-{number}", self.root / f"notes-{number}"
        source.mkdir()
        notes.mkdir()
        for index in range(maps):
            units = HEAVY if heavy == f"map-{index}" else 1
            (source / f"{index:04d}").write_bytes(b"x" * units * UNIT_BYTES)
        params = {
            "notes": notes,
            "reduces": reduces,
            "map_seconds": map_seconds,
            "reduce_seconds": reduce_seconds,
            "slow": slow,
            "slow_seconds": slow_seconds,
            "heavy": heavy.removeprefix("reduce-") if heavy.startswith("reduce") else -1,
        }
        arguments: list[object] = [JOB, source, "-o", self.root / f"out-{number}", "-r", reduces]
        arguments += ["--input-format", "binary", "--split-size", "64KiB", *flags]
        for name, value in params.items():
            arguments += ["--param", f"{name}={value}"]
        return Job(self, f"job-{number}", tuple(arguments), notes)

    def leader(self) -> bytes:
        """Who coordinates; empty when nobody does."""
        for key in self.store.scan_iter("*leader"):
            return bytes(self.store.get(key) or b"")
        return b""


@dataclass
class Servers:
    """A private RabbitMQ and Redis, and where the clusters on them lie."""

    directory: Path
    rabbitmq: PrivateRabbitMQ
    redis: PrivateRedis

    @contextmanager
    def cluster(
        self, name: str, workers: int, spool: Path | None = None, **settings: str
    ) -> Iterator[FaultCluster]:
        """A running cluster of that many workers; gone after the block."""
        cluster = FaultCluster(self.directory / name, self, workers, settings)
        cluster.spool = spool or cluster.spool
        with cluster:
            yield cluster


@contextmanager
def servers(directory: Path, *, config: str = "") -> Iterator[Servers]:
    """Both servers, for as long as the block runs."""
    rabbitmq = PrivateRabbitMQ(directory / "rabbitmq", config=config)
    store = PrivateRedis(directory / "redis", persistent=True)
    try:
        for server in (rabbitmq, store):
            server.start()
        yield Servers(directory, rabbitmq, store)
    finally:
        rabbitmq.stop()
        store.stop()


def seconds_until(condition: Any, what: str, timeout: float = 60.0) -> float:
    """Wait for something; seconds that took, infinite when it does not come."""
    begun = time.monotonic()
    try:
        until(condition, what, timeout)
    except AssertionError:
        return float("inf")
    return time.monotonic() - begun
