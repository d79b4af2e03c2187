"""Format `avro`: each record of the file; key = its index in the file, value = dict of its fields.

A block of records belongs to the range in which it begins. The reader steps from block to block from the
start of the file, because the index of a record depends on the counts of all blocks before it; of the
blocks before its range it reads only the head and the sync marker. It checks each marker and never searches
for one, since data may contain the same bytes.
"""

import io
import lzma
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import IO, Any

import fastavro

from mr.errors import BadInput
from mr.formats import storage
from mr.formats.input.compression import check_unchanged, readable
from mr.formats.input.options import ReadOptions, Rows, batches
from mr.protocol.jobs import FileRange

#: The first bytes of every file; the reader does not look at them.
_MARK = b"Obj\x01"
_SYNC_BYTES = 16
#: The largest head of a block: two integers of 64 bits.
_HEAD_BYTES = 20
#: Bytes read at a time to find a head.
_BUFFER_BYTES = 8 * 1024
#: What fastavro and the decompressors raise for damaged bytes; bz2 raises OSError.
_DAMAGE = (
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    ArithmeticError,
    OSError,
    struct.error,
    zlib.error,
    lzma.LZMAError,
)


def read(piece: FileRange, options: ReadOptions) -> Iterator[Rows]:
    """Yield records as (indexes, values, consumed bytes); small blocks come together. Raises BadInput."""
    index = 0
    rows: list[Any] = []
    held_bytes = 0
    for first, values, block_bytes, consumed in _blocks(piece):
        index = first - len(rows)
        held_bytes += block_bytes
        while more := list(islice(values, options.chunk_rows - len(rows))):
            rows += more
            if len(rows) == options.chunk_rows:
                yield list(range(index, index + len(rows))), rows, consumed
                index, rows = index + len(rows), []
        if rows and held_bytes >= options.read_bytes:
            yield list(range(index, index + len(rows))), rows, consumed
            index, rows, held_bytes = index + len(rows), [], 0
    if rows:
        yield list(range(index, index + len(rows))), rows, piece.covered_bytes


def read_batches(piece: FileRange, options: ReadOptions) -> Iterator[tuple[Any, int]]:
    """Yield records as Arrow batches; the type of a batch's column is inferred from its objects."""
    yield from batches(read(piece, options), piece.path)


def _blocks(piece: FileRange) -> Iterator[tuple[int, Iterator[Any], int, int]]:
    """Yield the range's blocks as (index of the first record, values, bytes, consumed bytes)."""
    check_unchanged(piece)
    end = piece.start + piece.covered_bytes
    with (
        _valid(piece.path, 0),
        io.BufferedReader(storage.open_read(piece.path), _BUFFER_BYTES) as file,  # type: ignore[type-var]
    ):
        if file.read(len(_MARK)) != _MARK:
            raise ValueError("it does not begin with the mark of an Avro file")
        file.seek(0)
        blocks = fastavro.block_reader(file)
        position = file.tell()
        file.seek(position - _SYNC_BYTES)
        sync = file.read(_SYNC_BYTES)
        index = 0
        while position < end:
            with _valid(piece.path, position):
                count, block_end = _head(file, position, piece.file_bytes)
                if position >= piece.start:
                    file.seek(position)
                    values = _values(next(blocks), piece.path)
                    yield index, values, block_end - position, min(block_end, end) - piece.start
                file.seek(block_end - _SYNC_BYTES)
                if file.read(_SYNC_BYTES) != sync:
                    raise ValueError("the sync marker behind the block is not the file's")
            index += count
            position = block_end


def _head(file: IO[bytes], position: int, file_bytes: int) -> tuple[int, int]:
    """Read the head of the block at `position`. Returns its number of records, and where it ends."""
    file.seek(position)
    head = io.BytesIO(file.read(_HEAD_BYTES))
    count, size = _integer(head), _integer(head)
    end = position + head.tell() + size + _SYNC_BYTES
    if count < 0 or size < 0 or end > file_bytes:
        raise ValueError(f"a block of {count} records in {size} bytes does not end inside of the file")
    return count, end


def _integer(file: io.BytesIO) -> int:
    """Read one integer: zigzag, seven bits a byte."""
    bits = shift = 0
    while byte := file.read(1):
        bits |= (byte[0] & 127) << shift
        if byte[0] < 128:
            return (bits >> 1) ^ -(bits & 1)
        shift += 7
    raise EOFError("an integer does not end")


def _values(block: Any, path: str) -> Iterator[Any]:
    with _valid(path, block.offset):
        yield from block


@contextmanager
def _valid(path: str, position: int) -> Iterator[None]:
    """Turn what the Avro reader raises into BadInput that names the file and the offset of the block."""
    with readable(path):
        try:
            yield
        except _DAMAGE as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            reason = f"{error}" or type(error).__name__
            raise BadInput(f"{path} cannot be read as Avro at byte {position}: {reason}") from error
