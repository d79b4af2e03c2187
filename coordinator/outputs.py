"""What jobs that failed or were cancelled left in their output directories: removed, or kept for a resume."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from weakref import WeakValueDictionary

from mr.errors import BadMessage, MrError
from mr.formats.output.directory import abandon_output, leave_output
from mr.guards import surviving
from mr.ports.jobs import JobStore
from mr.protocol.ids import JobId
from mr.protocol.records import JobRecord, JobState

log = logging.getLogger(__name__)

#: A coordinator that takes over clears outputs of jobs that failed or were cancelled within this time.
SWEEP_SECONDS = 86400.0


class Outputs:
    """The outputs of ended jobs. One task at a time, which holds `lock`, works on the output of a job."""

    def __init__(self, store: JobStore, is_unfinished: Callable[[JobId], bool]) -> None:
        self._store = store
        self._is_unfinished = is_unfinished
        self._locks: WeakValueDictionary[JobId, asyncio.Lock] = WeakValueDictionary()
        #: Ended jobs whose outputs are kept, and where these are.
        self._kept: dict[JobId, str] = {}

    def lock(self, job_id: JobId) -> asyncio.Lock:
        """The lock of one job's output."""
        return self._locks.setdefault(job_id, asyncio.Lock())

    async def clear(self, job_id: JobId, output: str, *, keep: bool) -> None:
        """Remove what an ended job left; with `keep` only once it can no longer be resumed. Idempotent.

        Nothing is done to a job that was resumed since.
        """
        async with self.lock(job_id):
            self._kept.pop(job_id, None)
            if self._is_unfinished(job_id):
                return
            keep = keep and await self._can_be_resumed(job_id)
            if keep:
                self._kept[job_id] = output
            elif self._is_unfinished(job_id):  # while the store was asked, if it was restored from there
                return
            try:
                await asyncio.to_thread(leave_output if keep else abandon_output, output, job_id)
            except (OSError, MrError, ValueError) as error:
                log.warning("job %s: %s cannot be cleared: %s", job_id, output, error)

    async def clear_expired(self) -> None:
        """Remove the kept outputs of jobs that can no longer be resumed."""
        for job_id, output in list(self._kept.items()):
            with surviving(f"clearing the output of job {job_id}"):
                await self.clear(job_id, output, keep=True)

    async def sweep(self, records: Iterable[JobRecord], now: float) -> None:
        """Clear what a predecessor left: it may have died right after it had ended a job.

        `now`: seconds since the epoch.
        """
        for record in records:
            recent = record.history[-1].at >= now - SWEEP_SECONDS
            if record.state in (JobState.FAILED, JobState.CANCELLED) and (recent or record.kept):
                await self.clear(record.job_id, record.output, keep=record.kept)

    async def _can_be_resumed(self, job_id: JobId) -> bool:
        try:
            return await self._store.get_spec(job_id) is not None
        except BadMessage as error:
            log.warning("job %s cannot be resumed: %s", job_id, error)
            return False
