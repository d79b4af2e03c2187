"""Format `binary`: one record a file; key = its path, value = its bytes as stored, never decompressed."""

from collections.abc import Iterator
from typing import Any

from mr.formats.input.compression import Stream
from mr.formats.input.options import ReadOptions, Rows
from mr.protocol.jobs import FileRange


def read(piece: FileRange, options: ReadOptions) -> Iterator[Rows]:
    """Yield one file as ([path], [bytes], its size). Raises BadInput."""
    if piece.start > 0:
        return
    with Stream(piece, raw=True) as stream:
        data = stream.read(piece.file_bytes)
    yield [piece.path], [data], piece.file_bytes


def read_batches(piece: FileRange, options: ReadOptions) -> Iterator[tuple[Any, int]]:
    """Yield one file as an Arrow batch of one row: key string, value large_binary."""
    import pyarrow as pa

    for keys, values, consumed in read(piece, options):
        columns = [pa.array(keys, pa.string()), pa.array(values, pa.large_binary())]
        yield pa.record_batch(columns, ["key", "value"]), consumed
