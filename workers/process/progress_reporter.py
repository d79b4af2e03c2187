"""Tells the daemon about once a second how far the child's attempt is, from a thread of its own.

User code that spends minutes on one record gives no other sign of life. Where it holds the interpreter's lock
all the time, no report comes, which says as much.
"""

import contextlib
import os
import socket
import threading
from collections.abc import Callable

from mr.workers.messages import Progress
from mr.workers.process import channel as frames

#: The time between two reports.
PROGRESS_SECONDS = 1.0


class ProgressReporter:
    """Reports while an attempt runs. It is the only one that writes to the channel meanwhile.

    A process that forks must have one thread (Python warns of more, and locks that another thread holds stay
    locked in the fork), so the thread ends before each fork of user code and begins anew after it.
    """

    def __init__(self, channel: socket.socket, seconds: float = PROGRESS_SECONDS) -> None:
        self._channel = channel
        self._seconds = seconds
        self._read: Callable[[], Progress] | None = None
        self._thread: threading.Thread | None = None
        self._ended = threading.Event()
        #: Held from before a fork until after it. A handler of a signal may fork, too, in any line below.
        self._lock = threading.RLock()

    def follow_forks(self) -> None:
        """Stand still during each fork of this process, from now on; in the fork, for ever."""
        os.register_at_fork(
            before=self._before_fork, after_in_parent=self._after_fork, after_in_child=self._in_fork
        )

    def watch(self, read: Callable[[], Progress]) -> None:
        """Report what `read` gives until `stop`."""
        with self._lock:
            self._read = read
            self._start()

    def stop(self) -> None:
        """End reporting. Afterwards the channel is free for the answer."""
        with self._lock:
            self._read = None
            self._end()

    def _start(self) -> None:
        if self._read is not None and self._thread is None:
            self._ended = threading.Event()
            self._thread = threading.Thread(
                target=self._report, args=(self._read, self._ended), name="progress", daemon=True
            )
            self._thread.start()

    def _end(self) -> None:
        thread, self._thread = self._thread, None
        if thread is not None:
            self._ended.set()
            thread.join()

    def _report(self, read: Callable[[], Progress], ended: threading.Event) -> None:
        with contextlib.suppress(OSError):  # the daemon is gone, or user code has closed the channel
            while not ended.wait(self._seconds):
                self._channel.sendall(frames.frame(read()))

    def _before_fork(self) -> None:
        self._lock.acquire()
        self._end()

    def _after_fork(self) -> None:
        try:
            self._start()
        finally:
            self._lock.release()

    def _in_fork(self) -> None:
        self._read = None
        self._lock.release()
