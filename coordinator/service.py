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

#: How often a standby checks that the leader is connected.
CHECK_SECONDS = 1.0


async def run_coordinator(
    settings: Settings, broker: Broker, store: StateStore, *, stop: asyncio.Event, clock: Clock | None = None
) -> None:
    """Coordinate until `stop` is set, standing by while another one leads.

    Both ports must be connected, and the caller closes them. No one else may use `broker`, which is
    reconnected if the lead is lost. Raises StoreUnavailable or BrokerUnavailable if a server stays
    unreachable for `reconnect_seconds`; the jobs continue at the next start.
    """
    clock = clock or SystemClock()
    holder = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    standby = _Standby(settings, broker, store)
    #: The highest known epoch of any coordinator.
    epoch = 0
    for warning in await store.warnings():
        log.warning("redis: %s", warning)
    presence = await _show_presence(broker, holder)
    while not stop.is_set():
        await standby.let_last_lead(stop)
        try:
            epoch, won = await _ask_for_lead(settings, store, stop, holder, epoch)
        except BadMessage as error:
            log.error("the lead cannot be taken: %s", error)
            await wait_for_event(stop, settings.lease_seconds)
            continue
        if won is None:
            await standby.wait(stop)
            continue
        if won <= epoch:  # the store was emptied after it was asked for the last epoch
            await store.release_lead(holder)
            continue
        runner = Runner(settings, broker, store, clock, holder, won)
        log.info("coordinating, epoch %d", won)
        try:
            await runner.run(stop)
        except Deposed:
            log.warning("another coordinator took over; standing by")
            # Give up the deliveries and the place of the single active consumer: they belong to the leader.
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
    """Try to take the lead. Returns the highest epoch known before, and the one that was won, if any."""
    known = await store.last_epoch()
    emptied = known < epoch
    if emptied:
        # The last leader knows what was lost, and will write it back when it leads again.
        log.warning("redis was emptied; the last leader is given time to lead again")
        await wait_for_event(stop, settings.lease_seconds)
    epoch = max(epoch, known)
    return epoch, await store.acquire_lead(holder, settings.lease_seconds, epoch if emptied else 0)


async def _show_presence(broker: Broker, holder: str) -> Consumer:
    """Hold a private queue while this process is connected, so that others can see that it is."""
    return await broker.subscribe("", "", _ignore, name=coordinator_queue(holder))


async def _ignore(delivery: Delivery) -> None:
    await delivery.ack()


class _Standby:
    """Waits for the lead. Ends the lead of a coordinator whose process has ended."""

    def __init__(self, settings: Settings, broker: Broker, store: LeadershipStore) -> None:
        self._broker = broker
        self._store = store
        self._lease_seconds = settings.lease_seconds
        self._pause_seconds = min(CHECK_SECONDS, settings.lease_seconds / 5)
        #: Who led at the last check.
        self._last: str | None = None
        #: A leader whose queue was missing at the last check.
        self._missed: str | None = None

    async def wait(self, stop: asyncio.Event) -> None:
        """Check the leader, then wait. If its queue is missing at two checks in a row, its lead is ended.

        One check is not enough: a lost connection is restored within the time between two.
        """
        leader = self._last = await self._store.leader()
        if leader is None or await queue_exists(self._broker, coordinator_queue(leader)):
            self._missed = None
        elif leader == self._missed:
            log.warning("the coordinator %s has left the broker; taking over", leader)
            await self._store.release_lead(leader)
            self._last = None
            return
        else:
            self._missed = leader
        await wait_for_event(stop, self._pause_seconds)

    async def let_last_lead(self, stop: asyncio.Event) -> None:
        """Leave the lead for one more lease to who had it at the last check, if that one is connected.

        Its lease may have run out only in a store that came back older, and nobody else knows what is lost.
        """
        last, self._last = self._last, None
        if last is None:
            return
        waited_seconds = 0.0
        while waited_seconds < self._lease_seconds and not stop.is_set():
            if await self._store.leader() is not None or not await queue_exists(
                self._broker, coordinator_queue(last)
            ):
                return
            await wait_for_event(stop, self._pause_seconds)
            waited_seconds += self._pause_seconds
