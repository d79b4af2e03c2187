"""One client's connection to a `MemoryStoreServer`: what every part of the store works on."""

import time
from collections.abc import Callable

from mr.adapters.acknowledged_writes import AcknowledgedWrites
from mr.adapters.lenient_reader import LenientReader
from mr.adapters.memory.state import JobEntry, MemoryStoreServer
from mr.errors import StoreBehind, StoreUnavailable
from mr.protocol.ids import JobId


class MemoryClient:
    """Open or closed; it makes its own server if none is given.

    `now` is the store's clock, in seconds since the epoch.
    """

    def __init__(self, now: Callable[[], float] = time.time, server: MemoryStoreServer | None = None) -> None:
        self.server = server or MemoryStoreServer()
        self._now = now
        self._connected = False
        self._reader = LenientReader()
        self._acknowledged = AcknowledgedWrites()

    def _state(self) -> MemoryStoreServer:
        """The server. Raises StoreUnavailable when not connected."""
        if not self._connected:
            raise StoreUnavailable("the store connection is closed")
        return self.server

    def _now_ms(self) -> int:
        return int(self._now() * 1000)

    def _find(self, job: JobId) -> JobEntry | None:
        """A job's entry, unless its history has expired."""
        entry = self._state().jobs.get(job)
        if entry is not None and entry.expires_at <= self._now():
            del self.server.jobs[job]
            return None
        if entry is not None and entry.kept_until <= self._now():
            entry.drop_kept()
        return entry

    def _find_current(self, job: JobId) -> JobEntry:
        """A job's entry, empty for an unknown job. Raises StoreBehind."""
        entry = self._find(job) or JobEntry()
        self._check_generation(job, entry)
        return entry

    def _check_generation(self, job: JobId, entry: JobEntry) -> None:
        if entry.generation < self._acknowledged.of(job):
            raise StoreBehind(f"the store has lost what it had acknowledged of job {job}")
