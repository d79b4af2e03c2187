"""What the daemon sees of a child: what it printed, and what it uses."""

import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mr.protocol.ids import JobId
from mr.workers.process.child_process import OUTPUT_READ_BYTES, ChildProcess
from mr.workers.process.template_client import Spawned


class Held:
    """A child process, and the ends that it would hold."""

    def __init__(self, child: ChildProcess, print_to: int, peer: socket.socket) -> None:
        self.child = child
        self.print_to = print_to
        self.peer = peer


@pytest.fixture
async def held(tmp_path: Path) -> AsyncIterator[Held]:
    """This process itself, in place of a spawned child."""
    ours, peer = socket.socketpair()
    output, print_to = os.pipe()
    os.set_blocking(output, False)
    spawned = Spawned(1, ours, output)
    spawned.pid = os.getpid()
    child = ChildProcess(spawned, JobId("job"), str(tmp_path), 1 << 20)
    await child.open()
    yield Held(child, print_to, peer)
    child.close()
    os.close(print_to)
    peer.close()


async def test_what_was_printed_is_read_to_its_end_and_forgotten_at_the_next_attempt(held: Held) -> None:
    text = "x" * (OUTPUT_READ_BYTES - 10)  # a pipe takes no more at a time
    os.write(held.print_to, text.encode())
    held.child.drain()
    assert held.child.printed.text() == text
    held.child.begin()
    os.write(held.print_to, b"second")
    held.child.drain()
    assert held.child.printed.text() == "second"


async def test_a_child_that_is_gone_uses_nothing(held: Held) -> None:
    assert held.child.memory_bytes() > 0
    spawned = Spawned(2, held.child.process.channel, held.child.process.output_fd)
    spawned.pid = 2**22 + 1  # above the highest id that the kernel gives
    gone = ChildProcess(spawned, JobId("job"), "", 0)
    assert (gone.memory_bytes(), gone.cpu_percent(), gone.cpu_seconds()) == (0, 0.0, 0.0)
