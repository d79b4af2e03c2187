"""The claims that workers make: the right to run an attempt, and what the attempt leaves."""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

import msgspec

from mr.protocol.claims import Placement, Verdict
from mr.protocol.ids import AttemptId, Incarnation, JobId, TaskId, WorkerId
from mr.protocol.jobs import Split
from mr.protocol.records import MapOutput, TaskResult

#: Stands for the output of the attempt that exceeded what is kept of one job.
LOGS_FULL = "(not kept, nor what was printed after it: the job has printed more than log_total_bytes)\n"


class ClaimReply(msgspec.Struct, frozen=True):
    """The answer to a claim."""

    verdict: Verdict
    #: The granted attempt's number, or the winner's when COMMITTED.
    attempt: int = 0
    #: The input of a granted map task.
    split: Split | None = None
    #: How often the job had been resumed when it was granted: see JobSpec.
    resumed: int = 0
    #: Why the split is missing: another version wrote it, and it cannot be read.
    unreadable: str = ""


class ClaimStore(Protocol):
    """What workers alone call. The rules are the pure functions of `mr.protocol.claims`."""

    async def claim(
        self, job: JobId, task: TaskId, worker: WorkerId, incarnation: Incarnation, lease_seconds: float
    ) -> ClaimReply:
        """Ask for the right to run a task: see `grant`. A map task without a split is GONE, too."""

    async def renew(
        self, job: JobId, attempts: Mapping[TaskId, int], incarnation: Incarnation, lease_seconds: float
    ) -> Sequence[TaskId]:
        """Extend the leases of running attempts; returns the tasks whose attempts must stop."""

    async def commit(self, attempt: AttemptId, result: TaskResult, resumed: int = 0) -> bool:
        """Record a result. False: another attempt committed first, or the job is over or was resumed since.

        `resumed` as in the ClaimReply that granted the attempt.
        """

    async def release(self, attempt: AttemptId, incarnation: Incarnation) -> None:
        """Give back the lease of a failed or stopped attempt. No effect on another incarnation's."""

    async def relocate(
        self, job: JobId, moved: Mapping[TaskId, tuple[Placement, MapOutput]]
    ) -> Collection[TaskId]:
        """Record that committed map outputs lie elsewhere now, their statistics unchanged.

        They may be those that are kept of an ended job. Each comes with the place where it was last known to
        be. Returns the tasks for which that was still true; for the others nothing changes.
        """

    async def put_log(self, attempt: AttemptId, text: str, limit_bytes: int) -> None:
        """Keep what an attempt printed, as long as the job's logs stay within `limit_bytes`.

        The first text that exceeds them is kept as LOGS_FULL, later ones not at all. Nothing is kept for an
        unknown job.
        """
