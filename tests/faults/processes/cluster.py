"""A cluster of the test's daemons, and a job on it that is verified to the last record."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil

from mr.bundle import Bundle
from mr.client import Client
from mr.protocol.ids import JobId
from mr.protocol.jobs import CodeManifest, JobRequest
from mr.protocol.records import JobRecord, JobState, WorkerView
from tests.faults.processes.child import POINTS_VARIABLE
from tests.faults.processes.points import Arming, Reached
from tests.support.cluster import SETTINGS
from tests.support.waiting import eventually as eventually_within

ROOT = Path(__file__).parents[3]
#: Only a failing test waits so long, also on a machine that does much else.
PATIENCE_SECONDS = 120.0
WORKERS = ("w1", "w2")
COORDINATOR = "coordinator"

LEASE_SECONDS = 2.0
#: After twice this the broker takes a coordinator that is silent for gone.
HEARTBEAT_SECONDS = 2
#: Short times, so that a case takes seconds. Small chunks: a map reports more than once.
TIMES = {
    "MR_LEASE_SECONDS": str(LEASE_SECONDS),
    "MR_HEARTBEAT_SECONDS": "0.3",
    "MR_TICK_SECONDS": "0.05",
    "MR_RETRY_BASE_SECONDS": "0.05",
    "MR_REPUBLISH_SECONDS": "1",
    "MR_FETCH_PATIENCE_SECONDS": "0.5",
    "MR_CHUNK_ROWS": "16",
    # backups are asked for by the tests that are about them
    "MR_STRAGGLER_MIN_SECONDS": "1000",
}
MAPS, REDUCES = 4, 2
LINES = 400
JOB = Path(__file__).with_name("counted.py")


async def eventually(check: Callable[[], Any], what: str) -> Any:
    """Wait until `check()` returns something true, which is returned."""
    return await eventually_within(check, what, PATIENCE_SECONDS)


def write_words(path: Path) -> None:
    """The input of all jobs: LINES lines of two words."""
    path.write_text("".join(f"word{n % 97} again\n" for n in range(LINES)))


class FaultCluster:
    """The daemons: started, struck and watched by their names."""

    def __init__(self, root: Path, words: Path, servers: Mapping[str, str]) -> None:
        self.root = root
        self.words = words
        self.spool = root / "spool"
        self.points = root / "points"
        self.arming = Arming(self.points)
        self.settings = {**SETTINGS, **TIMES, **servers}
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}
        self._logs: dict[str, Path] = {}
        self._starts = 0
        #: Jobs get ids of their own.
        self.jobs = 0
        self.points.mkdir(parents=True)
        self.spool.mkdir()

    def start(self, name: str) -> None:
        """Start a daemon; one that runs under this name must have ended."""
        assert name not in self.daemons or self.daemons[name].poll() is not None
        self._starts += 1
        log = self._logs[name] = self.root / f"{name}.{self._starts}.log"
        settings = dict(self.settings)
        if name.startswith(
            COORDINATOR
        ):  # the broker keeps a frozen one's place as the only consumer until then
            settings["MR_BROKER_URL"] += f"?heartbeat={HEARTBEAT_SECONDS}"
        kept = {k: v for k, v in os.environ.items() if not k.startswith("MR_")}
        command = [sys.executable, "-m", "tests.faults.processes.daemon", name, str(self.spool)]
        with log.open("wb") as sink:
            self.daemons[name] = subprocess.Popen(
                command,
                env={**kept, **settings, POINTS_VARIABLE: str(self.points)},
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                start_new_session=True,
            )

    def log(self, name: str) -> str:
        """What the daemon of this name has logged since its last start."""
        return self._logs[name].read_text(errors="replace")

    async def logged(self, name: str, text: str) -> None:
        """Wait until a daemon has logged this."""

        def there() -> bool:
            assert self.daemons[name].poll() is None or text in self.log(name), f"ended:\n{self.log(name)}"
            return text in self.log(name)

        await eventually(there, f"{text!r} in the log of {name}")

    async def ready(self) -> None:
        """Start what does not run of one coordinator and the workers, and wait until all take part."""
        self.arming.disarm()
        names = (COORDINATOR, *WORKERS)
        for name in names:
            if name not in self.daemons or self.daemons[name].poll() is not None:
                self.start(name)
        for name in names:
            await self.logged(name, "coordinating, epoch" if name == COORDINATOR else "takes tasks")

    def kill(self, name: str) -> None:
        """SIGKILL to the daemon."""
        self.daemons[name].kill()
        self.daemons[name].wait(timeout=10)

    def send(self, name: str, sign: signal.Signals) -> None:
        """Send a signal to the daemon alone."""
        self.daemons[name].send_signal(sign)

    async def ended(self, name: str) -> int:
        """Wait for a daemon's end; its exit code."""
        await eventually(lambda: self.daemons[name].poll() is not None, f"the end of {name}")
        return self.daemons[name].returncode

    async def reached(self, point: str) -> Reached:
        """Wait until a process waits at a point."""
        return await eventually(lambda: self.arming.reached(point), f"a process at {point}")

    def files(self, job: JobId) -> list[Path]:
        """A job's files in the spool."""
        return [
            Path(directory, name)
            for directory, _, names in os.walk(self.spool)
            if job in Path(directory).parts
            for name in names
        ]

    def close(self) -> None:
        """End every daemon."""
        self.arming.disarm()
        for sign in (signal.SIGCONT, signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):
            for daemon in self.daemons.values():
                if daemon.poll() is None:
                    daemon.send_signal(sign)
            if sign is not signal.SIGCONT:
                psutil.wait_procs(
                    [psutil.Process(d.pid) for d in self.daemons.values() if d.poll() is None], 3
                )
                for daemon in self.daemons.values():
                    daemon.poll()


