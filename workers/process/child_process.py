"""A child process as the daemon holds it: its channel, what it prints, what it uses."""

import asyncio
import os

import psutil

from mr.protocol.ids import JobId
from mr.workers.process.output_capture import Printed
from mr.workers.process.template_client import Spawned

#: Bytes read from a child's output at a time.
OUTPUT_READ_BYTES = 64 * 1024


class ChildProcess:
    """A long-lived child process, bound to the job it first served."""

    def __init__(self, process: Spawned, job: JobId, code_dir: str, log_bytes: int) -> None:
        self.process = process
        self.job = job
        self.code_dir = code_dir
        self.printed = Printed(log_bytes)
        self._log_bytes = log_bytes
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter
        self._usage = _usage(process.pid)

    async def open(self) -> None:
        """Attach to the child's channel and output."""
        self.reader, self.writer = await asyncio.open_unix_connection(sock=self.process.channel)
        asyncio.get_running_loop().add_reader(self.process.output_fd, self.drain_some)

    def begin(self) -> None:
        """Forget what earlier attempts printed."""
        self.drain()
        self.printed = Printed(self._log_bytes)

    def drain_some(self) -> bool:
        """Read some of what the child printed. False: there is no more now."""
        try:
            data = os.read(self.process.output_fd, OUTPUT_READ_BYTES)
        except BlockingIOError:
            return False
        if not data:
            asyncio.get_running_loop().remove_reader(self.process.output_fd)
            return False
        self.printed.add(data)
        return True

    def drain(self) -> None:
        """Read what is left in the pipe, at most a pipe's worth."""
        for _ in range(1 + 1024 * 1024 // OUTPUT_READ_BYTES):
            if not self.drain_some():
                return

    def memory_bytes(self) -> int:
        """Private resident bytes; 0 when the process is gone."""
        if self._usage is None:
            return 0
        try:
            memory = self._usage.memory_info()
        except psutil.Error:
            return 0
        return max(memory.rss - int(getattr(memory, "shared", 0)), 0)

    def cpu_percent(self) -> float:
        """CPU since the last call, 100 = one core; 0 when the process is gone."""
        if self._usage is None:
            return 0.0
        try:
            return self._usage.cpu_percent()
        except psutil.Error:
            return 0.0

    def cpu_seconds(self) -> float:
        """CPU time used so far, that of ended grandchildren included; 0 when the process is gone."""
        if self._usage is None:
            return 0.0
        try:
            used = self._usage.cpu_times()
        except psutil.Error:
            return 0.0
        return float(used.user + used.system + used.children_user + used.children_system)

    def close(self) -> None:
        """Close the daemon's ends of a child that has ended."""
        asyncio.get_running_loop().remove_reader(self.process.output_fd)
        self.writer.close()
        os.close(self.process.output_fd)


def _usage(pid: int) -> psutil.Process | None:
    """The account of a process; None when it is gone already."""
    try:
        return psutil.Process(pid)
    except psutil.NoSuchProcess:
        return None
