"""`mr drain`: has a worker leave in good order."""

import asyncio
import time

import click

from mr.cli import formatting
from mr.cli.options import Configured, with_settings
from mr.cli.printing import say
from mr.client import WATCH_SECONDS, Client
from mr.errors import MrError
from mr.protocol.records import WorkerBeat

#: How long a worker has to show that it drains, before the command says that it has not answered.
_ANSWER_SECONDS = 10.0


@click.command()
@click.argument("worker", metavar="WORKER")
@click.option("--wait", is_flag=True, help="Return when the worker has left. Ctrl-C ends the wait only.")
@with_settings
def drain(worker: str, wait: bool, configured: Configured) -> None:
    """Have a worker leave without losing work.

    It takes no more tasks, finishes those it runs, serves its map outputs until no reduce needs them
    (at most MR_DRAIN_SECONDS), and exits with code 0. WORKER: its id, or the unique beginning of it.
    """

    async def ask() -> None:
        from mr.cli.connect import connected

        async with connected(configured.settings) as client:
            found = await client.find_worker(worker)
            say(await _drain(client, found.beat, wait=wait))

    asyncio.run(ask())


async def _drain(client: Client, beat: WorkerBeat, *, wait: bool) -> str:
    """Ask until the worker drains, or with `wait` until it has left; returns the line to print.

    The message is sent again as long as the worker does not drain: one that was reconnecting has missed it.
    Raises MrError when the worker dies meanwhile.
    """
    deadline = time.monotonic() + _ANSWER_SECONDS
    name = f"worker {beat.worker}"
    while True:
        view = await client.incarnation(beat)
        if view is None:
            return f"{name} has left"
        if not view.live:
            silence = formatting.duration(view.age_seconds)
            raise MrError(f"{name} died while it was draining: it has been silent for {silence}")
        if not view.beat.draining:
            await client.drain(beat)
            if not wait and time.monotonic() > deadline:
                return f"{name} has been asked to drain, but has not answered yet; `mr workers` shows it"
        elif not wait:
            return f"{name} is draining; tasks still running: {len(view.beat.running)}"
        await asyncio.sleep(WATCH_SECONDS)
