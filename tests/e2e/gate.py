"""The test's half of `gated.py`: says when tasks wait at the gate, and opens it."""

import json
import subprocess
from pathlib import Path
from typing import Any

import psutil

from tests.support.cluster import Cluster
from tests.support.waiting import until

JOB = Path(__file__).with_name("gated.py")


class GatedJob:
    """A job submitted to a cluster whose tasks of one phase wait at a gate."""

    def __init__(self, cluster: Cluster, directory: Path, job_id: str, phase: str, *flags: object) -> None:
        self.cluster = cluster
        self.job_id = job_id
        self.gate = directory / f"gate-{job_id}"
        self.gate.mkdir()
        self.output = directory / f"output-{job_id}"
        self.source = directory / "words.txt"
        if not self.source.exists():
            self.source.write_text("".join(f"word{n % 977} again\n" for n in range(20_000)))
        self.arguments = ("--param", f"gate={self.gate}", "--param", f"phase={phase}", *flags)

    def submit(self) -> "GatedJob":
        """Hand the job over; returns at once."""
        self.cluster.succeed("submit", *self.command, "--job-id", self.job_id)
        return self

    def submit_and_wait(self) -> subprocess.Popen[bytes]:
        """Start `mr submit --wait`."""
        return self.cluster.start(
            *("submit", *self.command, "--job-id", self.job_id, "--wait"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    @property
    def command(self) -> tuple[object, ...]:
        """What follows `mr submit` and `mr run`, but for the job's id."""
        return (JOB, self.source, "-o", self.output, *self.arguments)

    def begun(self) -> list[int]:
        """Process ids of the attempts that reached the gate."""
        return [int(p.name.split("-")[1]) for p in self.gate.glob("begun-*")]

    def wait_begun(self, count: int = 1) -> list[int]:
        """Wait until so many attempts stand at the gate."""
        return until(lambda: len(self.begun()) >= count and self.begun(), f"{count} attempts at the gate")

    def workers_of_begun(self) -> set[str]:
        """Names of the workers whose child processes stand at the gate."""
        return {name for name in self.cluster.names if self.begun_on(name)}

    def begun_on(self, worker: str) -> list[int]:
        """Process ids of the attempts at the gate that descend from this worker."""
        family = {p.pid for p in psutil.Process(self.cluster.daemons[worker].pid).children(recursive=True)}
        return [pid for pid in self.begun() if pid in family]

    def open(self) -> None:
        """Let all go on, now and later."""
        (self.gate / "open").touch()

    def wait_state(self, *states: str, timeout: float = 60) -> str:
        """Wait until the job is in one of these states.

        A store that was emptied knows no job until the coordinator has written it again.
        """
        found: str = until(
            lambda: (state := self._state()) in states and state, f"{self.job_id} {states}", timeout
        )
        return found

    def _state(self) -> str:
        asked = self.cluster.run("status", self.job_id, "--json")
        return "" if asked.returncode else str(json.loads(asked.stdout)["state"])

    def wait_clean(self) -> None:
        """Wait until no worker holds a file of the job any more."""
        until(lambda: not self.cluster.job_files(self.job_id), f"no file of {self.job_id} in the spools")

    def status(self) -> dict[str, Any]:
        """`mr status --json`."""
        status: dict[str, Any] = self.cluster.json("status", self.job_id)
        return status

    def run_embedded(self) -> Path:
        """The same job embedded, with the gate open; returns its output directory."""
        output = self.output.with_name(self.output.name + "-embedded")
        self.open()
        self.cluster.succeed("run", JOB, self.source, "-o", output, *self.arguments)
        return output


def gone(pid: int) -> bool:
    """Whether a process has ended."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
