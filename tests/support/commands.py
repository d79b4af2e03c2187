"""Runs the installed `mr` as a user would, and looks at what it leaves behind."""

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

MR = Path(sys.executable).with_name("mr")

#: Marks every process that descends from our commands: leftovers are found even after init adopted them.
MARK = "MR_JOB_TEST_MARK"


@dataclass
class Commands:
    """A place to run `mr` from: its environment, its working directory, its directory of temporary files."""

    directory: Path
    settings: Mapping[str, str] = field(default_factory=dict)
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)

    def __post_init__(self) -> None:
        self.temporary.mkdir(parents=True, exist_ok=True)

    @property
    def temporary(self) -> Path:
        """TMPDIR of the commands."""
        return self.directory / "tmp"

    @property
    def environment(self) -> dict[str, str]:
        """What the commands see: no MR_* variable from outside."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith("MR_")}
        return kept | dict(self.settings) | {"TMPDIR": str(self.temporary), MARK: self.mark}

    def start(
        self, *arguments: object, prefix: Sequence[str] = (), **options: Any
    ) -> subprocess.Popen[bytes]:
        """Start `PREFIX mr ARGUMENTS` in a process group of its own, with no standard input."""
        options = {"stdin": subprocess.DEVNULL, "env": self.environment, "cwd": self.directory} | options
        command = [*prefix, str(MR), *map(str, arguments)]
        return subprocess.Popen(command, start_new_session=True, **options)

    def run(
        self, *arguments: object, timeout: float = 100, **options: Any
    ) -> subprocess.CompletedProcess[bytes]:
        """Run `mr ARGUMENTS` to its end; whatever it started is killed should it not end in time."""
        process = self.start(*arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
        try:
            output, errors = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, errors = process.communicate()
            raise AssertionError(
                f"mr {arguments} did not end:\n{errors.decode()}\n{output.decode()}"
            ) from None
        return subprocess.CompletedProcess(process.args, process.returncode, output, errors)

    def succeed(self, *arguments: object, **options: Any) -> subprocess.CompletedProcess[bytes]:
        """Run `mr ARGUMENTS`, which must end with exit code 0."""
        done = self.run(*arguments, **options)
        assert done.returncode == 0, f"mr {arguments} gave {done.returncode}:\n{done.stderr.decode()}"
        return done

    def json(self, *arguments: object, **options: Any) -> Any:
        """Run `mr ARGUMENTS --json` and read what it prints."""
        return json.loads(self.succeed(*arguments, "--json", **options).stdout)

    def processes(self) -> list[psutil.Process]:
        """All living processes that descend from our commands."""
        return [p for p in psutil.process_iter() if _marked(p, self.mark)]

    def leftovers(self) -> list[str]:
        """What our commands left behind, processes and temporary files; must be empty."""
        files = [
            str(Path(directory, name))
            for directory, directories, names in os.walk(self.temporary)
            for name in (*directories, *names)
        ]
        return [f"process {p}" for p in self.processes()] + files


def _marked(process: psutil.Process, mark: str) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MARK) == mark
    except psutil.Error:
        return False


def one_line(errors: bytes, *parts: str) -> str:
    """Check that an error output is one line (after click's two lines of usage) that contains all `parts`."""
    lines = [line for line in errors.decode().splitlines() if line.strip()]
    if lines and lines[0].startswith("Usage:"):
        lines = lines[2:]
    assert len(lines) == 1, f"expected one line, got:\n{errors.decode()}"
    for part in parts:
        assert part in lines[0], f"{part!r} is not in {lines[0]!r}"
    return lines[0]


def no_traceback_of_ours(errors: bytes) -> None:
    """Check that an error output shows no frame of the engine."""
    text = errors.decode()
    for place in ("/mr/", "/workers/", "/coordinator/", "site-packages", "asyncio/"):
        frames = [line for line in text.splitlines() if line.lstrip().startswith('File "') and place in line]
        assert not frames, f"a frame of the engine is shown:\n{text}"


def write_job(path: Path, *lines: Sequence[str] | str) -> Path:
    """Write a job file of these lines."""
    path.write_text("\n".join(map(str, lines)) + "\n")
    return path
