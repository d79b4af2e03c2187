"""`mr run`: the whole job here, on all cores, without any server."""

import asyncio
import logging
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import click
import msgspec

from mr.cli.cpu_quota import usable_cores
from mr.cli.failures import describe_end
from mr.cli.formatting import duration, number, size
from mr.cli.logging import configure_logging, log_level
from mr.cli.options import Configured, job_options, quiet, slots_option, spool_option, with_settings
from mr.cli.printing import say
from mr.cli.progress import ProgressLine
from mr.error_text import error_text, printable_line
from mr.errors import BadSetting, Interrupted, MrError
from mr.formats.storage import join
from mr.protocol.ids import JobId
from mr.protocol.jobs import JobRequest
from mr.protocol.part_names import BAD_RECORDS
from mr.protocol.records import JobRecord, JobState, Manifest

log = logging.getLogger("mr")

_STANDARD_INPUT = "-"
#: What it is called in the run's own directory.
_SPOOLED = "standard-input"
#: Of the directories that runs make for their intermediate files.
_SPOOL_PREFIX = "mr-run-"


@click.command()
@click.argument("job_file", type=click.Path(path_type=Path), metavar="JOB.py")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@job_options
@slots_option("-j")
@spool_option
@quiet
@log_level("error")
@with_settings
def run(
    job_file: Path,
    inputs: tuple[str, ...],
    slots: int | None,
    spool: Path | None,
    quiet: bool,
    log_level: str,
    configured: Configured,
    **flags: Any,
) -> int:
    """Run a job here, embedded: no RabbitMQ, no Redis.

    INPUT: files, directories, patterns, URLs, or - for standard input. What the job prints is shown
    on stderr, each line behind its task, once the task has ended.
    """
    return run_here(
        job_file, inputs, flags, configured, slots=slots, spool=spool, quiet=quiet, log_level=log_level
    )


def run_here(
    job_file: Path,
    inputs: tuple[str, ...],
    flags: dict[str, Any],
    configured: Configured,
    *,
    slots: int | None,
    spool: Path | None,
    quiet: bool,
    log_level: str,
) -> int:
    """Run a job embedded; returns the exit code."""
    started = time.monotonic()
    configure_logging(log_level)
    with _spool_directory(spool) as directory:
        return _run_in(directory, job_file, inputs, slots, quiet, configured, flags, started)


def _run_in(
    directory: Path,
    job_file: Path,
    inputs: tuple[str, ...],
    slots: int | None,
    quiet: bool,
    configured: Configured,
    flags: dict[str, Any],
    started: float,
) -> int:
    from mr.cli.prepare import prepare_job
    from mr.formats.output.directory import read_manifest
    from mr.local import LocalJob, run_embedded

    inputs = tuple(_spooled(text, directory) for text in inputs)
    settings = configured.settings
    if settings.input_roots:  # what comes by standard input lies in this run's own directory meanwhile
        settings = msgspec.structs.replace(settings, input_roots=(*settings.input_roots, str(directory)))
    prepared = prepare_job(job_file, inputs, flags, settings)
    line = ProgressLine(sys.stderr, quiet=quiet)

    def show_printed(attempt: str, text: str) -> None:
        line.clear()
        say(printed_lines(attempt, text), error=True)

    async def embedded() -> JobRecord:
        from mr.cli.signals import on_signals

        interrupt = asyncio.Event()
        with on_signals(interrupt.set, lambda: _leave_at_once(directory, prepared.request)):
            return await run_embedded(
                settings,
                LocalJob(prepared.bundle, prepared.manifest, prepared.request),
                slots=slots or usable_cores(),
                spool_dir=directory / "spool",
                on_snapshot=line.show,
                on_printed=show_printed,
                interrupt=interrupt,
            )

    try:
        record = asyncio.run(embedded())
    finally:
        line.clear()
    if record.state is not JobState.COMPLETED:
        # what came by standard input is gone when the command is run again, so it is called by its flag
        say(describe_end(record).replace(str(directory / _SPOOLED), _STANDARD_INPUT), error=True)
        return MrError.exit_code
    if not quiet:
        manifest = read_manifest(prepared.request.output)
        say(summary(record, manifest, time.monotonic() - started), error=True)
    return 0


def printed_lines(attempt: str, text: str) -> str:
    """What an attempt printed, each line behind its task; of a second attempt, behind `task/2`."""
    head = attempt.removesuffix("/1")
    return "\n".join(f"{head} | {line}" for line in text.rstrip("\n").split("\n"))


def summary(record: JobRecord, manifest: Manifest | None, seconds: float) -> str:
    """What a completed job left, in one line, and its counters below."""
    counted = ""
    if manifest is not None:
        parts = "1 part" if len(manifest.parts) == 1 else f"{number(len(manifest.parts))} parts"
        counted = f": {number(manifest.rows)} rows, {size(manifest.bytes)} in {parts}"
    lines = [f"done in {duration(seconds)}{counted} in {printable_line(record.output)}"]
    if record.stats.bad_records:
        lines.append(
            f"  {skipped(record)}; `mr retry-bad {printable_line(record.output)} JOB.py -o NEW` runs them"
        )
    counters = sorted(record.stats.counters.items())
    lines += [f"  {printable_line(name)} = {number(value)}" for name, value in counters]
    return "\n".join(lines)


def skipped(record: JobRecord) -> str:
    """How many bad records a completed job skipped, and where they are listed."""
    count = record.stats.bad_records
    records = "1 bad record was" if count == 1 else f"{number(count)} bad records were"
    return f"{records} skipped and listed in {printable_line(join(record.output, BAD_RECORDS))}"


@contextmanager
def _spool_directory(parent: Path | None) -> Iterator[Path]:
    """A private directory for this run, removed however it ends; by the next run if this one is killed."""
    from mr.workers.daemon.directory_lock import clear_dead, mark_alive

    try:
        parent = parent or Path(tempfile.gettempdir())
        parent.mkdir(parents=True, exist_ok=True)
        for dead in clear_dead(sorted(parent.glob(f"{_SPOOL_PREFIX}*"))):
            log.info("cleared %s, left by a run that was killed", dead)
        directory = Path(tempfile.mkdtemp(prefix=_SPOOL_PREFIX, dir=parent))
        lock = mark_alive(directory)
    except OSError as error:
        place = parent or "the temporary directory"
        raise BadSetting(f"no spool can be made in {place}: {error_text(error)}") from error
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        lock.close()


def _spooled(text: str, directory: Path) -> str:
    """Standard input as a file of the spool, so that it can be split and read again."""
    if text != _STANDARD_INPUT:
        return text
    target = directory / _SPOOLED
    if not target.exists():
        with target.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file, 1024 * 1024)
    return str(target)


def _leave_at_once(directory: Path, request: JobRequest) -> None:
    """The second interrupt: kill our children, remove our files, go."""
    import psutil

    from mr.formats.output.directory import abandon_output

    for child in psutil.Process().children(recursive=True):
        try:
            child.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue
    shutil.rmtree(directory, ignore_errors=True)
    with suppress(OSError, MrError):
        abandon_output(request.output, JobId(request.job_id or ""))
    print("mr: interrupted", file=sys.stderr, flush=True)
    os._exit(Interrupted.exit_code)
