"""`mr doctor`: checks what a cluster needs, and says what to do about what is missing."""

import asyncio
import importlib.metadata
import platform
import secrets
import shutil
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal

import click
import msgspec

from mr.cli import formatting
from mr.cli.daemons import default_spool
from mr.cli.options import Configured, as_json, with_settings
from mr.cli.printing import say, say_json
from mr.client import Client
from mr.error_text import printable_line
from mr.errors import ClusterUnreachable, MrError
from mr.ports.broker import Broker, Delivery, OutgoingMessage
from mr.ports.store import StateStore
from mr.ports.workers import WorkerStore
from mr.protocol import queues
from mr.settings import Settings

#: Clocks that differ by more than this make the times in records misleading; leases do not depend on them.
_SKEW_SECONDS = 2.0
_PACKAGES = ("mrmq", "pyarrow", "pika", "redis", "aiohttp", "msgspec")
_PYTHON = (3, 11)


class Finding(msgspec.Struct, frozen=True):
    """One line of the output."""

    level: Literal["ok", "warn", "FAIL"]
    what: str
    #: What was found and, unless it is ok, what to do about it.
    message: str


@click.command()
@click.option(
    "--spool",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The worker's spool to check. [default: ~/.cache/mrmq/spool]",
)
@as_json
@with_settings
def doctor(spool: Path | None, json: bool, configured: Configured) -> int:
    """Check the cluster and say what to do.

    Versions, disk, broker, permissions, coordinator, dead letters, store, clocks, workers.

    Exit code 0 when the cluster can work, 3 when something FAILs.
    """

    async def examine() -> list[Finding]:
        findings = []
        # What does not answer at once is to be told, not waited for.
        patience_seconds = min(configured.settings.reconnect_seconds, configured.settings.connect_seconds)
        settings = msgspec.structs.replace(configured.settings, reconnect_seconds=patience_seconds)
        async for finding in all_findings(settings, spool or default_spool()):
            findings.append(finding)
            if not json:
                say(f"{finding.level:<4}  {finding.what:<12}  {printable_line(finding.message)}")
        return findings

    findings = asyncio.run(examine())
    if json:
        say_json(findings)
    return ClusterUnreachable.exit_code if any(finding.level == "FAIL" for finding in findings) else 0


async def all_findings(settings: Settings, spool: Path) -> AsyncIterator[Finding]:
    """Everything that can be found out, nearest first."""
    yield versions()
    yield disk(spool, settings.spool_reserve_bytes)
    async for finding in _broker_findings(settings):
        yield finding
    async for finding in _store_findings(settings):
        yield finding
    async for finding in _shared_findings(settings):
        yield finding


def versions() -> Finding:
    """Python and the packages that speak to servers."""
    found = ", ".join(f"{package} {importlib.metadata.version(package)}" for package in _PACKAGES)
    python = platform.python_version()
    if sys.version_info < _PYTHON:
        return Finding("FAIL", "versions", f"Python {python} is too old; install 3.11 or newer")
    return Finding("ok", "versions", f"Python {python}, {found}")


def disk(spool: Path, reserve_bytes: int) -> Finding:
    """Free space where a worker of this machine would keep its files."""
    place = spool.absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < reserve_bytes:
        return Finding(
            "warn",
            "disk",
            f"{spool}: {formatting.size(free)} free, below spool_reserve_bytes "
            f"({formatting.size(reserve_bytes)}): a worker takes no tasks there; "
            "free some, or choose another --spool",
        )
    return Finding("ok", "disk", f"{spool}: {formatting.size(free)} free")


async def _broker_findings(settings: Settings) -> AsyncIterator[Finding]:
    from mr.adapters.open import open_broker

    broker = None
    try:
        broker = open_broker(settings)
        await broker.connect()
        yield Finding("ok", "broker", "connected; queues and exchanges are declared")
        yield await _round_trip(broker, settings.connect_seconds)
        yield await _coordinator(broker)
        yield await _dead_letters(broker)
    except MrError as error:
        yield Finding("FAIL", "broker", str(error))
    finally:
        if broker is not None:
            await broker.close()


async def _round_trip(broker: Broker, timeout_seconds: float) -> Finding:
    """Whether this user may bind, publish and consume."""
    arrived = asyncio.Event()
    key = f"doctor.{secrets.token_hex(8)}"

    async def on_delivery(delivery: Delivery) -> None:
        arrived.set()
        await delivery.ack()

    consumer = await broker.subscribe(queues.EVENTS_EXCHANGE, key, on_delivery)
    try:
        began = time.monotonic()
        await broker.publish(OutgoingMessage(exchange=queues.EVENTS_EXCHANGE, routing_key=key, body=b""))
        async with asyncio.timeout(timeout_seconds):
            await arrived.wait()
    except TimeoutError:
        message = f"a message on {queues.EVENTS_EXCHANGE} did not come back; check the user's permissions"
        return Finding("FAIL", "permissions", message)
    finally:
        await consumer.cancel()
    milliseconds = 1000 * (time.monotonic() - began)
    return Finding("ok", "permissions", f"a message went out and came back in {milliseconds:.0f} ms")


