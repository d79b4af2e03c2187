"""Read inputs as the engine does, in one call."""

import bz2
import gzip
import lzma
from pathlib import Path
from typing import Any

import zstandard

from mr.formats.input.bad_records import BadRecords
from mr.formats.input.files import list_inputs
from mr.formats.input.options import ReadOptions
from mr.formats.input.reader import RecordChunk, read_batches, read_records
from mr.formats.input.splits import plan_splits
from mr.protocol.jobs import FileRange, Split
from mr.resolve import default_options
from mr.settings import Settings

COMPRESSORS = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": zstandard.ZstdCompressor(write_checksum=True).compress,
}


def write(tmp_path: Path, data: bytes, name: str = "in") -> Path:
    """Write an input file."""
    path = tmp_path / name
    path.write_bytes(data)
    return path


def whole(path: Path | str, length: int = -1) -> Split:
    """Make one split of one file; length -1 reads it as a stream, or to its end."""
    size = Path(path).stat().st_size
    return Split(0, (FileRange(str(path), 0, length, size),))


def chunks(split: Split, input_format: Any = "text", **options: Any) -> list[RecordChunk]:
    """Read the chunks of a split, with small blocks unless told otherwise."""
    return list(read_records(split, read_options(input_format, **options)))


def records(split: Split, input_format: Any = "text", **options: Any) -> list[tuple[Any, Any]]:
    """Read the records of a split as pairs."""
    read = chunks(split, input_format, **options)
    return [pair for chunk in read for pair in zip(chunk.keys, chunk.values, strict=True)]


def batch_records(split: Split, input_format: Any = "text", **options: Any) -> list[tuple[Any, Any]]:
    """Read the records of a split by Arrow batches, each validated, as pairs."""
    pairs: list[tuple[Any, Any]] = []
    for _, batch, _ in read_batches(split, read_options(input_format, **options)):
        batch.validate(full=True)
        pairs += zip(batch.column("key").to_pylist(), batch.column("value").to_pylist(), strict=True)
    return pairs


def planned_records(
    patterns: list[str],
    input_format: Any = "text",
    *,
    split_bytes: int = 64,
    maps: int | None = None,
    **options: Any,
) -> list[tuple[Any, Any]]:
    """List, plan and read inputs; the records in order of splits."""
    encoding = options.get("encoding", "utf-8")
    splits = plan_splits(
        list_inputs(patterns),
        input_format=input_format,
        split_bytes=split_bytes,
        maps=maps,
        encoding=encoding,
    )
    return [pair for split in splits for pair in records(split, input_format, **options)]


def read_options(
    input_format: Any = "text",
    read_bytes: int = 8,
    chunk_rows: int = 3,
    bad: BadRecords | None = None,
    **options: Any,
) -> ReadOptions:
    """Options for a reader: small blocks, and defaults for what is not given."""
    job = default_options(Settings(), input_format=input_format, **options)
    return ReadOptions(job, read_bytes, chunk_rows, bad or BadRecords())
