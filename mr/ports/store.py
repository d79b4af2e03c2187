"""The state store as a whole."""

from collections.abc import Sequence
from typing import Protocol

from mr.ports.claims import ClaimStore
from mr.ports.code import CodeStore
from mr.ports.jobs import JobStore
from mr.ports.leadership import LeadershipStore
from mr.ports.scheduling import SchedulingStore
from mr.ports.workers import WorkerStore


class StateStore(LeadershipStore, CodeStore, JobStore, SchedulingStore, ClaimStore, WorkerStore, Protocol):
    """Redis, or an equivalent inside one process. Every method raises StoreUnavailable when it is away.

    Records that another version wrote may be unreadable: a method that reads one job then raises BadMessage;
    a method that reads many leaves the job out and logs it once. Times are by the store's own clock.
    """

    async def connect(self) -> None:
        """Connect. Raises StoreUnavailable with the reason."""

    async def close(self) -> None:
        """Disconnect."""

    async def warnings(self) -> Sequence[str]:
        """What in the server's configuration endangers the data (no appendonly, an eviction policy)."""

    async def server_time(self) -> float:
        """Seconds since the epoch, by the store's clock."""

    async def identity(self) -> str:
        """A random text, made at the first call, by which two clients tell whether they share a database."""
