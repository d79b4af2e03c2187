"""Input files as streams of bytes: plain ones, and gz, bz2, xz, zst by their suffix, in bounded memory.

A compressed file may hold several streams, one after the other. In gz and xz files zero bytes may follow as
padding. Anything else after a stream is an error, never the end of the data.
"""

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, Self

from mr.error_text import error_text
from mr.errors import BadInput
from mr.formats import storage
from mr.protocol.jobs import FileRange

SUFFIXES = (".gz", ".bz2", ".xz", ".zst")


def is_compressed(path: str) -> bool:
    """Return whether a file's suffix says that it is compressed."""
    return path.lower().endswith(SUFFIXES)


@contextmanager
def readable(path: str) -> Iterator[None]:
    """Turn the failure to read a file into BadInput that names it."""
    try:
        with storage.url_errors(path):
            yield
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error_text(error)}") from error


def check_unchanged(piece: FileRange) -> None:
    """Refuse a file that has another size than when the splits were planned. Raises BadInput."""
    with readable(piece.path):
        size = storage.file_size(piece.path)
    if size is None:
        raise BadInput(f"{piece.path} cannot be read: No such file or directory")
    if size != piece.file_bytes:
        raise BadInput(
            f"{piece.path} changed since the job was planned; inputs must not change while a job runs"
        )


class _Readable(Protocol):
    """What a decompressor and a plain file have in common."""

    def read(self, size: int, /) -> bytes:
        """Read up to `size` bytes, b"" at the end."""
        ...


class _Raw:
    """The stored bytes of a file up to its size when splits were planned; counts what it reads."""

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
        """Return True: the decompressors ask."""
        return True

    def seekable(self) -> bool:
        """Return False: the decompressors ask, and only read forward."""
        return False

    def close(self) -> None:
        """Close the file."""
        self.closed = True
        self._file.close()


class _Decoder(Protocol):
    """A decompressor of one stream, as `bz2` and `lzma` have them."""

    @property
    def eof(self) -> bool:
        """Whether the end of the stream was reached."""
        ...

    @property
    def needs_input(self) -> bool:
        """Whether more compressed bytes are needed before more can come out."""
        ...

    @property
    def unused_data(self) -> bytes:
        """The bytes fed after the end of the stream."""
        ...

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """Feed compressed bytes; return up to `max_length` decompressed ones."""
        ...


class _GzipDecoder:
    """A _Decoder of one gzip member; zlib checks its length and checksum."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)

    @property
    def eof(self) -> bool:
        return self._member.eof

    @property
    def needs_input(self) -> bool:
        return not self._member.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._member.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._member.decompress(self._member.unconsumed_tail + data, max_length)


#: Compressed bytes read at a time.
_BLOCK_BYTES = 64 * 1024


class _Streams:
    """The compressed streams of a file one after the other, as one."""

    def __init__(self, raw: _Raw, decoder: Callable[[], _Decoder], padding: int) -> None:
        self._raw = raw
        self._new = decoder
        #: Zero bytes may follow a stream in multiples of this; 0 = not at all.
        self._padding = padding
        self._decoder = decoder()
        self._ahead = b""
        #: Offset in the file of the block that was decompressed last.
        self.offset = 0

    def read(self, size: int, /) -> bytes:
        """Read up to `size` bytes, b"" at the end. Raises what the decompressor does, and EOFError."""
        while True:
            if self._decoder.eof:
                if not self._has_next():
                    return b""
                self._decoder = self._new()
            data = self._next_block() if self._decoder.needs_input else b""
            ended = not data and self._decoder.needs_input
            if made := self._decoder.decompress(data, size):
                return made
            if ended and not self._decoder.eof:
                raise EOFError("it ends inside of a compressed stream")

    def _next_block(self) -> bytes:
        data, self._ahead = self._ahead or self._raw.read(_BLOCK_BYTES), b""
        self.offset = self._raw.position - len(data)
        return data

    def _has_next(self) -> bool:
        """Return whether another stream follows, held in `_ahead`. Raises EOFError for wrong padding."""
        zeros = 0
        ahead = self._decoder.unused_data or self._raw.read(_BLOCK_BYTES)
        while self._padding and ahead.startswith(b"\0"):
            stream = ahead.lstrip(b"\0")
            zeros += len(ahead) - len(stream)
            ahead = stream or self._raw.read(_BLOCK_BYTES)
        self.offset = self._raw.position - len(ahead)
        if zeros and zeros % self._padding:
            raise EOFError(f"{zeros} zero bytes follow a stream, which is not valid padding")
        self._ahead = ahead
        return bool(ahead)


class Stream:
    """One file opened for reading, decompressed if its suffix says so (unless `raw`).

    A context manager. Every failure to read is a BadInput that names the file. A plain file that grew since
    the splits were planned is read up to its old size; one that shrank is refused.
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
        self._raw.close()

    def read(self, size: int) -> bytes:
        """Read `size` bytes, fewer only at the end. Raises BadInput.

        A network file system may return fewer bytes than asked for. This reads on, so that blocks end at
        the same bytes on every run.
        """
        data = self._read(size)
        if not data or len(data) == size:
            return data
        parts = [data]
        left = size - len(data)
        while left and (more := self._read(left)):
            parts.append(more)
            left -= len(more)
        return b"".join(parts)

    def _read(self, size: int) -> bytes:
        try:
            return self._reader.read(size)
        except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
            suffix = self.path.lower().rpartition(".")[2]
            near = self._reader.offset if isinstance(self._reader, _Streams) else self._raw.position
            raise BadInput(
                f"{self.path} is truncated or not a valid {suffix} file near byte {near}: {error_text(error)}"
            ) from error

    def seek(self, position: int) -> None:
        """Go to an offset of the stored file; plain files only. Raises BadInput."""
        self._raw.seek(position)

    def position(self) -> int:
        """Return how many bytes of the stored file were read so far."""
        return self._raw.position


def _decompressor(path: str, raw: _Raw) -> _Readable:
    """Wrap the stored bytes in a decompressor that reads on over concatenated members and frames."""
    suffix = path.lower().rpartition(".")[2]
    if suffix == "gz":
        return _Streams(raw, _GzipDecoder, padding=1)
    if suffix == "bz2":
        return _Streams(raw, bz2.BZ2Decompressor, padding=0)
    if suffix == "xz":
        return _Streams(raw, lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ), padding=4)
    import pyarrow as pa

    source: Any = raw
    return pa.CompressedInputStream(pa.PythonFile(source, mode="r"), "zstd")  # type: ignore[no-any-return]
