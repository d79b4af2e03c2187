"""`mr submit`, `watch`, `cancel`, `resume` and `register`: what changes or follows a job on the cluster."""

import asyncio
import sys
from collections.abc import Coroutine
from contextlib import aclosing
from pathlib import Path
from typing import Any, TypeVar

import click

from mr.cli.failures import describe_end
from mr.cli.options import Configured, include_option, job_options, quiet, with_settings
from mr.cli.printing import say
from mr.cli.progress import ProgressLine
from mr.client import Client, Snapshot, Unanswered
from mr.errors import BadInput, Interrupted, MrError
from mr.protocol.ids import JobId
from mr.protocol.records import JobRecord, JobState
from mr.settings import Settings

Result = TypeVar("Result")

#: How long `mr cancel` waits to see the job end, before it says that it is still ending.
_CANCEL_SECONDS = 10.0


@click.command()
@click.argument("job_file", type=click.Path(path_type=Path), metavar="JOB.py")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@job_options
@click.option("--wait", is_flag=True, help="Show progress until the job ends; exit 0 or 1 by its result.")
@click.option("--cancel-on-interrupt", is_flag=True, help="With --wait: Ctrl-C cancels the job too.")
@quiet
@with_settings
def submit(
    job_file: Path,
    inputs: tuple[str, ...],
    wait: bool,
    cancel_on_interrupt: bool,
    quiet: bool,
    configured: Configured,
    **flags: Any,
) -> int:
    """Run a job on the cluster; prints its id.

    INPUT: files, directories, patterns or URLs, as the workers see them. Where no coordinator
    runs, the request stays queued until one does: the id is printed, and the exit code is 3.
    """
    if "-" in inputs:
        raise BadInput("workers cannot read this terminal's standard input; save it to a file they see")
    return submit_job(
        job_file,
        inputs,
        flags,
        configured.settings,
        wait=wait,
        quiet=quiet,
        cancel_on_interrupt=cancel_on_interrupt,
    )


def submit_job(
    job_file: Path,
    inputs: tuple[str, ...],
    flags: dict[str, Any],
    settings: Settings,
    *,
    wait: bool,
    quiet: bool,
    cancel_on_interrupt: bool = False,
) -> int:
    """Submit a job, and follow it if asked to; returns the exit code."""
    from mr.cli.prepare import Prepared, prepare_job

    async def send(prepared: Prepared) -> int:
        from mr.cli.connect import connected

        async with connected(settings) as client:
            await client.upload(prepared.bundle, prepared.manifest)
            job = JobId(prepared.request.job_id or "")
            began = await client.store.server_time()
            queued_since = None
            try:
                reply = await client.submit(prepared.request)
            except Unanswered:
                say(job)
                if not wait:
                    raise Unanswered(_queued(job)) from None
                say(f"mr: {_queued(job)}", error=True)
                queued_since = began
            else:
                say(job)
                if reply.note:
                    say(f"mr: {reply.note}", error=True)
            if not wait:
                return 0
            return await _follow(
                client, job, quiet=quiet, cancel=cancel_on_interrupt, queued_since=queued_since
            )

    return asyncio.run(send(prepare_job(job_file, inputs, flags, settings)))


@click.command()
@click.argument("job", metavar="ID")
@click.option("--json", "json", is_flag=True, help="Print a line of JSON at each change, no progress.")
@quiet
@with_settings
def watch(job: str, json: bool, quiet: bool, configured: Configured) -> int:
    """Follow a job until it ends; exit 0 or 1 by its result."""

    async def follow() -> int:
        from mr.cli.connect import connected

        async with connected(configured.settings) as client:
            record = await client.find(job)
            if json:
                return await _follow_json(client, record.job_id)
            return await _follow(client, record.job_id, quiet=quiet, cancel=False)

    return asyncio.run(follow())


@click.command()
@click.argument("job", metavar="ID")
@click.option("--keep", is_flag=True, help="Keep what has committed, so that mr resume goes on from there.")
@with_settings
def cancel(job: str, keep: bool, configured: Configured) -> None:
    """Stop a job: its running tasks are killed, its files removed."""

    async def ask() -> None:
        from mr.cli.connect import connected

        async with connected(configured.settings) as client:
            record = await client.find(job)
            await client.cancel(record.job_id, keep=keep)
            state = await _wait_for_end(client, record.job_id)
            word = "is cancelled" if state is JobState.CANCELLED else f"is {state}"
            say(f"job {record.job_id} {word if state else 'is being cancelled'}")

    asyncio.run(ask())


