"""The fork template: a process with everything imported that forks one child a request.

A fork costs milliseconds and no memory, an interpreter with Arrow costs a second. Not
multiprocessing's forkserver, because that imports the caller's `__main__` into every child and is
one for the whole process; this one belongs to its executor.

Only the template uses the pids of its children: it kills before it reaps, so a signal never reaches
another process. It ends, with all its children's process groups, when the daemon's end of the control
socket closes, however the daemon died.

Control messages (msgpack arrays over a SOCK_SEQPACKET pair):
  to the template:   ["spawn", number] with two file descriptors (channel, output) · ["kill", number]
  from the template: ["ready"] · ["spawned", number, pid] · ["refused", number, reason]
                     · ["exited", number, status]
A status is an exit code, or minus the number of the signal.
"""

import gc
import importlib
import os
import selectors
import signal
import socket
import sys
from collections.abc import Sequence
from types import FrameType

import msgspec

#: Largest control message.
MESSAGE_BYTES = 4096


def start(control_fd: int, entry: str, preload: Sequence[str]) -> None:
    """Run the template on `control_fd` until the daemon is gone. `entry` is `module:function`."""
    # The daemon handles interactive signals and a service manager's SIGTERM.
    signal.signal(signal.SIGINT, _ignore)
    signal.signal(signal.SIGTERM, _ignore)
    for name in (*preload, "mr.workers.process.child"):
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    _Template(socket.socket(fileno=control_fd), entry).serve()


def _ignore(signum: int, frame: FrameType | None) -> None:
    """Take a signal without effect. A handler, unlike SIG_IGN, is not inherited over exec."""


class _Template:
    def __init__(self, control: socket.socket, entry: str) -> None:
        self._control = control
        self._entry = entry
        self._pids: dict[int, int] = {}
        self._wakeup_in, self._wakeup_out = socket.socketpair()
        self._wakeup_in.setblocking(False)
        self._wakeup_out.setblocking(False)
        signal.signal(signal.SIGCHLD, _ignore)
        signal.set_wakeup_fd(self._wakeup_out.fileno(), warn_on_full_buffer=False)

    def serve(self) -> None:
        selector = selectors.DefaultSelector()
        selector.register(self._control, selectors.EVENT_READ)
        selector.register(self._wakeup_in, selectors.EVENT_READ)
        connected = self._tell("ready")
        while connected:
            ready = {key.fileobj for key, _ in selector.select()}
            if self._wakeup_in in ready:
                self._wakeup_in.recv(MESSAGE_BYTES)
                connected = self._reap()
            if self._control in ready and connected:
                connected = self._serve_one(selector)
        signal.set_wakeup_fd(-1)  # children may still end after the sockets are closed
        for number in tuple(self._pids):
            self._kill(number)

    def _serve_one(self, selector: selectors.BaseSelector) -> bool:
        """Do what one control message asks. False: the daemon is gone."""
        try:
            data, descriptors, _, _ = socket.recv_fds(self._control, MESSAGE_BYTES, 2)
        except ConnectionError:
            return False
        if not data:
            return False
        match msgspec.msgpack.decode(data):
            case ["spawn", int(number)]:
                return self._spawn(number, descriptors, selector)
            case ["kill", int(number)]:
                self._kill(number)
        return True

    def _spawn(self, number: int, descriptors: list[int], selector: selectors.BaseSelector) -> bool:
        """Fork one child that owns the two descriptors. False: the daemon is gone."""
        try:
            pid = os.fork()
        except OSError as error:
            return self._tell("refused", number, str(error))
        else:
            if pid == 0:
                self._become_child(descriptors, selector)
            self._pids[number] = pid
            return self._tell("spawned", number, pid)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _become_child(self, descriptors: list[int], selector: selectors.BaseSelector) -> None:
        """Turn the fork into a child; never returns."""
        from mr.workers.process import child

        template_pid = os.getppid()
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            selector.close()
            for inherited in (self._control, self._wakeup_in, self._wakeup_out):
                inherited.close()
            channel, output = descriptors
            child.serve(channel, output, self._entry, template_pid)
            status = 0
        finally:
            # Neither the template's exit handlers nor the user's threads may delay the end.
            if error := sys.exc_info()[1]:
                sys.excepthook(type(error), error, error.__traceback__)
            os._exit(status)

    def _reap(self) -> bool:
        """Collect ended children, after killing what they left in their group. False: the daemon is gone."""
        for number, pid in tuple(self._pids.items()):
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                continue
            self._kill(number)
            _, status = os.waitpid(pid, 0)
            del self._pids[number]
            if not self._tell("exited", number, os.waitstatus_to_exitcode(status)):
                return False
        return True

    def _kill(self, number: int) -> None:
        """Kill a child and all of its group. It is not reaped yet, so no other process has its pid."""
        pid = self._pids.get(number)
        if pid is None:
            return
        try:
            os.killpg(pid, signal.SIGKILL)
        except ProcessLookupError:
            # It has not made its group yet.
            os.kill(pid, signal.SIGKILL)
        except PermissionError:
            # macOS raises this for a group whose only member is a zombie.
            return

    def _tell(self, *message: object) -> bool:
        """Send to the daemon. False: it is gone."""
        try:
            self._control.send(msgspec.msgpack.encode(message))
        except OSError:
            return False
        return True
