"""The goals 24 to 28 of `make bench-faults`: each gives rows of its table."""

import json
import os
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import ceil, inf
from pathlib import Path
from tempfile import TemporaryDirectory
from time import sleep, time

import psutil

from tests.benchmarks.fault_cluster import FaultCluster, Job, Servers, seconds_until
from tests.support.waiting import until

MIB = 1024 * 1024


@dataclass(frozen=True)
class Row:
    """One measurement beside what is wanted. `met` None: it was not made, and `measured` says why."""

    goal: int
    what: str
    measured: str
    wanted: str
    met: bool | None


Goal = Callable[[Servers], Iterator[Row]]


def ratio_row(goal: int, what: str, calm: float, disturbed: float, wanted: float, more: str = "") -> Row:
    """A row about a ratio of two durations."""
    ratio = disturbed / calm if calm > 0 else inf
    measured = f"{disturbed:.1f} s / {calm:.1f} s = {ratio:.2f}{f'; {more}' if more else ''}"
    return Row(goal, what, measured, f"<= {wanted:.2f}", ratio <= wanted)


def count_row(goal: int, what: str, found: int, wanted: int = 0) -> Row:
    """A row about something that is counted."""
    return Row(goal, what, str(found), f"<= {wanted}", found <= wanted)


def seconds_row(goal: int, what: str, seconds: float, wanted: float) -> Row:
    """A row about one duration."""
    return Row(goal, what, f"{seconds:.1f} s", f"<= {wanted:.1f} s", seconds <= wanted)


# --- 24: drains


def drains(servers: Servers) -> Iterator[Row]:
    """24 maps of 1 s, 24 reduces of 2.5 s on 4 workers: SIGTERM to one; then all 4 restarted in turn."""
    with servers.cluster("24", 4) as cluster:
        run = lambda: cluster.submit(24, 24, map_seconds=1.0, reduce_seconds=2.5)  # noqa: E731
        calm = run().seconds()
        job = _reducing(run())
        cluster.daemons["w1"].send_signal(signal.SIGTERM)
        disturbed = job.seconds()
        yield ratio_row(24, "SIGTERM to 1 of 4 workers in the reduces", calm, disturbed, 1.4)
        yield count_row(24, "  maps that ran again", job.extra("map"))
        cluster.daemons["w1"].wait(timeout=60)  # it may serve for as long as the job runs
        cluster.ensure()
        job = _reducing(run())
        down = sum(_restart(cluster, name) for name in cluster.names)
        disturbed = job.seconds()
        what = f"all 4 workers restarted in turn in the reduces ({down:.0f} s in which one was away)"
        # While one is away its outputs cannot be read, and no reduce gets past its fetch.
        yield ratio_row(24, what, calm, disturbed, 1.4 + down / calm)
        yield count_row(24, "  maps that ran again", job.extra("map"))


def _reducing(job: Job) -> Job:
    """Wait until the first reduces of a job have started."""
    job.wait_attempts("reduce", 2)
    return job


def _restart(cluster: FaultCluster, name: str) -> float:
    """Drain a worker for some seconds, stop it if it still serves, start it again; seconds it was away."""
    daemon = cluster.daemons[name]
    for _ in range(2):
        if daemon.poll() is None:
            daemon.send_signal(signal.SIGTERM)
        try:
            daemon.wait(timeout=4)
            break
        except subprocess.TimeoutExpired:
            continue
    stopped_at = time()
    cluster.ensure()
    return time() - stopped_at


# --- 25: stragglers


def stragglers(seconds: float, workers: int, waves: int) -> Goal:
    """A goal: the first task of the last wave is a straggler, among tasks that take so many seconds.

    In a single wave nobody knows how long tasks take before the others end: a backup makes it twice as long
    at least.
    """
    wanted = 1.5 if waves > 1 else 3.0

    def goal(servers: Servers) -> Iterator[Row]:
        slow_seconds = max(30.0, 8 * seconds)
        total = workers * waves
        with servers.cluster(f"25-{seconds:g}-{waves}", workers) as cluster:
            for kind in ("map", "reduce"):
                shape = (total, 0) if kind == "map" else (4, total)
                times = {f"{kind}_seconds": seconds}
                calm = cluster.submit(*shape, **times).seconds()
                job = cluster.submit(
                    *shape, **times, slow=f"{kind}-{total - workers}", slow_seconds=slow_seconds
                )
                what = f"a straggler among {total} {kind}s of {seconds:g} s on {workers} workers"
                disturbed = job.seconds()
                yield ratio_row(25, what, calm, disturbed, wanted, f"{job.extra(kind)} backups")

    return goal


def needless_backups(servers: Servers) -> Iterator[Row]:
    """Tasks of 1 s, one with ten times the input and the time: no backup for it."""
    with servers.cluster("25-needless", 4) as cluster:
        for kind in ("map", "reduce"):
            shape = (12, 0) if kind == "map" else (4, 12)
            job = cluster.submit(*shape, **{f"{kind}_seconds": 1.0}, heavy=f"{kind}-8")
            job.seconds()
            yield count_row(25, f"needless backups of a {kind} with 10 x the input", job.extra(kind))


# --- 26: deaths


