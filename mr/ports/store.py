"""The state store as a whole: Redis, or its like inside one process."""

from collections.abc import Sequence
from typing import Protocol

from mr.ports.claims import ClaimStore
from mr.ports.code import CodeStore
from mr.ports.jobs import JobStore
from mr.ports.leadership import LeadershipStore
from mr.ports.workers import WorkerStore


class StateStore(LeadershipStore, CodeStore, JobStore, ClaimStore, WorkerStore, Protocol):
    """Redis, or its like inside one process. Every method raises StoreUnavailable when it cannot be reached.

    What another version has stored may not be readable: methods that read one job raise BadMessage then;
    those that read many leave it out, and log that once.

    Times inside are the store's own. Writes that carry an `epoch` raise Deposed when a coordinator
    with a higher one has written that job. Each of them raises the job's generation; `save_job`, `reopen`
    and `speculate` raise StoreBehind, and change nothing, when the store has lost a write that it had
    acknowledged to this client: `rewrite` mends that.
    """

    async def connect(self) -> None:
        """Connect. Raises StoreUnavailable with the reason."""

    async def close(self) -> None:
        """Disconnect."""

    async def warnings(self) -> Sequence[str]:
        """What about the server's configuration endangers the data (no appendonly, an eviction policy)."""

    async def server_time(self) -> float:
        """Seconds since the epoch, by the store's own clock."""

    async def identity(self) -> str:
        """A text made up at the first question, by which two clients tell whether they share a database."""
