"""Adopts what dead workers left in this spool: map outputs that reduces still need are registered again."""

import asyncio
import logging
from pathlib import Path
from typing import Protocol

import msgspec

from mr.errors import BadMessage
from mr.ports.claims import ClaimStore
from mr.ports.jobs import JobStore
from mr.protocol.claims import Placement
from mr.protocol.ids import JobId, TaskId, TaskKind
from mr.protocol.jobs import JobSpec
from mr.protocol.records import MapOutput
from mr.workers.daemon.kept_outputs import needs_outputs
from mr.workers.daemon.spool import LeftOutput, Spool
from mr.workers.messages import WorkerIdentity
from mr.workers.shuffle.transfer.served_outputs import ServedOutputs

log = logging.getLogger(__name__)


class AdoptionStore(JobStore, ClaimStore, Protocol):
    """What is recorded of the outputs, and where to record that they have moved."""


async def adopt(store: AdoptionStore, spool: Spool, outputs: ServedOutputs, identity: WorkerIdentity) -> None:
    """Take over outputs of dead workers that are recorded, and needed or kept; delete all else they left.

    Must happen before the first heartbeat: what is not registered by then counts as lost. Raises
    StoreUnavailable; outputs that were not adopted stay for the next start.
    """
    for job, left in (await asyncio.to_thread(spool.left_outputs)).items():
        try:
            count = await _adopt_job(store, spool, outputs, identity, job, left)
        except BadMessage as error:
            log.warning("the outputs of job %s are not adopted: %s", job, error)
        else:
            log.info("adopted %d of %d map outputs of job %s", count, len(left), job)
    await asyncio.to_thread(spool.clear_dead)
    for name in spool.cleared:
        log.info("deleted what else the dead worker %s left", name)


async def _adopt_job(
    store: AdoptionStore,
    spool: Spool,
    outputs: ServedOutputs,
    identity: WorkerIdentity,
    job: JobId,
    left: list[LeftOutput],
) -> int:
    """Adopt one job's outputs; returns how many."""
    record, spec = await store.get_job(job), await store.get_spec(job)
    if record is None or spec is None or not (needs_outputs(record) or record.kept):
        return 0
    moved: dict[TaskId, tuple[Placement, MapOutput]] = {}
    for found, recorded in await _recorded(store, spec, left):
        path = await asyncio.to_thread(spool.take, found)
        if path is not None:
            here = msgspec.structs.replace(
                recorded,
                worker=identity.worker,
                incarnation=identity.incarnation,
                address=identity.address,
                host=identity.host,
                path=str(path),
            )
            # Offered before it is recorded, so that no reducer can ask too early.
            outputs.add(spec.token, here)
            moved[recorded.attempt.task] = (recorded.placement, here)
    relocated = set(await store.relocate(job, moved))
    for task, (_, here) in moved.items():
        if task in relocated:
            await asyncio.to_thread(spool.write_index, Path(here.path), here)
        else:  # declared lost, or made again, in the meantime
            outputs.remove(here.attempt)
            await asyncio.to_thread(spool.drop_output, Path(here.path))
    return len(relocated)


async def _recorded(
    store: JobStore, spec: JobSpec, left: list[LeftOutput]
) -> list[tuple[LeftOutput, MapOutput]]:
    """The outputs that are recorded where they were found, each with its record.

    An earlier adoption may have ended before the index was rewritten, so the directory counts, too.
    """
    results = await store.get_results(spec.job_id, TaskKind.MAP)
    found = []
    for item in left:
        result = results.get(item.output.attempt.task)
        output = None if result is None else result.output
        if (
            isinstance(output, MapOutput)
            and output.attempt == item.output.attempt
            and output.incarnation in (item.output.incarnation, item.incarnation)
        ):
            found.append((item, output))
    return found
