"""Registers a worker under its id, which one incarnation at a time has."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from mr.errors import MrError
from mr.protocol.records import WorkerBeat, WorkerView

log = logging.getLogger(__name__)

#: An incarnation that owns the id and does not beat for so many heartbeats is considered dead.
SILENT_BEATS = 2
#: How often the owner is looked at during one heartbeat.
LOOKS_PER_BEAT = 4

#: Sends a heartbeat, which may replace another incarnation's last one; returns who has the id instead.
Beat = Callable[[WorkerBeat | None], Awaitable[WorkerView | None]]


class WorkerIdTaken(MrError):
    """Another worker runs under this id. Choose another with --id."""

    exit_code = 2

    def __init__(self, owner: WorkerBeat) -> None:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(owner.started_at))
        place = " at ".join(filter(None, (owner.host_name or owner.host, owner.address)))
        super().__init__(
            f"worker {owner.worker} already runs on host {place} since {since}; choose another --id"
        )


async def claim_worker_id(
    beat: Beat, heartbeat_seconds: float, is_dead: Callable[[WorkerBeat], bool]
) -> None:
    """Register under the worker's id. Raises WorkerIdTaken if another incarnation has it and lives.

    An owner for which `is_dead` holds is replaced at once. Any other has SILENT_BEATS heartbeats to beat
    again: a worker that starts again after a crash waits that long for its predecessor.
    """
    owner = await beat(None)
    if owner is not None and is_dead(owner.beat):
        owner = await beat(owner.beat)
    if owner is None:
        return
    last = owner.beat
    log.warning(
        "worker %s was heard of %.1f s ago on host %s; waiting whether it still runs",
        last.worker,
        owner.age_seconds,
        last.host_name,
    )
    for _ in range(SILENT_BEATS * LOOKS_PER_BEAT):
        await asyncio.sleep(heartbeat_seconds / LOOKS_PER_BEAT)
        owner = await beat(None)
        if owner is None:
            return
        if (owner.beat.incarnation, owner.beat.number) != (last.incarnation, last.number):
            raise WorkerIdTaken(owner.beat)
    owner = await beat(last)
    if owner is not None:
        raise WorkerIdTaken(owner.beat)
    log.warning("worker %s on host %s is silent; this one takes its id", last.worker, last.host_name)
