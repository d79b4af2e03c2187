"""The faults that the soak does to a running cluster: a table, with each one's weight and what it strikes."""

import asyncio
import contextlib
import random
import shutil
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pika
import psutil
import redis

from mr.adapters.redis.keys import LEADER_KEY
from mr.protocol.queues import JOBS_QUEUE, REPORTS_QUEUE, TASKS_QUEUE
from tests.soak.site import COORDINATORS, SMALL_DISK_WORKER, Site, everything_below
from tests.support.waiting import eventually

#: What nobody else may strike while one fault lasts. MEMORY: who remembers the jobs. Promised is that nothing
#: is lost when the coordinators die or Redis loses its data, not when both do at the same time.
MEMORY, RABBITMQ, REDIS, WORKER = "memory", "rabbitmq", "redis", "worker"

#: Beyond the lease of three seconds.
LONG_SECONDS = (4.0, 7.0)
SHORT_SECONDS = (0.2, 2.0)
#: A fault that finds nothing to strike waits this long for it.
FIND_SECONDS = 5.0
#: How long a new leader, or one whose store came back, has until the jobs are in its memory and in the store.
SETTLE_SECONDS = 5.0
LEADER_SECONDS = 60.0
BALLAST_BYTES = 1024 * 1024


class NothingToStrike(Exception):
    """No task ran, or no file was there, that the fault could have struck."""


@dataclass
class Strike:
    """One fault as it happens: where, with which chance, and which worker if it strikes one."""

    site: Site
    chance: random.Random
    worker: str = ""

    async def last(self, bounds: tuple[float, float]) -> None:
        """Let the fault last for a while."""
        await asyncio.sleep(self.chance.uniform(*bounds))

    async def find_child(self) -> psutil.Process:
        """A process of the worker that runs tasks. Raises NothingToStrike."""
        return self.chance.choice(await _found(lambda: self.site.children(self.worker)))

    async def find_segments(self) -> Path:
        """A map output of any worker. Raises NothingToStrike."""
        spool = self.site.cluster.spool
        return self.chance.choice(
            await _found(
                lambda: sorted(
                    path
                    for path in everything_below(spool)
                    if path.suffix == ".segments" and "outputs" in path.parts
                )
            )
        )

    async def leader(self) -> None:
        """Wait until a coordinator leads and has had time to settle."""
        await eventually(self._leads, "a coordinator that leads", LEADER_SECONDS)
        await asyncio.sleep(SETTLE_SECONDS)

    def _leads(self) -> bool:
        with contextlib.suppress(redis.RedisError), redis.Redis.from_url(self.site.redis.url) as client:
            return bool(client.exists(LEADER_KEY))
        return False


async def _found(look: Callable[[], list[Any]]) -> list[Any]:
    deadline = time.monotonic() + FIND_SECONDS
    while time.monotonic() < deadline:
        if found := look():
            return found
        await asyncio.sleep(0.1)
    raise NothingToStrike


# --- workers and their processes


async def worker_killed(strike: Strike) -> None:
    await strike.site.end(strike.worker, signal.SIGKILL)
    await strike.last(strike.chance.choice(((0.0, 0.0), SHORT_SECONDS, LONG_SECONDS)))
    strike.site.begin(strike.worker)


async def worker_lost_with_its_disk(strike: Strike) -> None:
    await strike.site.end(strike.worker, signal.SIGKILL)
    await strike.site.in_thread(strike.site.empty_spool, strike.worker)
    await strike.last(SHORT_SECONDS)
    strike.site.begin(strike.worker)


async def worker_drained(strike: Strike) -> None:
    await strike.site.end(strike.worker, signal.SIGTERM)
    strike.site.begin(strike.worker)


async def worker_asked_to_drain(strike: Strike) -> None:
    strike.site.expected_ends.add(strike.worker)
    done = await strike.site.in_thread(strike.site.cluster.run, "drain", strike.worker)
    if done.returncode:  # it is not back in the store yet
        strike.site.expected_ends.discard(strike.worker)
        raise NothingToStrike
    await strike.site.end(strike.worker)
    strike.site.begin(strike.worker)


async def worker_stopped_at_once(strike: Strike) -> None:
    await strike.site.end(strike.worker, signal.SIGTERM, signal.SIGTERM)
    await strike.last(SHORT_SECONDS)
    strike.site.begin(strike.worker)


async def _freeze(strike: Strike, name: str, bounds: tuple[float, float]) -> None:
    strike.site.send(name, signal.SIGSTOP)
    try:
        await strike.last(bounds)
    finally:
        strike.site.send(name, signal.SIGCONT)


async def worker_frozen_shortly(strike: Strike) -> None:
    await _freeze(strike, strike.worker, SHORT_SECONDS)


