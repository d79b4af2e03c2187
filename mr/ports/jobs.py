"""Jobs as everybody reads them."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from mr.protocol.claims import Claim
from mr.protocol.ids import JobId, TaskId, TaskKind
from mr.protocol.jobs import JobSpec
from mr.protocol.locations import PackedOutputs
from mr.protocol.records import JobRecord, Refusal, TaskRecord, TaskResult


class JobStore(Protocol):
    """Reads only: the coordinator writes jobs by SchedulingStore, the workers by ClaimStore."""

    async def get_job(self, job: JobId) -> JobRecord | None:
        """A job's record; None for an unknown job."""

    async def list_jobs(self) -> Sequence[JobRecord]:
        """All jobs still remembered, newest first."""

    async def get_spec(self, job: JobId) -> JobSpec | None:
        """A job's spec; None once it has ended and can no longer be resumed."""

    async def get_tasks(self, job: JobId) -> Sequence[TaskRecord]:
        """The records of all tasks of a job, in order of task id."""

    async def get_results(self, job: JobId, kind: TaskKind) -> Mapping[TaskId, TaskResult]:
        """The committed results of one kind of task."""

    async def map_outputs(self, job: JobId) -> PackedOutputs:
        """Where the committed map outputs lie, for a reducer: cheap however many they are."""

    async def claims(self, job: JobId) -> Mapping[TaskId, Claim]:
        """All claims of a job that were ever asked for.

        Raises StoreBehind when the store has lost a write that it had acknowledged to this client.
        """

    async def get_logs(self, job: JobId) -> Mapping[str, str]:
        """What attempts printed, by `task id/attempt`."""

    async def get_refusal(self, job: JobId) -> Refusal | None:
        """The refusal of the request that chose this id, while it is remembered."""
