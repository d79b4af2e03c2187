"""The coordinator daemon: one leads, others stand by."""

import asyncio
import logging
import os
import secrets
import socket

from mr.adapters.system_clock import SystemClock
from mr.async_tools import wait_for_event
from mr.coordinator.probes import queue_exists
from mr.coordinator.runner import Runner
from mr.errors import BadMessage, Deposed
from mr.ports.broker import Broker, Consumer, Delivery
from mr.ports.clock import Clock
from mr.ports.leadership import LeadershipStore
from mr.ports.store import StateStore
from mr.protocol.queues import coordinator_queue
from mr.settings import Settings

log = logging.getLogger(__name__)

#: How often a standby looks whether the leader still is connected.
LOOK_SECONDS = 1.0


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
    standby = _Standby(settings, broker, store)
    #: The highest epoch known, whoever led.
    epoch = 0
    for warning in await store.warnings():
        log.warning("redis: %s", warning)
    presence = await _show_presence(broker, holder)
    while not stop.is_set():
        try:
            epoch, won = await _ask_for_lead(settings, store, stop, holder, epoch)
        except BadMessage as error:
            log.error("the lead cannot be taken: %s", error)
            await wait_for_event(stop, settings.lease_seconds)
            continue
        if won is None:
            await standby.wait(stop)
            continue
        if won <= epoch:  # emptied since it was asked for the last epoch
            await store.release_lead(holder)
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
            presence = await _show_presence(broker, holder)
        else:
            await store.release_lead(holder)
        epoch = runner.epoch
    await presence.cancel()


async def _ask_for_lead(
    settings: Settings, store: LeadershipStore, stop: asyncio.Event, holder: str, epoch: int
) -> tuple[int, int | None]:
    """Ask for the lead. Returns the highest epoch known until then, and the one that was won, if any."""
    known = await store.last_epoch()
    emptied = known < epoch
    if emptied:
        # The one who led has all that was lost, and writes it back once it leads again.
        log.warning("redis was emptied; whoever led until now goes first")
        await wait_for_event(stop, settings.lease_seconds)
    epoch = max(epoch, known)
    return epoch, await store.acquire_lead(holder, settings.lease_seconds, epoch if emptied else 0)


async def _show_presence(broker: Broker, holder: str) -> Consumer:
    """Hold a private queue for as long as this process is connected, so that others can see that it is."""
    return await broker.subscribe("", "", _ignore, name=coordinator_queue(holder))


async def _ignore(delivery: Delivery) -> None:
    await delivery.ack()


class _Standby:
    """Waits for the lead, and takes it from one whose process has ended without waiting for its lease."""

    def __init__(self, settings: Settings, broker: Broker, store: LeadershipStore) -> None:
        self._broker = broker
        self._store = store
        self._pause_seconds = min(LOOK_SECONDS, settings.lease_seconds / 5)
        #: A leader whose queue was gone at the last look.
        self._missed: str | None = None

    async def wait(self, stop: asyncio.Event) -> None:
        """Wait a little. A leader without its queue at two looks in a row has ended, and its lead with it.

        One look would not do: a connection that was lost is made again within that time.
        """
        leader = await self._store.leader()
        if leader is None or await queue_exists(self._broker, coordinator_queue(leader)):
            self._missed = None
        elif leader == self._missed:
            log.warning("the coordinator %s has left the broker; taking over", leader)
            await self._store.release_lead(leader)
            return
        else:
            self._missed = leader
        await wait_for_event(stop, self._pause_seconds)