@click.command()
@click.argument("job", metavar="ID")
@click.option(
    "--code",
    type=click.Path(path_type=Path),
    metavar="JOB.py",
    help="Go on with this code. Reduces run with it; maps run again unless what they make stays the same.",
)
@include_option
@click.option("--wait", is_flag=True, help="Show progress until the job ends; exit 0 or 1 by its result.")
@quiet
@with_settings
def resume(
    job: str, code: Path | None, includes: tuple[Path, ...], wait: bool, quiet: bool, configured: Configured
) -> int:
    """Let a failed or cancelled job go on from its committed tasks.

    Says what runs again. The job keeps its id, its parameters and its output directory. It can be resumed for
    resume_seconds after its end.
    """
    from mr.cli.prepare import prepare_code

    if includes and code is None:
        raise BadInput("--include packs files with the job file: give that too, as --code JOB.py")

    async def ask() -> int:
        from mr.cli.connect import connected

        async with connected(configured.settings) as client:
            record = await client.find(job)
            code_id = None
            if code is not None:
                spec = await client.store.get_spec(record.job_id)
                params = {} if spec is None else {**spec.options.params, **spec.secret_params}
                bundle, manifest = prepare_code(code, includes, configured.settings, params)
                await client.upload(bundle, manifest)
                code_id = bundle.code_id
            reply = await client.resume(record, code_id)
            say(record.job_id)
            say(f"mr: {reply.note or 'it was resumed before'}", error=True)
            return await _follow(client, record.job_id, quiet=quiet, cancel=False) if wait else 0

    return asyncio.run(ask())


@click.command()
@click.argument("job_file", type=click.Path(path_type=Path), metavar="JOB.py")
@click.option("--name", required=True, help="What requests will call it.")
@include_option
@with_settings
def register(job_file: Path, name: str, includes: tuple[Path, ...], configured: Configured) -> None:
    """Store a job's code under a name.

    Other systems then start it by a JSON message on mr.jobs; `mr schema` prints its schema.
    """
    from mr.cli.prepare import prepare_code

    bundle, manifest = prepare_code(job_file, includes, configured.settings, {})

    async def store() -> None:
        from mr.cli.connect import viewing

        async with viewing(configured.settings) as viewer:
            await viewer.upload(bundle, manifest)
            await viewer.register(name, manifest)

    asyncio.run(store())
    say(f"{name} = {bundle.code_id}")


async def _follow(
    client: Client, job: JobId, *, quiet: bool, cancel: bool, queued_since: float | None = None
) -> int:
    """Show a job until it ends; returns the exit code. A signal raises Interrupted.

    `queued_since`: as in `Client.watch`.
    """
    line = ProgressLine(sys.stderr, quiet=quiet)

    async def follow() -> Snapshot:
        async with aclosing(client.watch(job, queued_since=queued_since)) as snapshots:
            async for snapshot in snapshots:
                line.show(snapshot)
        return snapshot

    try:
        last = await _unless_interrupted(follow())
    except Interrupted:
        line.clear()
        if not cancel:
            raise Interrupted(
                f"interrupted; the job goes on: `mr watch {job}` follows it, `mr cancel {job}` stops it"
            ) from None
        await client.cancel(job)
        await _wait_for_end(client, job)
        raise Interrupted(f"interrupted; job {job} is cancelled") from None
    finally:
        line.clear()
    record = last.record
    if record.state is not JobState.COMPLETED:
        say(describe_end(record, resumable=last.resumable), error=True)
        return 1
    if not quiet:
        say(await _summary(client, record), error=True)
    return 0


async def _follow_json(client: Client, job: JobId) -> int:
    """Print each snapshot's record as one line of JSON."""
    import msgspec

    state = JobState.SUBMITTED
    async with aclosing(client.watch(job)) as snapshots:
        async for snapshot in snapshots:
            state = snapshot.record.state
            say(msgspec.json.encode(snapshot.fields).decode())
    return 0 if state is JobState.COMPLETED else 1


async def _summary(client: Client, record: JobRecord) -> str:
    """The line for a completed job; without row counts where its output cannot be seen from here."""
    from mr.cli.run import summary

    seconds = record.history[-1].at - record.history[0].at
    try:
        manifest = await client.results(record)
    except MrError:
        manifest = None
    return summary(record, manifest, seconds)


async def _wait_for_end(client: Client, job: JobId) -> JobState | None:
    """The state in which the job ended; None when it has not within a while."""
    try:
        async with (
            asyncio.timeout(_CANCEL_SECONDS),
            aclosing(client.watch(job, interval_seconds=0.2)) as snapshots,
        ):
            async for snapshot in snapshots:
                state = snapshot.record.state
    except TimeoutError:
        return None
    return state


async def _unless_interrupted(work: Coroutine[Any, Any, Result]) -> Result:
    """The outcome of `work`, or Interrupted when a stop signal comes first."""
    from mr.cli.signals import on_signals

    task = asyncio.ensure_future(work)

    def stop() -> None:
        task.cancel()

    with on_signals(stop, stop):
        try:
            return await task
        except asyncio.CancelledError:
            raise Interrupted from None


def _queued(job: JobId) -> str:
    return (
        f"job {job} is queued, but no coordinator has answered yet; it starts when one runs "
        "(`mr coordinator`), and `mr status` finds it from then on"
    )
