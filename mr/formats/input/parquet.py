"""Format `parquet`: one record a row; key = index of the row in its file, value = dict of its columns.

A row group belongs to the range that holds its middle, so it is read by one task. The number of rows
read at a time follows from the bytes of the rows before; it starts small, since each row may be large.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mr.errors import BadInput
from mr.formats import storage
from mr.formats.input.compression import check_unchanged, readable
from mr.formats.input.options import ReadOptions, Rows
from mr.protocol.jobs import FileRange

#: Most rows of one Arrow batch, as a multiple of `chunk_rows`: a row of a batch costs less than an object.
_BATCH_CHUNKS = 16
#: Rows of the first batch of a range, and by what factor a batch may be larger than the one before.
_FIRST_ROWS = 16
_GROWTH = 4
#: Bytes read at a time to find a page of a column in a local file.
_LOCAL_BUFFER_BYTES = 64 * 1024


def read(piece: FileRange, options: ReadOptions) -> Iterator[Rows]:
    """Yield rows as (row indexes, dicts, consumed bytes). Raises BadInput."""
    for first, batch, consumed in _batches(piece, options.chunk_rows, options.read_bytes):
        try:
            rows = batch.to_pylist()
        except (pa.ArrowException, ValueError) as error:
            raise BadInput(f"{piece.path}: rows cannot be made Python objects: {error}") from error
        del batch
        yield list(range(first, first + len(rows))), rows, consumed
        del rows


def read_batches(piece: FileRange, options: ReadOptions) -> Iterator[tuple[Any, int]]:
    """Yield rows as Arrow batches: key int64, value a struct of the file's columns. Raises BadInput."""
    most_rows = options.chunk_rows * _BATCH_CHUNKS
    for first, batch, consumed in _batches(piece, most_rows, options.read_bytes):
        with _valid(piece.path):  # else text that is not UTF-8 would first fail in the user's function
            batch.validate(full=True)
        keys = pa.array(range(first, first + batch.num_rows), pa.int64())
        yield pa.record_batch([keys, batch.to_struct_array()], ["key", "value"]), consumed
        del batch


def _batches(piece: FileRange, most_rows: int, batch_bytes: int) -> Iterator[tuple[int, Any, int]]:
    """Yield (index of the first row, batch of columns, consumed bytes) of the row groups of a range.

    A batch has at most `most_rows` rows, and about `batch_bytes` or one row.
    """
    end = piece.start + piece.covered_bytes
    rows = min(_FIRST_ROWS, most_rows)
    with ExitStack() as stack:
        check_unchanged(piece)
        with _valid(piece.path):
            source: Any = storage.local_path(piece.path)
            table = stack.enter_context(_opened(source or stack.enter_context(storage.open_read(piece.path))))
        first = 0
        for index in range(table.metadata.num_row_groups):
            group = table.metadata.row_group(index)
            middle, group_end = _place(group)
            if piece.start <= middle < end:
                done = first
                consumed = min(max(group_end, piece.start), end) - piece.start
                batches = table.iter_batches(batch_size=rows, row_groups=[index], use_threads=False)
                while (batch := _next(batches, piece.path)) is not None:
                    rows = _next_rows(batch, rows, most_rows, batch_bytes)
                    table.reader.set_batch_size(rows)
                    for part in _cut(batch, batch_bytes):
                        yield done, part, consumed
                        done += part.num_rows
                    del batch, part
            first += group.num_rows


def _opened(source: Any) -> pq.ParquetFile:
    """Open a local path to read page by page, a URL by column chunks, since each read costs a round trip."""
    local = isinstance(source, str)
    return pq.ParquetFile(
        source,
        page_checksum_verification=True,
        buffer_size=_LOCAL_BUFFER_BYTES if local else 0,
        pre_buffer=not local,
    )


def _next_rows(batch: Any, rows: int, most: int, batch_bytes: int) -> int:
    """Choose the rows of the next batch from the bytes of this one: a function of the data alone."""
    row_bytes = max(1, int(batch.nbytes) // int(batch.num_rows))
    return max(1, min(most, rows * _GROWTH, batch_bytes // row_bytes))


def _cut(batch: Any, batch_bytes: int) -> Iterator[Any]:
    """Halve a batch, until no piece is over twice `batch_bytes`: wide rows may follow narrow ones."""
    if batch.nbytes <= 2 * batch_bytes or batch.num_rows <= 1:
        yield batch
        return
    half = batch.num_rows // 2
    yield from _cut(batch.slice(0, half), batch_bytes)
    yield from _cut(batch.slice(half), batch_bytes)


def _place(group: Any) -> tuple[int, int]:
    """Return the middle and the end of a row group in its file, in bytes."""
    starts = []
    size = 0
    for index in range(group.num_columns):
        column = group.column(index)
        starts.append(column.dictionary_page_offset or column.data_page_offset)
        size += column.total_compressed_size
    start = min(starts, default=0)
    return start + size // 2, start + size


def _next(batches: Iterator[Any], path: str) -> Any:
    with _valid(path):
        return next(batches, None)


@contextmanager
def _valid(path: str) -> Iterator[None]:
    """Turn what the Parquet reader raises into BadInput that names the file."""
    with readable(path):
        try:
            yield
        except pa.ArrowException as error:
            raise BadInput(f"{path} is not a valid Parquet file: {error}") from error
