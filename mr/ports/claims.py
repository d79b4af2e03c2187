"""Claims and results of tasks: the right to run an attempt, what it left, where that lies."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Protocol

import msgspec

from mr.protocol.claims import Claim, Placement, Verdict
from mr.protocol.ids import Incarnation, JobId, TaskId, WorkerId
from mr.protocol.jobs import Split
from mr.protocol.locations import PackedOutputs
from mr.protocol.records import (
    MapOutput,
    Outcome,
    TaskResult,
)

#: Stands for the output of the attempt that went over what is kept of one job.
LOGS_FULL = "(not kept, nor what was printed after it: the job has printed more than log_total_bytes)\n"


class ClaimReply(msgspec.Struct, frozen=True):
    """The answer to a claim."""

    verdict: Verdict
    #: The granted attempt's number, or the winner's when COMMITTED.
    attempt: int = 0
    #: For a granted map task: its input.
    split: Split | None = None
    #: When COMMITTED: what was recorded.
    result: TaskResult | None = None
    #: Why the split or the result that belongs to the answer is not in it: another version wrote it.
    unreadable: str = ""


class ClaimStore(Protocol):
    """Claims and results of tasks: the right to run an attempt, what it left, where that lies."""

    async def claim(
        self, job: JobId, task: TaskId, worker: WorkerId, incarnation: Incarnation, lease_seconds: float
    ) -> ClaimReply:
        """Ask for the right to run a task: see `mr.protocol.claims.grant`."""

    async def renew(
        self, job: JobId, attempts: Mapping[TaskId, int], incarnation: Incarnation, lease_seconds: float
    ) -> Sequence[TaskId]:
        """Extend the leases of running attempts; returns those that are to stop."""

    async def commit(self, job: JobId, task: TaskId, attempt: int, result: TaskResult) -> bool:
        """Record a result; False: another attempt's counts, or the job is over."""

    async def relocate(
        self, job: JobId, moved: Mapping[TaskId, tuple[Placement, MapOutput]]
    ) -> Collection[TaskId]:
        """Record that committed map outputs lie elsewhere now, their statistics unchanged.

        Returns those that were still where they are said to have been; of the others nothing changes.
        """

    async def release(self, job: JobId, task: TaskId, attempt: int) -> None:
        """Give the lease of a failed or stopped attempt back."""

    async def put_log(self, job: JobId, task: TaskId, attempt: int, text: str, limit_bytes: int) -> None:
        """Keep what an attempt printed (already bounded), while the job's come to `limit_bytes` at most.

        The first that is too much is kept as LOGS_FULL, what comes after it not at all.
        """

    async def get_logs(self, job: JobId) -> Mapping[str, str]:
        """What attempts printed, by `task id/attempt`."""

    async def map_outputs(self, job: JobId) -> PackedOutputs:
        """Where the committed map outputs lie: for a reducer, and cheap however many they are."""

    async def claims(self, job: JobId) -> Mapping[TaskId, Claim]:
        """All claims of a job that were ever asked for. Raises StoreBehind as writes do."""

    async def outcomes(self, job: JobId, tasks: Sequence[TaskId]) -> Mapping[TaskId, Outcome]:
        """What is recorded of each of these tasks, read in one step; of an unknown task an empty Outcome.

        Raises StoreBehind as writes do.
        """

    async def reopen(self, job: JobId, lost: Mapping[TaskId, Placement], epoch: int) -> None:
        """Declare committed map outputs lost; one that is no longer where it is said to be stays."""

    async def speculate(self, job: JobId, tasks: Sequence[TaskId], epoch: int) -> None:
        """Allow each of these tasks a second holder on another worker."""

    async def release_dead(
        self, job: JobId, leases: Iterable[tuple[TaskId, Incarnation]], epoch: int
    ) -> None:
        """Give back the leases of dead lives, so that others can claim the tasks at once."""
