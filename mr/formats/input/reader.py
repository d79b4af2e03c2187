"""Splits to records: what a map task reads, as chunks of Python objects or as Arrow batches."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from mr.formats.input.options import ReadOptions, Records
from mr.protocol.jobs import EncodingErrors, FileRange, InputFormat, Split

#: Module of each format; it has `read` and `read_batches`.
_MODULES: dict[InputFormat, str] = {
    "text": "mr.formats.text",
    "jsonl": "mr.formats.input.jsonl",
    "csv": "mr.formats.input.csv",
    "parquet": "mr.formats.input.parquet",
    "binary": "mr.formats.input.binary",
}


@dataclass(slots=True)
class RecordChunk:
    """Some records of one file, in file order."""

    path: str
    keys: list[Any]
    values: list[Any]
    #: Bytes of the split's `input_bytes` consumed after this chunk, for progress.
    consumed_bytes: int


def read_records(
    split: Split,
    *,
    input_format: InputFormat,
    encoding: str,
    encoding_errors: EncodingErrors,
    read_bytes: int,
    chunk_rows: int,
) -> Iterator[RecordChunk]:
    """Read a split's records in order, at most `chunk_rows` at a time. Raises BadInput."""
    options = ReadOptions(encoding, encoding_errors, read_bytes, chunk_rows)
    read: Callable[[FileRange, ReadOptions], Iterator[Records]] = import_module(_MODULES[input_format]).read
    done = 0
    for piece in split.ranges:
        for keys, values, consumed in read(piece, options):
            yield RecordChunk(piece.path, keys, values, done + consumed)
            del keys, values  # before more is read: a record may be very large
        done += piece.covered_bytes


def read_batches(
    split: Split,
    *,
    input_format: InputFormat,
    encoding: str,
    encoding_errors: EncodingErrors,
    read_bytes: int,
    chunk_rows: int,
) -> Iterator[tuple[str, Any, int]]:
    """Read a split's records as (path, pyarrow.RecordBatch with columns key and value, consumed bytes).

    `chunk_rows` bounds the batches of formats whose records are made as Python objects first; text
    gives one batch for about `read_bytes`. Raises BadInput.
    """
    options = ReadOptions(encoding, encoding_errors, read_bytes, chunk_rows)
    read: Callable[[FileRange, ReadOptions], Iterator[tuple[Any, int]]]
    read = import_module(_MODULES[input_format]).read_batches
    done = 0
    for piece in split.ranges:
        for batch, consumed in read(piece, options):
            yield piece.path, batch, done + consumed
            del batch
        done += piece.covered_bytes
