"""Splits to records: what a map task reads, as chunks of Python objects or as Arrow batches."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import compress
from typing import Any

from mr.formats.input.bad_records import BadRecords
from mr.formats.input.options import ReadOptions, Rows
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
    #: Number of its range in the split.
    number: int = 0


def read_records(split: Split, options: ReadOptions) -> Iterator[RecordChunk]:
    """Read a split's records in order, at most `options.chunk_rows` at a time. Raises BadInput."""
    read = input_module(options.job.input_format).read
    done = 0
    for number, piece in enumerate(split.ranges):
        options.bad.begin(piece)
        rows = read(piece, options)
        for keys, values, consumed in _selected(rows, options.bad) if options.bad.selective else rows:
            yield RecordChunk(piece.path, keys, values, done + consumed, number)
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
        options.bad.begin(piece)
        batches = read(piece, options)
        for batch, consumed in _selected_batches(batches, options.bad) if options.bad.selective else batches:
            yield piece.path, batch, done + consumed
            del batch
        done += piece.covered_bytes


def _selected(rows: Iterator[Rows], bad: BadRecords) -> Iterator[Rows]:
    """Leave out the records that are not to be mapped."""
    for keys, values, consumed in rows:
        taken = [bad.takes(key, value) for key, value in zip(keys, values, strict=True)]
        yield list(compress(keys, taken)), list(compress(values, taken)), consumed
        if bad.done:
            return


def _selected_batches(batches: Iterator[tuple[Any, int]], bad: BadRecords) -> Iterator[tuple[Any, int]]:
    for batch, consumed in batches:
        keys = batch.column("key").to_pylist()
        yield (
            batch.filter([bad.takes(key, batch.column("value")[row]) for row, key in enumerate(keys)]),
            consumed,
        )
        if bad.done:
            return
