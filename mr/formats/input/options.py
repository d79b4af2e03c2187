"""What every reader is given, and what it yields."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from mr.errors import BadInput
from mr.formats.input.bad_records import BadRecords
from mr.protocol.options import ResolvedOptions

#: Some records: keys, values, and the bytes of the stored range consumed after them.
Rows = tuple[list[Any], list[Any], int]


@dataclass(slots=True, frozen=True)
class ReadOptions:
    """How input is read."""

    job: ResolvedOptions
    #: Bytes read and decoded at a time.
    read_bytes: int
    #: Most records yielded at a time.
    chunk_rows: int
    #: Decides of records that are malformed, or known to be bad.
    bad: BadRecords = field(default_factory=BadRecords)


def sliced(
    keys: list[Any], values: list[Any], before: int, after: int, options: ReadOptions
) -> Iterator[Rows]:
    """Yield records in slices of at most `chunk_rows`; consumed bytes grow from `before` to `after`."""
    rows = len(keys)
    for start in range(0, rows, options.chunk_rows):
        stop = min(start + options.chunk_rows, rows)
        whole = rows <= options.chunk_rows
        consumed = before + (after - before) * stop // rows
        yield keys if whole else keys[start:stop], values if whole else values[start:stop], consumed


def batches(rows: Iterator[Rows], path: str) -> Iterator[tuple[Any, int]]:
    """Make Arrow batches (columns key, value) of records of Python objects. Raises BadInput."""
    import pyarrow as pa

    for keys, values, consumed in rows:
        if not keys:
            continue
        try:
            batch = pa.record_batch([pa.array(keys), pa.array(values)], ["key", "value"])
        except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
            raise BadInput(
                f"{path}:{keys[0]}: no Arrow column holds these records ({error}); use map_fn, not map_batch"
            ) from error
        del keys, values  # before the batch is used: a record may be very large
        yield batch, consumed
        del batch
