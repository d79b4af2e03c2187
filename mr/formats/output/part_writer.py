"""Writes result pairs into one output part, counts them and computes the checksum.

The bytes of a part depend only on the pairs: not on how many were written at a time, on whether they came as
Python lists or as an Arrow table, or on the clock.
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import xxhash

from mr.error_text import error_text
from mr.errors import MrError
from mr.formats import storage
from mr.formats.registry import output_module
from mr.protocol.formats import OutputFormatName

#: Bytes collected before they are written.
_WRITE_BYTES = 1024 * 1024


class OutputUnwritable(MrError, OSError):
    """The output directory cannot be written here. Use one that every worker sees and may write."""


@dataclass(slots=True, frozen=True)
class PartSummary:
    """What one part holds."""

    rows: int
    bytes: int
    #: xxh3-64 of the file's bytes, 16 hex digits.
    checksum: str


class PartFile:
    """The new file of a part: counts the bytes written and computes their checksum. Raises OSError."""

    def __init__(self, path: str) -> None:
        try:
            self._file = storage.open_write(path)
        except OSError as error:
            raise OutputUnwritable(
                f"{path} cannot be written: {error_text(error)}; the output directory must be one that "
                "every worker sees and may write"
            ) from error
        self._path = path
        self._digest = xxhash.xxh3_64()
        self._held: list[Any] = []
        self._held_bytes = 0
        self.bytes = 0
        self.closed = False

    def write(self, data: Any) -> int:
        """Append bytes, or anything with the buffer protocol that does not change afterwards."""
        size = len(data)
        self._digest.update(data)
        self._held.append(data)
        self._held_bytes += size
        self.bytes += size
        if self._held_bytes >= _WRITE_BYTES:
            self.drain()
        return size

    def drain(self) -> None:
        """Write what is collected to the file."""
        left = memoryview(b"".join(self._held))
        self._held, self._held_bytes = [], 0
        with storage.url_errors(self._path):
            while left:
                left = left[self._file.write(left) or 0 :]

    def finish(self) -> str:
        """Sync everything to disk and close. Returns the checksum, 16 hex digits."""
        self.drain()
        if storage.local_path(self._path) is not None:
            os.fsync(self._file.fileno())
        self.closed = True
        with storage.url_errors(self._path):
            self._file.close()
        return self._digest.hexdigest()

    def abort(self) -> None:
        """Close and remove the file, if it exists."""
        self._held = []
        if not self.closed:
            self.closed = True
            _discard(self._file)
        storage.remove_file(self._path)

    # asked by pyarrow, which writes Parquet from front to back
    def tell(self) -> int:
        """Return how many bytes were written."""
        return self.bytes

    def flush(self) -> None:
        """Do nothing: `finish` does it."""

    def writable(self) -> bool:
        """Return True."""
        return True

    def readable(self) -> bool:
        """Return False."""
        return False

    def seekable(self) -> bool:
        """Return False."""
        return False

    def close(self) -> None:
        """Do nothing: `finish` does it."""


def _discard(file: Any) -> None:
    """Close a file without completing it: an upload to an object store is aborted."""
    if not hasattr(file, "discard"):
        file.close()
        return
    file.discard()
    with suppress(AttributeError):
        # fsspec's buffered files upload the rest when they are garbage-collected, unless they are closed
        file.closed = True


class PartWriter:
    """Writes one part to its temporary path.

    Errors: OutputUnwritable when the file cannot be made, UnencodableKey and UnencodableValue for
    what the format cannot hold, OSError when the disk is full.
    """

    def __init__(self, path: str, output_format: OutputFormatName) -> None:
        module = output_module(output_format)
        self._file = PartFile(path)
        self._writer = module.Writer(self._file)
        self._rows = 0

    def write_pairs(self, keys: Sequence[Any], values: Sequence[Any]) -> None:
        """Write pairs of Python objects, in order; both of one length."""
        if len(keys) != len(values):
            raise ValueError(f"{len(keys)} keys for {len(values)} values")
        if keys:
            self._writer.pairs(keys, values)
            self._rows += len(keys)

    def write_table(self, table: Any) -> None:
        """Write a pyarrow.Table (or RecordBatch) with columns `key` and `value` of plain Arrow types."""
        if table.num_rows:
            self._writer.table(table)
            self._rows += table.num_rows

    def close(self) -> PartSummary:
        """Complete the file and sync it to disk."""
        self._writer.end()
        checksum = self._file.finish()
        return PartSummary(self._rows, self._file.bytes, checksum)

    def abort(self) -> None:
        """Remove what was written; may be called at any time, more than once."""
        self._file.abort()