async def worker_frozen_beyond_its_lease(strike: Strike) -> None:
    await _freeze(strike, strike.worker, LONG_SECONDS)


async def child_killed(strike: Strike) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        (await strike.find_child()).kill()


async def child_frozen(strike: Strike) -> None:
    child = await strike.find_child()
    with contextlib.suppress(psutil.NoSuchProcess):
        child.suspend()
        try:
            await strike.last(LONG_SECONDS)
        finally:
            child.resume()


async def fork_template_killed(strike: Strike) -> None:
    # One that has forked: a worker whose template dies while it starts does not start, and says so.
    template = (await strike.find_child()).parent()
    if template is None or template not in strike.site.templates(strike.worker):
        raise NothingToStrike
    with contextlib.suppress(psutil.NoSuchProcess):
        template.kill()


# --- coordinators


async def coordinator_killed(strike: Strike) -> None:
    name = strike.chance.choice(COORDINATORS)
    await strike.site.end(name, signal.SIGKILL)
    await strike.last((0.0, 3.0))
    strike.site.begin(name)
    await strike.leader()


async def both_coordinators_killed(strike: Strike) -> None:
    for name in COORDINATORS:
        await strike.site.end(name, signal.SIGKILL)
    await strike.last((0.0, 3.0))
    for name in COORDINATORS:
        strike.site.begin(name)
    await strike.leader()


async def coordinator_stopped(strike: Strike) -> None:
    name = strike.chance.choice(COORDINATORS)
    await strike.site.end(name, signal.SIGTERM)
    strike.site.begin(name)
    await strike.leader()


async def coordinator_frozen_beyond_its_lease(strike: Strike) -> None:
    await _freeze(strike, strike.chance.choice(COORDINATORS), (4.0, 10.0))
    await strike.leader()


# --- servers


async def rabbitmq_killed(strike: Strike) -> None:
    await strike.site.in_thread(strike.site.rabbitmq.kill)
    await strike.last((0.0, 3.0))
    await strike.site.in_thread(strike.site.rabbitmq.start)


async def rabbitmq_restarted(strike: Strike) -> None:
    await strike.site.in_thread(strike.site.rabbitmq.stop)
    await strike.site.in_thread(strike.site.rabbitmq.start)


async def rabbitmq_emptied(strike: Strike) -> None:
    await strike.site.in_thread(strike.site.rabbitmq.kill)
    await strike.site.in_thread(shutil.rmtree, strike.site.directory / "rabbitmq" / "mnesia")
    await strike.site.in_thread(strike.site.rabbitmq.start)


async def rabbitmq_short_of_memory(strike: Strike) -> None:
    control = strike.site.rabbitmq.control
    await strike.site.in_thread(control, "set_vm_memory_high_watermark", "0.000001")
    try:
        await strike.last(LONG_SECONDS)
    finally:
        await strike.site.in_thread(control, "set_vm_memory_high_watermark", "0.4")


async def redis_paused(strike: Strike) -> None:
    def pause() -> None:
        with redis.Redis.from_url(strike.site.redis.url) as client:
            client.client_pause(round(1000 * strike.chance.uniform(*LONG_SECONDS)))

    await strike.site.in_thread(pause)


async def redis_killed(strike: Strike) -> None:
    await strike.site.in_thread(strike.site.redis.kill)
    await strike.last((0.0, 3.0))
    await strike.site.in_thread(strike.site.redis.start)


async def redis_emptied(strike: Strike) -> None:
    await strike.leader()
    await strike.site.in_thread(strike.site.redis.kill)
    await strike.site.in_thread(shutil.rmtree, strike.site.directory / "redis")
    await strike.site.in_thread(strike.site.redis.start)
    await strike.leader()


async def redis_back_to_an_older_state(strike: Strike) -> None:
    await strike.leader()
    copy = strike.site.directory / "older"
    await strike.site.in_thread(strike.site.compact_store)
    await strike.site.in_thread(strike.site.redis.keep, copy)
    try:
        await strike.last((0.2, 3.0))
        await strike.site.in_thread(strike.site.redis.come_back, copy)
    finally:
        await strike.site.in_thread(shutil.rmtree, copy)
    await strike.leader()


async def _on_channel(strike: Strike, act: Callable[[Any], None]) -> None:
    def connect_and_act() -> None:
        with pika.BlockingConnection(pika.URLParameters(strike.site.rabbitmq.url)) as connection:
            act(connection.channel())

    try:
        await strike.site.in_thread(connect_and_act)
    except pika.exceptions.ChannelClosedByBroker:  # the queue is not there again yet
        raise NothingToStrike from None


async def tasks_purged(strike: Strike) -> None:
    await _on_channel(strike, lambda channel: channel.queue_purge(TASKS_QUEUE))


