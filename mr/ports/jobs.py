"""Jobs: written by the coordinator, read by everybody."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import msgspec

from mr.protocol.claims import Claim
from mr.protocol.ids import JobId, TaskId, TaskKind
from mr.protocol.jobs import JobSpec, Split
from mr.protocol.records import (
    JobRecord,
    Refusal,
    TaskRecord,
    TaskResult,
)


class RestoredJob(msgspec.Struct, frozen=True):
    """Everything the store knows of an unfinished job, for a coordinator that takes over."""

    record: JobRecord
    spec: JobSpec
    splits: tuple[Split, ...]
    tasks: Mapping[TaskId, TaskRecord]
    claims: Mapping[TaskId, Claim]
    results: Mapping[TaskId, TaskResult]


class JobStore(Protocol):
    """Jobs: written by the coordinator, read by everybody."""

    async def create_job(self, spec: JobSpec, splits: Sequence[Split], record: JobRecord, epoch: int) -> bool:
        """Write a new job and open its claims, at once or not at all. False: the id exists already."""

    async def save_job(self, record: JobRecord, tasks: Iterable[TaskRecord], epoch: int) -> None:
        """Write a job's record and those of its tasks that changed, in one step."""

    async def end_job(
        self, record: JobRecord, tasks: Iterable[TaskRecord], epoch: int, history_seconds: float
    ) -> None:
        """Write the final records, close the claims (from now: GONE), delete spec, splits and map results.

        What stays expires after `history_seconds`.
        """

    async def restore(self, epoch: int) -> Sequence[RestoredJob]:
        """Read every unfinished job and raise its epoch to ours."""

    async def forgotten(self, jobs: Iterable[JobId]) -> Sequence[JobId]:
        """Those of these jobs of which the store has lost writes that it had acknowledged to this client.

        It was emptied, or came back as it was some time ago. One round trip for hundreds of jobs.
        """

    async def rewrite(self, job: RestoredJob, epoch: int, lease_seconds: float) -> None:
        """Raise an unfinished job in such a store to what is known of it: see `mr.protocol.claims.catch_up`.

        What the store knows beyond that stays. Leases of attempts that it had lost begin anew.
        """

    async def prune_jobs(self) -> None:
        """Let go of what is kept for jobs that are no longer remembered."""

    async def get_job(self, job: JobId) -> JobRecord | None:
        """A job's record; None when there is none such."""

    async def list_jobs(self) -> Sequence[JobRecord]:
        """All jobs still remembered, newest first."""

    async def get_spec(self, job: JobId) -> JobSpec | None:
        """An unfinished job's spec; None once it has ended."""

    async def get_tasks(self, job: JobId) -> Sequence[TaskRecord]:
        """The accounts of all tasks of a job, in order of task id."""

    async def get_results(self, job: JobId, kind: TaskKind) -> Mapping[TaskId, TaskResult]:
        """The committed results of one kind of task."""

    async def put_refusal(self, refusal: Refusal, keep_seconds: float) -> None:
        """Keep the trace of a refused request for a time, and MAX_REFUSALS of them at most, the newest."""

    async def get_refusal(self, job: JobId) -> Refusal | None:
        """The refusal of the request that chose this id, if it is remembered."""