class Job:
    """A job on such a cluster."""

    def __init__(self, cluster: FaultCluster, client: Client, request: JobRequest) -> None:
        self.cluster = cluster
        self.client = client
        self.request = request
        self.id = JobId(request.job_id or "")
        self.output = Path(request.output)

    async def record(self) -> JobRecord | None:
        """The job's record."""
        return await self.client.store.get_job(self.id)

    async def completed(self) -> JobRecord:
        """Wait for the end, which must be a success."""

        async def ended() -> JobRecord | None:
            record = await self.record()
            return record if record is not None and record.state.terminal else None

        record = await eventually(ended, f"the end of {self.id}")
        assert record.state is JobState.COMPLETED, record.cause
        return record

    async def completed_without_reruns(self) -> None:
        """Wait for the same; each task has had one attempt."""
        await self.completed()
        assert {view.record.attempt for view in await self.client.tasks(self.id)} == {1}

    async def committed(self, maps: int, reduces: int) -> None:
        """Wait until so many tasks are committed."""

        async def there() -> bool:
            record = await self.record()
            return record is not None and (record.maps_committed, record.reduces_committed) == (maps, reduces)

        await eventually(there, f"{maps} maps and {reduces} reduces of {self.id}")

    async def attempt(self, task: str) -> int:
        """The highest attempt of a task."""
        for view in await self.client.tasks(self.id):
            if view.record.task_id == task:
                return view.record.attempt
        raise AssertionError(f"no task {task}")

    async def verify(self, expected: Mapping[str, bytes]) -> None:
        """The bytes, the counters, the output directory, the spools, and every daemon's life."""
        await self.completed()
        manifest = json.loads((self.output / "_SUCCESS").read_text())
        counters = {"lines": LINES} | ({"words": 2 * LINES} if self.request.reduces else {})
        assert manifest["counters"] == counters
        assert {p.name: p.read_bytes() for p in self.output.glob("part-*")} == expected
        assert {p.name for p in self.output.iterdir()} == {*expected, "_SUCCESS"}
        await self.cluster.ready()
        await eventually(lambda: not self.cluster.files(self.id), f"no file of {self.id} in the spool")
        for name, daemon in self.cluster.daemons.items():
            assert daemon.poll() is None, f"{name} ended by itself:\n{self.cluster.log(name)}"
            assert not re.search(r"^Traceback", self.cluster.log(name), re.MULTILINE), self.cluster.log(name)


class Jobs:
    """Submits the counted job."""

    def __init__(self, cluster: FaultCluster, client: Client, code: tuple[Bundle, CodeManifest]) -> None:
        self.cluster = cluster
        self.client = client
        self._code = code

    async def submit(self, *, reduces: int = REDUCES, wait: bool = True, **options: object) -> Job:
        """Hand a job over. With `wait` False, do not wait for the answer to the request."""
        bundle, manifest = self._code
        await self.client.upload(bundle, manifest)
        self.cluster.jobs += 1
        request = JobRequest(
            version=1,
            job=bundle.code_id,
            inputs=(str(self.cluster.words),),
            output=str(self.cluster.root / f"out-{self.cluster.jobs}"),
            job_id=f"job-{self.cluster.jobs}",
            maps=MAPS,
            reduces=reduces,
            **options,  # type: ignore[arg-type]
        )
        if wait:
            await self.client.submit(request)
        return Job(self.cluster, self.client, request)

    async def worker(self, name: str) -> WorkerView | None:
        """A worker's last heartbeat."""
        for view in await self.client.workers():
            if view.beat.worker == name:
                return view
        return None