async def reports_purged(strike: Strike) -> None:
    await _on_channel(strike, lambda channel: channel.queue_purge(REPORTS_QUEUE))


async def requests_purged(strike: Strike) -> None:
    await _on_channel(strike, lambda channel: channel.queue_purge(JOBS_QUEUE))


async def a_queue_deleted(strike: Strike) -> None:
    queue = strike.chance.choice((TASKS_QUEUE, REPORTS_QUEUE, JOBS_QUEUE))
    await _on_channel(strike, lambda channel: channel.queue_delete(queue))


# --- the network


async def _cut(strike: Strike, name: str) -> None:
    broker, store = strike.chance.choice(((True, False), (False, True), (True, True)))
    await strike.site.cut(name, broker=broker, store=store)
    try:
        await strike.last(strike.chance.choice((SHORT_SECONDS, LONG_SECONDS)))
    finally:
        await strike.site.heal(name)


async def worker_cut_off(strike: Strike) -> None:
    await _cut(strike, strike.worker)


async def coordinator_cut_off(strike: Strike) -> None:
    await _cut(strike, strike.chance.choice(COORDINATORS))
    await strike.leader()


async def all_connections_broken(strike: Strike) -> None:
    for proxies in strike.site.proxies.values():
        for proxy in proxies:
            await proxy.break_connections()


# --- disks


async def map_output_deleted(strike: Strike) -> None:
    (await strike.find_segments()).unlink(missing_ok=True)


async def map_output_flipped(strike: Strike) -> None:
    path = await strike.find_segments()
    with contextlib.suppress(FileNotFoundError), path.open("r+b") as stream:
        size = path.stat().st_size
        place = strike.chance.randrange(size)
        stream.seek(place)
        byte = stream.read(1)
        stream.seek(place)
        stream.write(bytes([byte[0] ^ (1 << strike.chance.randrange(8))]))


async def spool_full(strike: Strike) -> None:
    if not strike.site.small_disk:
        raise NothingToStrike
    ballast = strike.site.spool(SMALL_DISK_WORKER) / "ballast"

    def fill() -> None:
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as stream:
            while stream.write(bytes(BALLAST_BYTES)) == BALLAST_BYTES:
                continue

    try:
        await strike.site.in_thread(fill)
        await strike.last((1.0, 4.0))
    finally:
        ballast.unlink(missing_ok=True)


@dataclass(frozen=True)
class Fault:
    """One row of the table."""

    weight: int
    strike: Callable[[Strike], Awaitable[None]]
    #: What it has for itself while it lasts.
    strikes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """In words."""
        return self.strike.__name__.replace("_", " ")


ALL = (
    Fault(6, worker_killed, (WORKER,)),
    Fault(2, worker_lost_with_its_disk, (WORKER,)),
    Fault(3, worker_drained, (WORKER,)),
    # Redis keeps the order to drain until the worker sees it.
    Fault(2, worker_asked_to_drain, (WORKER, REDIS)),
    Fault(3, worker_stopped_at_once, (WORKER,)),
    Fault(4, worker_frozen_shortly, (WORKER,)),
    Fault(4, worker_frozen_beyond_its_lease, (WORKER,)),
    Fault(8, child_killed, (WORKER,)),
    Fault(3, child_frozen, (WORKER,)),
    Fault(2, fork_template_killed, (WORKER,)),
    Fault(3, coordinator_killed, (MEMORY,)),
    Fault(2, both_coordinators_killed, (MEMORY,)),
    Fault(2, coordinator_stopped, (MEMORY,)),
    Fault(2, coordinator_frozen_beyond_its_lease, (MEMORY,)),
    Fault(2, coordinator_cut_off, (MEMORY,)),
    Fault(2, rabbitmq_killed, (RABBITMQ,)),
    Fault(1, rabbitmq_restarted, (RABBITMQ,)),
    Fault(1, rabbitmq_emptied, (RABBITMQ,)),
    Fault(1, rabbitmq_short_of_memory, (RABBITMQ,)),
    Fault(2, redis_killed, (REDIS,)),
    Fault(2, redis_paused, (REDIS,)),
    Fault(2, redis_emptied, (MEMORY, REDIS)),
    Fault(3, redis_back_to_an_older_state, (MEMORY, REDIS)),
    Fault(2, tasks_purged, (RABBITMQ,)),
    Fault(2, reports_purged, (RABBITMQ,)),
    Fault(1, requests_purged, (RABBITMQ,)),
    Fault(2, a_queue_deleted, (RABBITMQ,)),
    Fault(6, worker_cut_off, (WORKER,)),
    Fault(2, all_connections_broken),
    Fault(4, map_output_deleted),
    Fault(4, map_output_flipped),
    Fault(3, spool_full),
)
BY_NAME = {fault.name: fault for fault in ALL}
