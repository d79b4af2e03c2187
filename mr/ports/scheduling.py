"""Jobs as the coordinator writes them, fenced by its epoch."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Protocol

from mr.protocol.claims import Placement
from mr.protocol.ids import Incarnation, JobId, TaskId
from mr.protocol.jobs import JobSpec, Split
from mr.protocol.records import JobRecord, Outcome, Refusal, RestoredJob, TaskRecord, UnreadableJob


class SchedulingStore(Protocol):
    """What the coordinator alone calls.

    A write raises Deposed when a coordinator with a higher epoch has written that job. Each write raises the
    job's generation. `save_job`, `reopen`, `speculate`, `release_dead`, `resume_job` and `outcomes` raise
    StoreBehind, and change nothing, when the store has lost a write that it had acknowledged to this client;
    `rewrite` repairs such a job.
    """

    async def create_job(self, spec: JobSpec, splits: Sequence[Split], record: JobRecord, epoch: int) -> bool:
        """Write a new job and open its claims, in one step. False: the id is taken."""

    async def save_job(self, record: JobRecord, tasks: Iterable[TaskRecord], epoch: int) -> None:
        """Write a job's record and the records of the tasks that changed, in one step."""

    async def end_job(
        self,
        record: JobRecord,
        tasks: Iterable[TaskRecord],
        epoch: int,
        history_seconds: float,
        resume_seconds: float = 0.0,
    ) -> None:
        """Write the final records, close the claims (from now on GONE), delete spec, splits and map results.

        The rest expires after `history_seconds`. With `resume_seconds`, what a resume needs is kept for so
        long, at most as long as the rest: spec, splits and claims, and with `record.kept` the map results.
        """

    async def ended_job(self, job: JobId) -> RestoredJob | None:
        """Everything kept of an ended job, for a resume; None if it is unknown, runs, or nothing is kept."""

    async def resume_job(self, job: RestoredJob, kept: Collection[TaskId], epoch: int) -> RestoredJob | None:
        """Open an ended job again, in one step, with this record, spec and task records; returns all of it.

        The commits of the tasks in `kept` stay, if there are any; the other claims change by
        `mr.protocol.claims.resume`. None, and nothing is changed, if it is not an ended job that is kept.
        """

    async def reopen(self, job: JobId, lost: Mapping[TaskId, Placement], epoch: int) -> None:
        """Declare committed map outputs lost. One that has moved since, or was made again, stays."""

    async def speculate(self, job: JobId, tasks: Sequence[TaskId], epoch: int) -> None:
        """Allow each of these tasks a second holder, on another worker."""

    async def release_dead(
        self, job: JobId, leases: Iterable[tuple[TaskId, Incarnation]], epoch: int
    ) -> None:
        """Give back the leases of dead workers, so that others can claim the tasks at once."""

    async def outcomes(self, job: JobId, tasks: Sequence[TaskId]) -> Mapping[TaskId, Outcome]:
        """What is recorded of each of these tasks, read in one step; an empty Outcome for an unknown one."""

    async def restore(
        self, epoch: int, known: Collection[JobId] = ()
    ) -> Sequence[RestoredJob | UnreadableJob]:
        """Read every unfinished job but the `known` ones, oldest first, and raise its epoch to this one.

        A job that is read is accepted as the store has it, whatever this client had written before.
        """

    async def forgotten(self, jobs: Iterable[JobId]) -> Sequence[JobId]:
        """Which of these jobs have lost writes that the store had acknowledged to this client.

        The store was emptied, or came back in an older state. One round trip for hundreds of jobs.
        """

    async def rewrite(self, job: RestoredJob, epoch: int, lease_seconds: float) -> None:
        """Bring a job in such a store up to what is known of it: see `mr.protocol.claims.catch_up`.

        What the store knows beyond that stays. Leases that it had lost start anew.
        """

    async def prune_jobs(self) -> None:
        """Delete what is kept for jobs whose history has expired."""

    async def put_refusal(self, refusal: Refusal, keep_seconds: float) -> None:
        """Keep the trace of a refused request for a time; of all, the newest MAX_REFUSALS."""
