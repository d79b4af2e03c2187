"""Splits to records: what a map task reads, as chunks of Python objects or as Arrow batches."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mr.formats.input.options import ReadOptions
from mr.formats.registry import input_module
from mr.protocol.jobs import Split


@dataclass(slots=True)
class RecordChunk:
    """Some records of one file, in file order."""

    path: str
    keys: list[Any]
    values: list[Any]
    #: Bytes of the split's `input_bytes` consumed after this chunk, for progress.
    consumed_bytes: int


def read_records(split: Split, options: ReadOptions) -> Iterator[RecordChunk]:
    """Read a split's records in order, at most `options.chunk_rows` at a time. Raises BadInput."""
    read = input_module(options.job.input_format).read
    done = 0
    for piece in split.ranges:
        for keys, values, consumed in read(piece, options):
            yield RecordChunk(piece.path, keys, values, done + consumed)
            del keys, values  # before more is read: a record may be very large
        done += piece.covered_bytes


def read_batches(split: Split, options: ReadOptions) -> Iterator[tuple[str, Any, int]]:
    """Read a split's records as (path, pyarrow.RecordBatch with columns key and value, consumed bytes).

    A batch has at most `options.chunk_rows` rows in formats that read Python objects first; text yields one
    batch for about `options.read_bytes`. Raises BadInput.
    """
    read = input_module(options.job.input_format).read_batches
    done = 0
    for piece in split.ranges:
        for batch, consumed in read(piece, options):
            yield piece.path, batch, done + consumed
            del batch
        done += piece.covered_bytes
