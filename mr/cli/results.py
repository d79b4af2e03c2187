"""`mr results` and `mr logs`: what a job wrote, and what its tasks printed."""

import io
import itertools
import sys
from collections.abc import Iterator

import click

from mr.cli import formatting
from mr.cli.inspect_jobs import look
from mr.cli.options import Configured, as_json, with_settings
from mr.cli.printing import say, say_json
from mr.client import Viewer
from mr.protocol.codec import as_json as render_json
from mr.protocol.formats import OUTPUT_FORMATS
from mr.protocol.jobs import FileRange, Split
from mr.protocol.records import Manifest
from mr.resolve import default_options
from mr.settings import Settings

_READ_BYTES = 1024 * 1024


@click.command()
@click.argument("job", metavar="ID")
@click.option("--cat", is_flag=True, help="Print the content of all parts, in order.")
@click.option("--head", type=click.IntRange(1), metavar="N", help="Print the first N lines or rows.")
@as_json
@with_settings
def results(job: str, cat: bool, head: int | None, json: bool, configured: Configured) -> None:
    """List or print what a completed job wrote."""
    if cat and head is not None:
        raise click.UsageError("--cat and --head exclude each other")

    async def at(viewer: Viewer) -> Manifest:
        return await viewer.results(await viewer.find(job))

    manifest = look(configured, at)
    if cat or head is not None:
        _print_content(manifest, head)
    elif json:
        say(render_json(manifest))
    else:
        rows = [
            [p.path, formatting.number(p.rows), formatting.size(p.bytes), p.checksum] for p in manifest.parts
        ]
        say(formatting.table(("PART", "ROWS", "BYTES", "XXH3"), rows, right=("ROWS", "BYTES")))
        say(f"{formatting.number(manifest.rows)} rows, {formatting.size(manifest.bytes)}")


@click.command()
@click.argument("job", metavar="ID")
@click.argument("task", required=False, metavar="[TASK]")
@as_json
@with_settings
def logs(job: str, task: str | None, json: bool, configured: Configured) -> None:
    """Print what a job's tasks printed, or one task's."""

    async def at(viewer: Viewer) -> dict[str, str]:
        return dict(await viewer.logs((await viewer.find(job)).job_id, task))

    texts = look(configured, at)
    if json:
        say_json(texts)
        return
    for name, text in texts.items():
        task_id, _, attempt = name.rpartition("/")
        say(f"== {task_id}, attempt {attempt}")
        say(text.rstrip("\n"))


def _print_content(manifest: Manifest, rows: int | None) -> None:
    lines = (line for part in manifest.parts for line in _part_lines(part.path, part.bytes))
    for line in itertools.islice(lines, rows):
        sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()


def _part_lines(path: str, size: int) -> Iterator[bytes]:
    """Yield the lines of a text part as they are, the pairs of any other as text output shows them."""
    tables = {name: found.suffix for name, found in OUTPUT_FORMATS.items() if not found.lines}
    input_format = next((name for name, suffix in tables.items() if path.endswith(suffix)), None)
    if input_format is None:
        from mr.formats.input.compression import readable
        from mr.formats.storage import open_read

        with readable(path), io.BufferedReader(open_read(path), _READ_BYTES) as file:  # type: ignore[type-var]
            yield from file
        return
    from mr.formats.input.options import ReadOptions
    from mr.formats.input.reader import read_records
    from mr.formats.output.lines import encode_text, texts

    whole = Split(0, (FileRange(path, 0, -1, size),))
    job = default_options(Settings(), input_format=input_format)
    for chunk in read_records(whole, ReadOptions(job, _READ_BYTES, chunk_rows=4096)):
        keys, values = (texts([pair[name] for pair in chunk.values]) for name in ("key", "value"))
        for key, value in zip(keys, values, strict=True):
            yield encode_text(f"{key}\t{value}\n")
