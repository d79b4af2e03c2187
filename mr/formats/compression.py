"""Input files as streams of bytes: plain ones, and gz, bz2, xz, zst by their suffix, in bounded memory."""

import bz2
import gzip
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol, Self

from mr.errors import BadInput
from mr.formats import storage
from mr.protocol.jobs import FileRange
from mr.telling import why

SUFFIXES = (".gz", ".bz2", ".xz", ".zst")


def is_compressed(path: str) -> bool:
    """Say whether a file's suffix makes it a compressed stream."""
    return path.lower().endswith(SUFFIXES)


@contextmanager
def readable(path: str) -> Iterator[None]:
    """Turn the failure to read a file into BadInput that names it."""
    try:
        with storage.url_errors(path):
            yield
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {why(error)}") from error


class _Readable(Protocol):
    """What a decompressor and a plain file have in common."""

    def read(self, size: int, /) -> bytes:
        """Read up to `size` bytes, b"" at the end."""
        ...

    def close(self) -> None:
        """Let go of what is held."""
        ...


class _Raw:
    """The stored bytes of a file, counted, and cut off where the file ended when splits were planned."""

    def __init__(self, piece: FileRange) -> None:
        self.path = piece.path
        self.file_bytes = piece.file_bytes
        self.position = 0
        self.closed = False
        self.mode = "rb"
        with readable(self.path):
            self._file = storage.open_read(piece.path)

    def read(self, size: int = -1, /) -> bytes:
        """Read up to `size` bytes, all of the rest if negative. Raises BadInput."""
        left = self.file_bytes - self.position
        if left <= 0:
            return b""
        with readable(self.path):
            data = self._file.read(left if size < 0 else min(size, left))
        if not data and size:
            raise BadInput(
                f"{self.path} ends at {self.position} bytes but had {self.file_bytes} when the job was "
                "planned; inputs must not change while a job runs"
            )
        self.position += len(data)
        return data

    def seek(self, position: int) -> None:
        """Go to an offset. Raises BadInput."""
        with readable(self.path):
            self._file.seek(position)
        self.position = position

    def readable(self) -> bool:
        """Say yes: asked by the decompressors."""
        return True

    def seekable(self) -> bool:
        """Say no: asked by the decompressors, which only go forward."""
        return False

    def close(self) -> None:
        """Close the file."""
        self.closed = True
        self._file.close()


class Stream:
    """One file opened for reading, decompressed if its suffix says so (unless `raw`).

    A context manager. Every failure to read is a BadInput that names the file. A plain file that
    grew since the splits were planned is read as it was then; one that shrank is refused.
    """

    def __init__(self, piece: FileRange, *, raw: bool = False) -> None:
        self.path = piece.path
        self._raw = _Raw(piece)
        self._reader: _Readable = self._raw
        # an empty file is a valid stream of nothing, though no compressor writes one
        if is_compressed(piece.path) and not raw and piece.file_bytes:
            self._reader = _decompressor(piece.path, self._raw)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._reader is not self._raw:
            self._reader.close()
        self._raw.close()

    def read(self, size: int) -> bytes:
        """Read up to `size` bytes, b"" only at the end. Raises BadInput."""
        try:
            return self._reader.read(size)
        except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
            suffix = self.path.lower().rpartition(".")[2]
            raise BadInput(f"{self.path} is truncated or not a valid {suffix} file: {why(error)}") from error

    def seek(self, position: int) -> None:
        """Go to an offset of the stored file; plain files only. Raises BadInput."""
        self._raw.seek(position)

    def position(self) -> int:
        """Tell how many bytes of the stored file were read so far."""
        return self._raw.position


def _decompressor(path: str, raw: _Raw) -> _Readable:
    """Wrap the stored bytes; each of these reads on over concatenated members and frames."""
    suffix = path.lower().rpartition(".")[2]
    source: Any = raw
    if suffix == "gz":
        return gzip.GzipFile(fileobj=source, mode="rb")
    if suffix == "bz2":
        return bz2.BZ2File(source)
    if suffix == "xz":
        return lzma.LZMAFile(source)
    import pyarrow as pa

    return pa.CompressedInputStream(pa.PythonFile(source, mode="r"), "zstd")  # type: ignore[no-any-return]