def deaths(servers: Servers) -> Iterator[Row]:
    """64 maps of 1.5 s, 40 reduces of 3 s on 8 workers: one is killed half way through a phase."""
    maps, reduces, workers = 64, 40, 8
    with servers.cluster("26", workers) as cluster:
        run = lambda: cluster.submit(maps, reduces, map_seconds=1.5, reduce_seconds=3.0)  # noqa: E731
        calm = run().seconds()
        held = maps // workers
        #: The attempt that ran, and the outputs it held: made again by the others, in waves.
        for kind, total, lost in (
            ("map", maps, 1.5 * ceil((held / 2 + 1) / (workers - 1))),
            ("reduce", reduces, 1.5 * ceil(held / (workers - 1)) + 3.0),
        ):
            job = run()
            job.wait_attempts(kind, total // 2)
            cluster.kill("w3")
            wanted = 1.15 + lost / calm
            what = f"1 of {workers} workers killed in the {kind}s (lost work: {lost:.1f} s)"
            yield ratio_row(26, what, calm, job.seconds(), wanted, f"{job.extra('map')} maps again")
            cluster.ensure()
        yield from _leads(cluster)


def _leads(cluster: FaultCluster) -> Iterator[Row]:
    """Kill the coordinator: how long until a standby leads, and one that is started at that moment."""
    leader = cluster.leader()
    with (cluster.root / "standby.log").open("ab") as log:
        standby = cluster.start("coordinator", stdout=log, stderr=log, cwd=cluster.root)
    sleep(5.0)  # a standby gives no sign of life that could be waited for
    cluster.kill("coordinator")
    took = seconds_until(lambda: cluster.leader() not in (b"", leader), "the standby leads", 60)
    yield seconds_row(26, "a standby leads after the coordinator was killed", took, 3.0)
    leader = cluster.leader()
    standby.kill()
    standby.wait(timeout=10)
    cluster.daemons["coordinator"] = cluster.start_daemon("coordinator")
    took = seconds_until(lambda: cluster.leader() not in (b"", leader), "the restarted one leads", 60)
    yield seconds_row(26, "a coordinator killed and started again leads", took, 3.0)


# --- 27: pressure


def full_spool(servers: Servers) -> Iterator[Row]:
    """Maps of 0.3 s flow while another program fills the disk of the spool below its reserve."""
    with TemporaryDirectory(prefix="mr-bench-", dir="/dev/shm") as spool:
        free = psutil.disk_usage(spool).free
        reserve = {"MR_SPOOL_RESERVE_BYTES": str(free - 64 * MIB)}
        with servers.cluster("27", 1, spool=Path(spool), **reserve) as cluster:
            job = cluster.submit(80, 1, map_seconds=0.3)
            job.wait_attempts("map", 5)
            filler = Path(spool, "filler")
            with filler.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, 128 * MIB)
            filled_at = time()
            sleep(15.0)
            after = [attempt.at - filled_at for attempt in job.attempts("map") if attempt.at > filled_at]
            filler.unlink()
            seconds = max(after, default=0.0)
            yield seconds_row(27, "a spool below its reserve takes tasks for", seconds, 5.0)
            job.seconds()


# --- 28: shares and starvation


def shares(servers: Servers) -> Iterator[Row]:
    """Jobs of weights 1, 1 and 3 on four slots, tasks of 0.4 s: who started of the next 100."""
    with servers.cluster("28", 4, MR_STARVATION_SECONDS="5") as cluster:
        jobs = [
            cluster.submit(maps, map_seconds=0.4, flags=("--weight", weight))
            for maps, weight in ((80, 1), (80, 1), (140, 3))
        ]
        for job in jobs:
            job.wait_attempts("map", 1)
        since = max(job.attempts()[0].at for job in jobs)
        started = lambda: [sum(a.at > since for a in job.attempts()) for job in jobs]  # noqa: E731
        until(lambda: sum(started()) >= 100, "100 tasks", 120)
        order = sorted(
            (a.at, number) for number, job in enumerate(jobs) for a in job.attempts() if a.at > since
        )
        counts = Counter(number for _, number in order[:100])
        found = [counts[number] for number in range(3)]
        met = all(abs(count - share) <= 0.1 * share for count, share in zip(found, (20, 20, 60), strict=True))
        yield Row(
            28, "of 100 tasks of weights 1 : 1 : 3", " : ".join(map(str, found)), "20 : 20 : 60 +- 10 %", met
        )
        for job in jobs:
            job.cancel()
        high = cluster.submit(250, map_seconds=0.4, flags=("--priority", 4))
        high.wait_attempts("map", 4)
        low = cluster.submit(8, map_seconds=0.4, flags=("--priority", 0))
        accepted_at = until(lambda: _accepted_at(cluster, low), "the job of priority 0")
        seconds_until(low.attempts, "a task of priority 0", 60)
        waited = low.attempts()[0].at - accepted_at if low.attempts() else inf
        what = "wait of priority 0 behind a stream of priority 4, starvation_seconds 5"
        yield seconds_row(28, what, waited, 7.5)
        high.cancel()
        low.cancel()


def _accepted_at(cluster: FaultCluster, job: Job) -> float:
    """When a job was accepted; 0 before it is."""
    shown = cluster.run("status", job.name, "--json")
    return 0.0 if shown.returncode else float(json.loads(shown.stdout)["history"][0]["at"])
