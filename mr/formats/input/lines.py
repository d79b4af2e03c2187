"""Ranges of files as blocks of complete lines: bytes, or text where bytes cannot be cut at line ends.

A line belongs to the range in which its first byte lies, so adjoining ranges yield every line once.
A line ends with the byte 0x0A; the last line of a file may lack it.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from mr.errors import BadInput
from mr.formats.input.compression import Stream
from mr.formats.input.encodings import canonical, decode_stream, width_codec
from mr.formats.input.options import ReadOptions
from mr.protocol.bounds import MAX_BYTES
from mr.protocol.jobs import FileRange

#: One integer for each line.
Positions: TypeAlias = np.ndarray[tuple[int], np.dtype[np.int64]]

UTF8_MARK = b"\xef\xbb\xbf"
#: Bytes read at a time to find the end of a line that reaches beyond its range.
_TAIL_BYTES = 64 * 1024


@dataclass(slots=True, frozen=True)
class LineBlock:
    """Whole lines in file order."""

    #: The lines with their ends; never empty.
    data: bytes
    #: Offset of the first of them in the (decompressed) file.
    offset: int
    #: Bytes of the stored range consumed so far.
    consumed_bytes: int

    def line_offsets(self, ends: Positions | None = None) -> Positions:
        """Return the offset in the file at which each line starts; `ends` is `line_ends()`, if known."""
        ends = self.line_ends() if ends is None else ends
        starts = np.empty(len(ends), dtype=np.int64)
        starts[0] = self.offset
        starts[1:] = ends[:-1] + (self.offset + 1)
        return starts

    def line_ends(self) -> Positions:
        """Compute the position in `data` of each line's newline, or of its end where the last has none."""
        first = self.data.find(b"\n")
        if first in (-1, len(self.data) - 1):  # one line, however long: no array as large as itself
            return np.array([first if first >= 0 else len(self.data)], dtype=np.int64)
        ends = np.flatnonzero(np.frombuffer(self.data, dtype=np.uint8) == 10)
        return ends if self.data.endswith(b"\n") else np.append(ends, len(self.data))


def line_blocks(piece: FileRange, options: ReadOptions) -> Iterator[LineBlock]:
    """Read the lines of a range (length -1: of a whole file as a stream) in blocks of about `read_bytes`.

    A block is larger only for one longer line, which stands alone. No reference to a block is kept after it
    is yielded, so that a long line is in memory once. Raises BadInput.
    """
    if piece.length == 0:
        return
    read_bytes = options.read_bytes
    with Stream(piece) as stream:
        if piece.length < 0:
            yield from _blocks(stream, 0, sys.maxsize, options, base=0)
            return
        start = piece.start
        if start:
            found = _first_line(stream, start, start + piece.length, read_bytes)
            if found is None:
                return
            start = found
            stream.seek(start)
        yield from _blocks(stream, start, piece.start + piece.length, options, base=piece.start)


def _first_line(stream: Stream, start: int, end: int, read_bytes: int) -> int | None:
    """Find the first offset in [start, end) at which a line begins; None when there is none."""
    position = start - 1
    stream.seek(position)
    while position < end - 1:
        data = stream.read(min(read_bytes, _TAIL_BYTES, end - 1 - position))
        if not data:
            return None
        newline = data.find(b"\n")
        if newline >= 0:
            return position + newline + 1
        position += len(data)
    return None


def _blocks(stream: Stream, start: int, end: int, options: ReadOptions, *, base: int) -> Iterator[LineBlock]:
    """Yield the lines that begin in [start, end), from a stream positioned at `start`.

    Consumed bytes are counted from `base`.
    """
    read_bytes, limit = options.read_bytes, options.job.max_record_bytes
    held: list[bytes] = []
    line_start = position = start

    def block() -> LineBlock:
        data = b"".join(held)
        held.clear()
        made = LineBlock(data, line_start, min(stream.position(), end) - base)
        if len(data) > limit:
            _check_lines(made, stream.path, limit)
        return made

    while line_start < end:
        inside = position < end
        data = stream.read(min(read_bytes, end - position) if inside else min(read_bytes, _TAIL_BYTES))
        if not data:
            break
        # beyond the range only the line that began inside is completed
        cut = (data.rfind(b"\n") if inside else data.find(b"\n")) + 1
        begun = 0
        if cut and position - line_start >= read_bytes:
            begun = data.find(b"\n") + 1
            held.append(data[:begun])
            yield block()
            line_start = position + begun
        if cut > begun:
            held.append(data[begun:cut])
            yield block()
            line_start = position + cut
        if cut and not inside:
            return
        if cut < len(data):
            held.append(data[cut:])
        position += len(data)
        if held and position - line_start > limit:
            raise _too_long(stream.path, line_start, limit)
    if held and line_start < end:
        yield block()


def _check_lines(block: LineBlock, path: str, limit: int) -> None:
    """Refuse a block with a line of more than `limit` bytes. Raises BadInput."""
    ends = block.line_ends()
    offsets = block.line_offsets(ends)
    long = np.flatnonzero(ends + block.offset - offsets > limit)
    if len(long):
        raise _too_long(path, int(offsets[long[0]]), limit)


def _too_long(path: str, offset: int, limit: int) -> BadInput:
    return BadInput(f"{path}:{offset}: the record is longer than --max-record-bytes ({limit} bytes)")


def decoded_lines(stream: Stream, options: ReadOptions) -> Iterator[tuple[list[str], int, int]]:
    """Decode a stream into lines with their ends, block by block; an unfinished line is in memory once.

    Yields lines, the bytes of a byte order mark before the first, and how far the stored file was read.
    Only the last line of the file may lack its end. Raises BadInput.
    """
    held: list[str] = []
    mark = position = 0
    for text, mark_bytes, position in _decoded(stream, options):
        mark += mark_bytes
        first, *lines = text.split("\n")
        held.append(first)
        if not lines:
            continue
        last = lines.pop()
        held.append("\n")
        lines = [_joined(held), *(f"{line}\n" for line in lines)]
        yield lines, mark, position
        held.append(last)
        mark = 0
    if any(held):
        yield [_joined(held)], mark, position


def _decoded(stream: Stream, options: ReadOptions) -> Iterator[tuple[str, int, int]]:
    """Decode a stream as `decode_stream` does, and refuse a line that is too long. Raises BadInput."""
    limit = options.job.max_record_bytes
    codec = width_codec(canonical(options.job.encoding))
    errors = "surrogatepass" if codec.startswith("utf-") else "replace"
    end_bytes = len("\n".encode(codec))
    line_start = line_bytes = position = 0
    for text, mark_bytes, consumed in decode_stream(stream, options):
        position += mark_bytes
        for number, piece in enumerate(text.split("\n") if limit < MAX_BYTES else ()):
            if number:
                position += end_bytes
                line_start, line_bytes = position, 0
            width = len(piece.encode(codec, errors))
            position += width
            line_bytes += width
            if line_bytes > limit:
                raise _too_long(stream.path, line_start, limit)
        yield text, mark_bytes, consumed


def _joined(held: list[str]) -> str:
    """Join the pieces of a line, which are not held any longer then."""
    line = "".join(held)
    held.clear()
    return line
