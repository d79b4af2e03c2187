"""Child processes that a test owns: started apart, stopped by their id alone."""

import contextlib
import os
import random
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.support.waiting import until


def free_port() -> int:
    """A TCP port of the loopback interface that nobody uses now.

    It is below the range from which the kernel gives ports to connections: a server that is stopped and
    started again on its port finds it free.
    """
    while True:
        port = random.SystemRandom().randrange(10_000, 32_000)
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port


def accepts(port: int) -> bool:
    """Whether somebody listens on a port of the loopback interface."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0


class OwnProcess:
    """One server process in a session of its own, with its output in a file."""

    def __init__(
        self, command: Sequence[str], output: Path, environ: Mapping[str, str] | None = None
    ) -> None:
        self._output = output
        with output.open("ab") as sink:
            self._popen = subprocess.Popen(
                list(command),
                env=dict(environ) if environ is not None else None,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._popen.poll() is None

    def wait_until(self, ready: object, timeout: float) -> None:
        """Wait until `ready()`; RuntimeError with the process's output when it dies instead."""
        assert callable(ready)
        until(lambda: ready() or not self.alive, f"{self._popen.args!r} to be ready", timeout)
        if not self.alive:
            raise RuntimeError(
                f"{self._popen.args!r} died: {self._output.read_text(errors='replace')[-2000:]}"
            )

    def stop(self, timeout: float = 15.0) -> None:
        """SIGTERM, and SIGKILL when that does not help."""
        if self.alive:
            self._popen.terminate()
            try:
                self._popen.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        """SIGKILL to it and what it started."""
        if self.alive:
            os.killpg(self._popen.pid, signal.SIGKILL)
            self._popen.wait()