async def _coordinator(broker: Broker) -> Finding:
    depth = await broker.depth(queues.JOBS_QUEUE)
    if depth.consumers:
        standby = f", {depth.consumers - 1} standing by" if depth.consumers > 1 else ""
        return Finding("ok", "coordinator", f"running{standby}")
    waiting = f"; {depth.ready} request(s) wait for it" if depth.ready else ""
    return Finding("warn", "coordinator", f"none runs{waiting}: start `mr coordinator`")


async def _dead_letters(broker: Broker) -> Finding:
    depth = await broker.depth(queues.DEAD_QUEUE)
    if depth.ready == 0:
        return Finding("ok", "dead letters", "none")
    message = (
        f"{depth.ready} message(s) in {queues.DEAD_QUEUE}: read their headers for the reason, then purge it"
    )
    return Finding("warn", "dead letters", message)


async def _store_findings(settings: Settings) -> AsyncIterator[Finding]:
    from mr.adapters.open import open_store

    store = None
    try:
        store = open_store(settings)
        await store.connect()
        await store.identity()  # a write: a replica, or a server that is out of memory, takes only reads
        yield Finding("ok", "store", "connected; takes writes")
        for warning in await store.warnings():
            yield Finding("warn", "store", warning)
        yield await _clocks(store)
        yield await _workers(store)
    except MrError as error:
        yield Finding("FAIL", "store", str(error))
    finally:
        if store is not None:
            await store.close()


async def _shared_findings(settings: Settings) -> AsyncIterator[Finding]:
    """Whether the daemons on this broker keep their state in the store that was examined."""
    from mr.cli.connect import connected

    try:
        async with connected(settings) as client:
            if finding := await _coordinators_store(client):
                yield finding
            if finding := await _workers_store(client):
                yield finding
    except MrError:
        return  # already reported by the findings before


async def _coordinators_store(client: Client) -> Finding | None:
    depth = await client.broker.depth(queues.JOBS_QUEUE)
    if not depth.consumers:
        return None
    theirs = await client.ask_store(client.settings.connect_seconds)
    if theirs is None:
        return Finding("warn", "same store", "the coordinator did not say which Redis database it uses")
    if theirs != await client.store.identity():
        message = (
            "the coordinator on this broker uses another Redis database than this command: give all of them "
            "the same MR_REDIS_URL (host, port and database number)"
        )
        return Finding("FAIL", "same store", message)
    return Finding("ok", "same store", "the coordinator uses the same Redis database")


async def _workers_store(client: Client) -> Finding | None:
    consumers = (await client.broker.depth(queues.TASKS_QUEUE)).consumers
    if not consumers or any(view.live for view in await client.workers()):
        return None
    message = (
        f"{consumers} worker(s) take tasks from this broker, but none is known in this Redis database: give "
        "all of them the same MR_REDIS_URL"
    )
    return Finding("FAIL", "same store", message)


async def _clocks(store: StateStore) -> Finding:
    """This machine's clock against the store's, by which leases run."""
    before = time.time()
    theirs = await store.server_time()
    ours = (before + time.time()) / 2
    skew = ours - theirs
    if abs(skew) > _SKEW_SECONDS:
        side = "ahead of" if skew > 0 else "behind"
        message = f"this machine is {abs(skew):.1f} s {side} Redis; set up NTP on both"
        return Finding("warn", "clocks", message)
    return Finding("ok", "clocks", f"within {max(abs(skew), 0.001):.3f} s of Redis")


async def _workers(store: WorkerStore) -> Finding:
    views = await store.workers()
    live = [view for view in views if view.live]
    if not live:
        return Finding("warn", "workers", "none is live: start `mr worker` on one machine or more")
    slots = sum(view.beat.slots for view in live)
    limited = [view.beat for view in live if view.beat.limited_by]
    versions = {view.beat.version for view in live}
    if len(versions) > 1:
        message = f"{len(live)} live of different versions ({', '.join(sorted(versions))}): upgrade them all"
        return Finding("warn", "workers", message)
    if limited:
        why = "; ".join(f"{beat.worker}: {beat.limited_by}" for beat in limited)
        return Finding("warn", "workers", f"{len(live)} live, {slots} slots, some held back: {why}")
    return Finding("ok", "workers", f"{len(live)} live, {slots} slots")
