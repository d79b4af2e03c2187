"""How long a draining worker serves its map outputs: until no reduce needs them."""

import asyncio
import logging
from typing import Protocol

from mr.errors import BadMessage, StoreUnavailable
from mr.ports.jobs import JobStore
from mr.ports.workers import WorkerStore
from mr.protocol.ids import JobId, WorkerId
from mr.workers.daemon.kept_outputs import is_kept, needs_outputs
from mr.workers.shuffle.transfer.served_outputs import ServedOutputs

log = logging.getLogger(__name__)


class DrainStore(JobStore, WorkerStore, Protocol):
    """Which jobs need outputs, and which workers are left."""


async def serve_until_unneeded(
    store: DrainStore, outputs: ServedOutputs, worker: WorkerId, look_seconds: float
) -> None:
    """Return when no job needs what this worker serves, or when no other worker is left to fetch it.

    Outputs that are neither needed nor kept are withdrawn. The others stay: the next worker to start in this
    spool adopts them.
    """
    while True:
        needed = [job for job in outputs.jobs() if await _is_needed(store, outputs, job)]
        if not needed or not await _others_work(store, worker):
            return
        await asyncio.sleep(look_seconds)


async def _is_needed(store: JobStore, outputs: ServedOutputs, job: JobId) -> bool:
    """Whether a reduce may still fetch outputs of a job; True if the job cannot be looked up."""
    try:
        record = await store.get_job(job)
        if record is None or needs_outputs(record):
            return True
        if not await is_kept(store, record):
            outputs.remove_job(job)
        return False
    except (BadMessage, StoreUnavailable) as error:
        log.debug("whether job %s needs its map outputs is not known: %s", job, error)
        return True


async def _others_work(store: WorkerStore, worker: WorkerId) -> bool:
    """Whether another worker lives and is not draining."""
    try:
        views = await store.workers()
    except StoreUnavailable:
        return True
    return any(view.live and not view.beat.draining and view.beat.worker != worker for view in views)
