"""The daemon's side of the fork template: it asks for children, kills them and learns how they ended."""

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence

import msgspec

from mr.errors import MrError
from mr.settings import SECRET_VARIABLES
from mr.workers.process.template import MESSAGE_BYTES

#: One thread a process for native libraries: a worker's slots already share its cores.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

_START = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[2]); "
    "from mr.workers.process.template import start; "
    "start(int(sys.argv[1]), sys.argv[3], json.loads(sys.argv[4]))"
)


class TemplateDied(MrError):
    """The process that starts the tasks' processes died. A new one is started with the next task."""


class SpawnRefused(MrError):
    """The operating system refused a new process. Check the limits on processes and memory."""


class Spawned:
    """A child process: its channel, its output, and its end."""

    def __init__(self, number: int, channel: socket.socket, output_fd: int) -> None:
        self.number = number
        self.pid = 0
        self.channel = channel
        #: Read end, non-blocking, of what the child prints.
        self.output_fd = output_fd
        #: Exit code or minus the signal; None when the template died with it.
        self.exited: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        self._spawned: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def close(self) -> None:
        """Close the daemon's ends."""
        self.channel.close()
        os.close(self.output_fd)


class Template:
    """One fork template and the children it has. Lives on one event loop."""

    def __init__(self, entry: str, preload: Sequence[str]) -> None:
        self._entry = entry
        self._preload = tuple(preload)
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._children: dict[int, Spawned] = {}
        self._next_number = 0
        self._ready: asyncio.Future[None] | None = None

    async def start(self) -> None:
        """Start the template and wait until it has imported everything. Raises TemplateDied."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = self._launch(theirs.fileno())
        ours.setblocking(False)
        self._control = ours
        loop = asyncio.get_running_loop()
        self._ready = loop.create_future()
        loop.add_reader(ours.fileno(), self._listen)
        try:
            await self._ready
        except TemplateDied:
            await self.close()
            raise

    def _launch(self, control_fd: int) -> subprocess.Popen[bytes]:
        environ = {name: value for name, value in os.environ.items() if name not in SECRET_VARIABLES}
        for name in _THREAD_VARIABLES:
            environ.setdefault(name, "1")
        # A set of strings then has the same order in every process, so user code gives the same bytes.
        environ["PYTHONHASHSEED"] = "0"
        arguments = (str(control_fd), json.dumps(sys.path), self._entry, json.dumps(self._preload))
        return subprocess.Popen(
            [sys.executable, "-P", "-c", _START, *arguments],
            pass_fds=(control_fd,),
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            env=environ,
        )

    @property
    def alive(self) -> bool:
        """Whether children can be asked for."""
        return self._control is not None

    async def spawn(self) -> Spawned:
        """Fork a child. Raises TemplateDied or SpawnRefused."""
        if self._control is None:
            raise TemplateDied
        self._next_number += 1
        ours, theirs = socket.socketpair()
        output_read, output_write = os.pipe()
        ours.setblocking(False)
        os.set_blocking(output_read, False)
        child = Spawned(self._next_number, ours, output_read)
        self._children[child.number] = child
        try:
            with theirs:
                request = msgspec.msgpack.encode(["spawn", child.number])
                socket.send_fds(self._control, [request], [theirs.fileno(), output_write])
            await child._spawned
        except asyncio.CancelledError:
            self.kill(child)
            child.close()
            raise
        except (OSError, MrError) as error:
            self._children.pop(child.number, None)
            child.close()
            if isinstance(error, MrError):
                raise
            raise TemplateDied(
                f"the process that starts the tasks' processes does not answer: {error}"
            ) from error
        finally:
            os.close(output_write)
        return child

    def kill(self, child: Spawned) -> None:
        """Kill a child and its process group; `exited` follows. No effect on one that has ended."""
        if self._control is not None and not child.exited.done():
            with contextlib.suppress(OSError):  # a template that is gone has ended its children
                self._control.send(msgspec.msgpack.encode(["kill", child.number]))

    def _listen(self) -> None:
        """Take one message from the template."""
        control = self._control
        if control is None:
            return
        try:
            data = control.recv(MESSAGE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lost()
            return
        match msgspec.msgpack.decode(data):
            case ["ready"] if self._ready is not None and not self._ready.done():
                self._ready.set_result(None)
            case ["spawned", int(number), int(pid)]:
                child = self._children[number]
                child.pid = pid
                _settle(child._spawned)
            case ["refused", int(number), str(reason)]:
                _fail(self._children[number]._spawned, SpawnRefused(f"no new process: {reason}"))
            case ["exited", int(number), int(status)]:
                child = self._children.pop(number)
                if not child.exited.done():
                    child.exited.set_result(status)

    def _lost(self) -> None:
        """The template is gone: so are its children."""
        self._hang_up()
        if self._ready is not None:
            _fail(self._ready, TemplateDied("the process that starts the tasks' processes could not start"))
        for child in self._children.values():
            _fail(child._spawned, TemplateDied())
            if not child.exited.done():
                child.exited.set_result(None)
        self._children.clear()

    def _hang_up(self) -> None:
        control, self._control = self._control, None
        if control is not None:
            asyncio.get_running_loop().remove_reader(control.fileno())
            control.close()

    async def close(self) -> None:
        """End the template and all of its children."""
        self._lost()
        process, self._process = self._process, None
        if process is not None:
            await asyncio.to_thread(process.wait)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _fail(future: asyncio.Future[None], error: MrError) -> None:
    """Fail a future that perhaps nobody awaits."""
    if not future.done():
        future.set_exception(error)
        future.exception()
