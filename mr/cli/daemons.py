"""`mr coordinator` and `mr worker`: the two daemons."""

import asyncio
import logging
import os
import secrets
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import click

from mr.async_tools import cancel_and_wait
from mr.cli.cpu_quota import usable_cores
from mr.cli.logging import configure_logging, log_level
from mr.cli.options import Configured, slots_option, with_settings
from mr.error_text import error_text
from mr.errors import BadSetting
from mr.protocol.ids import WorkerId, is_id

log = logging.getLogger("mr")

#: What runs a daemon: its first event is set by the first stop signal, its second by the second.
Serve = Callable[[asyncio.Event, asyncio.Event], Awaitable[None]]


@click.command()
@log_level("info")
@with_settings
def coordinator(log_level: str, configured: Configured) -> None:
    """Coordinate the cluster's jobs. Several may run: one leads, the others stand by.

    A signal (TERM, INT) steps down in good order, a second one leaves at once. Jobs go on when a
    coordinator runs again.
    """
    from mr.cli.secrecy import hide_secrets

    configure_logging(log_level)
    settings = configured.settings
    hide_secrets(settings)

    async def serve(stop: asyncio.Event, kill: asyncio.Event) -> None:
        from mr.cli.connect import connected
        from mr.coordinator.service import run_coordinator

        async with connected(settings) as client:
            log.info("coordinator started")
            service = asyncio.ensure_future(run_coordinator(settings, client.broker, client.store, stop=stop))
            await _until(service, kill)
            log.info("coordinator stopped")

    asyncio.run(_with_signals(serve))


@click.command()
@slots_option()
@click.option(
    "--spool",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Directory for code and map outputs, on a disk that outlives the daemon: a worker restarted with "
    "the same one goes on serving the map outputs left there. [default: ~/.cache/mrmq/spool]",
)
@click.option(
    "--listen",
    default="0.0.0.0:0",
    show_default=True,
    metavar="HOST:PORT",
    help="Where other workers fetch map outputs from; port 0 = any free one.",
)
@click.option(
    "--advertise", metavar="HOST", help="The name, or NAME:PORT, under which others reach this worker."
)
@click.option(
    "--id", "--name", "worker_id", metavar="NAME", help="Name of this worker, the same over its restarts."
)
@log_level("info")
@with_settings
def worker(
    slots: int | None,
    spool: Path | None,
    listen: str,
    advertise: str | None,
    worker_id: str | None,
    log_level: str,
    configured: Configured,
) -> None:
    """Run tasks of the cluster's jobs.

    A signal (TERM, INT) drains: no more tasks are taken, running ones are finished, and map outputs are
    served until no reduce needs them (at most MR_DRAIN_SECONDS). A second one stops at once: map outputs
    that are still needed stay in the spool, and the next worker started there serves them.
    """
    from mr.cli.secrecy import hide_secrets
    from mr.workers.shuffle.transfer.server import parse_address

    configure_logging(log_level)
    settings = configured.settings
    parse_address(listen)  # refuse a wrong address before connecting
    identity = worker_id or default_worker_id()
    if not is_id(identity):
        raise BadSetting(f"--id {identity!r}: letters, digits, '.', '_' and '-', at most 64")
    spool_dir = _writable(spool or default_spool())
    hide_secrets(settings)

    async def serve(stop: asyncio.Event, kill: asyncio.Event) -> None:
        from mr.cli.connect import connected
        from mr.workers.daemon.service import run_worker

        async with connected(settings) as client:
            await run_worker(
                settings,
                client.broker,
                client.store,
                worker_id=WorkerId(identity),
                slots=slots or usable_cores(),
                spool_dir=spool_dir,
                listen=listen,
                advertise=advertise,
                stop=stop,
                kill=kill,
            )

    asyncio.run(_with_signals(serve))


def default_worker_id() -> str:
    """A unique name: the host's, and some random letters."""
    host = "".join(c if c.isalnum() or c in "._-" else "-" for c in socket.gethostname()).lstrip("._-")
    return f"{host[:50] or 'worker'}-{secrets.token_hex(3)}"


def default_spool() -> Path:
    """The spool of a worker that was given none."""
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path("~/.cache").expanduser())
    return Path(cache, "mrmq", "spool")


def _writable(spool: Path) -> Path:
    """The spool as an absolute directory that exists. Raises BadSetting."""
    try:
        spool.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadSetting(f"spool {spool} cannot be made: {error_text(error)}") from error
    if not os.access(spool, os.W_OK | os.X_OK):
        raise BadSetting(f"spool {spool} cannot be written; choose another with --spool")
    return spool.resolve()


async def _with_signals(serve: Serve) -> None:
    from mr.cli.signals import on_signals

    stop, kill = asyncio.Event(), asyncio.Event()

    def first() -> None:
        log.info("stopping; a second signal stops at once")
        stop.set()

    with on_signals(first, kill.set):
        await serve(stop, kill)


async def _until(service: "asyncio.Future[None]", kill: asyncio.Event) -> None:
    """Wait for the service to end; `kill` ends it at once."""
    killed = asyncio.ensure_future(kill.wait())
    try:
        await asyncio.wait((service, killed), return_when=asyncio.FIRST_COMPLETED)
        if service.done():
            service.result()
    finally:
        await cancel_and_wait((service, killed))
