"""The coordinator daemon: one leads, others stand by."""

import asyncio
import logging
import os
import secrets
import socket
import time

from coordinator.runner import Runner
from mr.errors import Deposed
from mr.ports import Broker, Clock, StateStore
from mr.settings import Settings
from mr.waiting import happens

log = logging.getLogger(__name__)


class SystemClock:
    """The machine's clocks, on the running event loop."""

    def now(self) -> float:
        """Seconds since some start, never going back."""
        return time.monotonic()

    def wall(self) -> float:
        """Seconds since the epoch; somebody may set it back."""
        return time.time()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)


async def run_coordinator(
    settings: Settings, broker: Broker, store: StateStore, *, stop: asyncio.Event, clock: Clock | None = None
) -> None:
    """Coordinate until `stop` is set, standing by while another one leads.

    Both ports are connected already and stay the caller's to close; `broker` is this coordinator's alone:
    it connects again when it loses the lead. Raises StoreUnavailable or BrokerUnavailable when one stays
    away for `reconnect_seconds`; the jobs go on at the next start.
    """
    clock = clock or SystemClock()
    holder = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    #: The highest epoch known, whoever led.
    epoch = 0
    for warning in await store.warnings():
        log.warning("redis: %s", warning)
    while not stop.is_set():
        known = await store.last_epoch()
        if known < epoch:
            # The one who led has all that was lost, and writes it back once it leads again.
            log.warning("redis was emptied; whoever led until now goes first")
            await happens(stop, settings.lease_seconds)
        epoch = max(epoch, known)
        won = await store.acquire_lead(holder, settings.lease_seconds, epoch)
        if won is None:
            await happens(stop, settings.lease_seconds / 5)
            continue
        runner = Runner(settings, broker, store, clock, holder, won)
        log.info("coordinating, epoch %d", won)
        try:
            await runner.run(stop)
        except Deposed:
            log.warning("another coordinator took over; standing by")
            # What was delivered here, and the place of the one active consumer, are the other's from now on.
            await broker.close()
            await broker.connect()
        else:
            await store.release_lead(holder)
        epoch = runner.epoch
