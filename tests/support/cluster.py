"""A cluster as processes: one `mr coordinator`, several `mr worker`, over a given RabbitMQ and Redis."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType

from tests.support.commands import Commands
from tests.support.waiting import until

#: Times shortened so that a death is noticed within seconds; reducers fetch by HTTP although hosts are equal.
SETTINGS = {
    "MR_LEASE_SECONDS": "3",
    "MR_HEARTBEAT_SECONDS": "0.5",
    "MR_TICK_SECONDS": "0.1",
    "MR_RETRY_BASE_SECONDS": "0.1",
    "MR_REPUBLISH_SECONDS": "3",
    "MR_DRAIN_SECONDS": "20",
    "MR_PRESSURE_CPU_PERCENT": "1000",
    "MR_PRESSURE_MEMORY_PERCENT": "1000",
    # every test fails tasks on purpose, so no worker is to be thought ill of
    "MR_EXCLUDE_JOBS": "1000",
    "MR_SHUFFLE_LOCAL_READS": "false",
}


class Cluster(Commands):
    """A running cluster, and the commands of its users."""

    def __init__(
        self,
        directory: Path,
        rabbitmq_url: str,
        redis_url: str,
        workers: int = 3,
        slots: int = 1,
        settings: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        servers = {"MR_BROKER_URL": rabbitmq_url, "MR_REDIS_URL": redis_url}
        super().__init__(directory / "client", {**SETTINGS, **servers, **settings})
        self.root = directory
        self.rabbitmq_url = rabbitmq_url
        self.names = [f"w{n}" for n in range(1, workers + 1)]
        self.slots = slots
        #: The spool directory that the workers share.
        self.spool = directory / "spool"
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> "Cluster":
        self.ensure()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def ensure(self) -> None:
        """Start the daemons that do not run, and wait until all workers are seen alive."""
        for name in ("coordinator", *self.names):
            daemon = self.daemons.get(name)
            if daemon is None or daemon.poll() is not None:
                self.daemons[name] = self.start_daemon(name)
        until(self._all_live, f"{len(self.names)} live workers; see {self.root}/*.log")

    def start_daemon(self, name: str) -> subprocess.Popen[bytes]:
        """Start the daemon of this name."""
        if name.startswith("coordinator"):
            arguments: list[object] = ["coordinator"]
        else:
            listen, advertise = self.addresses(name)
            arguments = ["worker", "--id", name, "--slots", self.slots, "--spool", self.spool_of(name)]
            arguments += ["--listen", listen, "--advertise", advertise]
        with (self.root / f"{name}.log").open("ab") as log:
            environment = self.daemon_environment(name)
            return self.start(*arguments, stdout=log, stderr=log, cwd=self.root, env=environment)

    def daemon_environment(self, name: str) -> dict[str, str]:
        """What a daemon sees."""
        return self.environment

    def addresses(self, name: str) -> tuple[str, str]:
        """Where a worker listens, and what it tells the others."""
        return "127.0.0.1:0", "127.0.0.1"

    def spool_of(self, name: str) -> Path:
        """The `--spool` of a worker."""
        return self.spool

    def _all_live(self) -> bool:
        for name, daemon in self.daemons.items():
            assert daemon.poll() is None, f"{name} ended: {self.log(name)}"
        listed = self.run("workers", "--json")
        if listed.returncode:
            return False
        text = listed.stdout.decode()
        return all(f'"{name}"' in text for name in self.names)

    def log(self, name: str) -> str:
        """The end of what a daemon printed."""
        return (self.root / f"{name}.log").read_text(errors="replace")[-4000:]

    def kill(self, name: str) -> None:
        """Kill one daemon's process, and only that one, with SIGKILL."""
        self.daemons[name].kill()
        self.daemons[name].wait(timeout=10)

    def job_files(self, job_id: str) -> list[Path]:
        """Files of a job that lie in a spool; a directory that vanishes during the look has none."""
        return [
            Path(directory, name)
            for directory, _, names in os.walk(self.spool)
            if job_id in Path(directory).parts
            for name in names
        ]

    def state(self, job_id: str) -> str:
        """State of a job."""
        state: str = self.json("status", job_id)["state"]
        return state

    def close(self) -> None:
        """Stop every daemon in good order: one SIGTERM drains, a second stops, SIGKILL is the last resort."""
        for sign in (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):
            running = [d for d in self.daemons.values() if d.poll() is None]
            for daemon in running:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(daemon.pid, sign)
            for daemon in running:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    daemon.wait(timeout=5)
        for process in self.processes():
            process.kill()
