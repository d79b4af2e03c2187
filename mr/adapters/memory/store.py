"""The StateStore port inside one process."""

import uuid
from collections.abc import Sequence

from mr.adapters.memory.claims import MemoryClaims
from mr.adapters.memory.code import MemoryCode
from mr.adapters.memory.jobs import MemoryJobs
from mr.adapters.memory.leadership import MemoryLeadership
from mr.adapters.memory.scheduling import MemoryScheduling
from mr.adapters.memory.workers import MemoryWorkers
from mr.ports.store import StateStore


class MemoryStore(
    MemoryLeadership, MemoryCode, MemoryScheduling, MemoryJobs, MemoryClaims, MemoryWorkers, StateStore
):
    """All parts of the store, over one connection."""

    async def connect(self) -> None:
        """Connect; cannot fail."""
        self._connected = True

    async def close(self) -> None:
        self._connected = False

    async def warnings(self) -> Sequence[str]:
        """None: what is in memory ends with the process anyway."""
        self._state()
        return ()

    async def server_time(self) -> float:
        self._state()
        return self._now()

    async def identity(self) -> str:
        state = self._state()
        state.identity = state.identity or uuid.uuid4().hex
        return state.identity
