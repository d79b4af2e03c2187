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
from mr.formats.input.bad_records import MalformedRecord
from mr.formats.input.compression import Stream
from mr.formats.input.encodings import canonical, decode, decode_stream, width_codec
from mr.formats.input.options import ReadOptions
from mr.protocol.bad_records import RECORD_CHARACTERS
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
    dropping = False
    line_start = position = start

    def blocks() -> list[LineBlock]:
        data = b"".join(held)
        held.clear()
        made = LineBlock(data, line_start, min(stream.position(), end) - base)
        return (
            _without_bad(made, stream.path, options) if len(data) > limit or options.bad.tolerant else [made]
        )

    while line_start < end:
        inside = position < end
        data = stream.read(min(read_bytes, end - position) if inside else min(read_bytes, _TAIL_BYTES))
        if not data:
            break
        if dropping:
            length = data.find(b"\n") + 1
            position += length or len(data)
            if not length:
                continue
            dropping, line_start, data = False, position, data[length:]
            if not inside:
                return
            if not data:
                continue
        # beyond the range only the line that began inside is completed
        cut = (data.rfind(b"\n") if inside else data.find(b"\n")) + 1
        begun = 0
        if cut and position - line_start >= read_bytes:
            begun = data.find(b"\n") + 1
            held.append(data[:begun])
            yield from _given(blocks())
            line_start = position + begun
        if cut > begun:
            held.append(data[begun:cut])
            yield from _given(blocks())
            line_start = position + cut
        if cut and not inside:
            return
        if cut < len(data):
            held.append(data[cut:])
        position += len(data)
        if held and position - line_start > limit:
            options.bad.refuse(line_start, _too_long(stream.path, line_start, limit), held[0])
            held.clear()
            dropping = True
    if held and line_start < end:
        yield from _given(blocks())


def _given(blocks: list[LineBlock]) -> Iterator[LineBlock]:
    """Yield blocks without keeping them."""
    blocks.reverse()
    while blocks:
        yield blocks.pop()


def _without_bad(block: LineBlock, path: str, options: ReadOptions) -> list[LineBlock]:
    """Refuse the lines of a block that are too long or not text; returns what is left. Raises BadInput."""
    limit = options.job.max_record_bytes
    ends = block.line_ends()
    offsets = block.line_offsets(ends)
    bad = dict.fromkeys(np.flatnonzero(ends + block.offset - offsets > limit).tolist(), "")
    for row in bad:
        bad[row] = _too_long(path, int(offsets[row]), limit)
    if options.bad.tolerant:
        bad |= {
            row: why for row, why in _undecodable(block, offsets, path, options).items() if row not in bad
        }
    edges = [*(offsets - block.offset).tolist(), len(block.data)]
    left, first = [], 0
    for row, why in sorted(bad.items()):
        end = min(edges[row + 1], edges[row] + RECORD_CHARACTERS)
        options.bad.refuse(int(offsets[row]), why, block.data[edges[row] : end])
        left.append((first, row))
        first = row + 1
    return [
        LineBlock(block.data[edges[start] : edges[stop]], int(offsets[start]), block.consumed_bytes)
        for start, stop in (*left, (first, len(offsets)))
        if start < stop
    ]


def _undecodable(block: LineBlock, offsets: Positions, path: str, options: ReadOptions) -> dict[int, str]:
    """The lines of a block that are not text of the input's encoding, by row, with what is wrong."""
    encoding, errors = canonical(options.job.encoding), options.job.encoding_errors
    try:
        decode(block.data, path, block.offset, encoding, errors)
    except BadInput:
        edges = [*(offsets - block.offset).tolist(), len(block.data)]
    else:
        return {}
    found = {}
    for row, offset in enumerate(offsets.tolist()):
        try:
            decode(memoryview(block.data)[edges[row] : edges[row + 1]], path, offset, encoding, errors)
        except BadInput as error:
            found[row] = str(error)
    return found


def _too_long(path: str, offset: int, limit: int) -> str:
    return f"{path}:{offset}: the record is longer than --max-record-bytes ({limit} bytes)"


#: Begins what stands for a line that was too long, followed by its size in bytes: no text holds it.
TOO_LONG = "\ud800"


def decoded_lines(stream: Stream, options: ReadOptions) -> Iterator[tuple[list[str], int, int]]:
    """Decode a stream into lines with their ends, block by block; an unfinished line is in memory once.

    Yields lines, the bytes of a byte order mark before the first, and how far the stored file was read.
    Only the last line of the file may lack its end. Raises BadInput; where bad records may be skipped, a line
    that is too long is TOO_LONG and its size instead, and bytes that are not text are escaped.
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
    line_start = line_bytes = position = consumed = 0
    for text, mark_bytes, consumed in decode_stream(stream, options):
        position += mark_bytes
        size = len(text.encode(codec, errors))
        if line_bytes + size <= limit:  # no line can be too long
            position += size
            last = text.rfind("\n") + 1
            line_bytes = len(text[last:].encode(codec, errors)) if last else line_bytes + size
            line_start = position - line_bytes
            yield text, mark_bytes, consumed
            continue
        pieces: list[str] = []
        for number, piece in enumerate(text.split("\n")):
            if number:
                pieces[-1] += f"{TOO_LONG}{line_bytes}" if line_bytes > limit else ""
                position += end_bytes
                line_start, line_bytes = position, 0
            width = len(piece.encode(codec, errors))
            position += width
            line_bytes += width
            if line_bytes > limit and not options.bad.tolerant:
                raise MalformedRecord(_too_long(stream.path, line_start, limit))
            pieces.append("" if line_bytes > limit else piece)
        yield "\n".join(pieces), mark_bytes, consumed
    if line_bytes > limit:
        yield f"{TOO_LONG}{line_bytes}", 0, consumed


def _joined(held: list[str]) -> str:
    """Join the pieces of a line, which are not held any longer then."""
    line = "".join(held)
    held.clear()
    return line[line.index(TOO_LONG) :] if TOO_LONG in line else line
