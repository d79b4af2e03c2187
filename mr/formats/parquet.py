"""Format `parquet`: one record a row; key = index of the row in its file, value = dict of its columns.

A row group belongs to the range that holds its middle, so it is read by one task.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mr.errors import BadInput
from mr.formats import storage
from mr.formats.compression import readable
from mr.formats.options import ReadOptions, Records
from mr.protocol.jobs import FileRange

#: Rows of one Arrow batch, as a multiple of `chunk_rows`: batches cost less for each row than objects.
_BATCH_CHUNKS = 16


def read(piece: FileRange, options: ReadOptions) -> Iterator[Records]:
    """Yield rows as (row indexes, dicts, consumed bytes). Raises BadInput."""
    for first, batch, consumed in _batches(piece, options.chunk_rows):
        try:
            rows = batch.to_pylist()
        except (pa.ArrowException, ValueError) as error:
            raise BadInput(f"{piece.path}: rows cannot be made Python objects: {error}") from error
        yield list(range(first, first + len(rows))), rows, consumed


def read_batches(piece: FileRange, options: ReadOptions) -> Iterator[tuple[Any, int]]:
    """Yield rows as Arrow batches: key int64, value a struct of the file's columns. Raises BadInput."""
    for first, batch, consumed in _batches(piece, options.chunk_rows * _BATCH_CHUNKS):
        keys = pa.array(range(first, first + batch.num_rows), pa.int64())
        yield pa.record_batch([keys, batch.to_struct_array()], ["key", "value"]), consumed


def _batches(piece: FileRange, rows: int) -> Iterator[tuple[int, Any, int]]:
    """Yield (index of the first row, batch of columns, consumed bytes) of the row groups of a range."""
    end = piece.start + piece.covered_bytes
    with ExitStack() as stack:
        with _valid(piece.path):
            source: Any = storage.local_path(piece.path)
            size = storage.file_size(piece.path)
            if size is None:
                raise BadInput(f"{piece.path} cannot be read: No such file or directory")
            if size != piece.file_bytes:
                raise BadInput(
                    f"{piece.path} changed since the job was planned; inputs must not change while a job runs"
                )
            if source is None:
                source = stack.enter_context(storage.open_read(piece.path))
            table = stack.enter_context(pq.ParquetFile(source, page_checksum_verification=True))
        first = 0
        for index in range(table.metadata.num_row_groups):
            group = table.metadata.row_group(index)
            middle, group_end = _place(group)
            if piece.start <= middle < end:
                done = 0
                batches = table.iter_batches(batch_size=rows, row_groups=[index], use_threads=False)
                while (batch := _next(batches, piece.path)) is not None:
                    done += batch.num_rows
                    consumed = min(max(group_end, piece.start), end) - piece.start
                    yield first + done - batch.num_rows, batch, consumed
            first += group.num_rows


def _place(group: Any) -> tuple[int, int]:
    """Tell the middle and the end of a row group in its file, in bytes."""
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
