"""Format `text`: one record a line; key = byte offset of the line in the file, value = the line as str.

A line ends with \\n or \\r\\n and nothing else; the end is not part of the value. A UTF-8 byte order
mark at the start of a file is dropped (the offsets still count it). In compressed files the offset
counts decompressed bytes. In encodings whose line end is not the one byte 0x0A (UTF-16, UTF-32,
EBCDIC, ISO-2022-*) the file is one stream and the offset is exact unless errors were replaced.
"""

from collections.abc import Iterator
from itertools import accumulate
from typing import Any

from mr.errors import BadInput
from mr.formats.input.compression import Stream
from mr.formats.input.encodings import canonical, decode, splits_at_newline, undecoded, width_codec
from mr.formats.input.lines import TOO_LONG, UTF8_MARK, LineBlock, Positions, decoded_lines, line_blocks
from mr.formats.input.options import ReadOptions, Rows, sliced
from mr.protocol.jobs import FileRange


def read(piece: FileRange, options: ReadOptions) -> Iterator[Rows]:
    """Yield the lines of a range as (offsets, lines, consumed bytes). Raises BadInput."""
    if not splits_at_newline(options.job.encoding):
        yield from _read_stream(piece, options)
        return
    before = 0
    for block in line_blocks(piece, options):
        offsets = block.line_offsets().tolist()
        consumed = block.consumed_bytes
        lines = _decode_lines(block, len(offsets), piece.path, options)
        del block  # a line may be very long: never hold its bytes beside its text for longer than it takes
        if lines:
            yield from sliced(offsets, lines, before, consumed, options)
            before = consumed
        del lines


def _decode_lines(block: LineBlock, rows: int, path: str, options: ReadOptions) -> list[str]:
    """Decode a block and cut it into `rows` lines without their ends. Raises BadInput.

    The list is empty for a file that holds only a byte order mark.
    """
    encoding, errors = canonical(options.job.encoding), options.job.encoding_errors
    data, offset = without_mark(block, encoding)
    if not data:
        return []
    if rows == 1:
        return [decode(memoryview(data)[: _line_end(data)], path, offset, encoding, errors)]
    text = decode(data, path, offset, encoding, errors)
    # looking for one character first is 50 times faster than for two
    if "\r" in text:
        text = text.replace("\r\n", "\n")
    lines = text.split("\n")
    if data.endswith(b"\n"):
        lines.pop()
    if len(lines) == rows:
        return lines
    # a codec that replaced bytes may have read a newline as part of a broken character
    raw_lines = data.removesuffix(b"\n").split(b"\n")
    return [_without_return(line.decode(encoding, errors)) for line in raw_lines]


def _line_end(data: bytes) -> int:
    """Find where the one line in `data` ends, without its end."""
    if not data.endswith(b"\n"):
        return len(data)
    return len(data) - (2 if data.endswith(b"\r\n") else 1)


def without_mark(block: LineBlock, encoding: str) -> tuple[bytes, int]:
    """Drop a UTF-8 byte order mark at the start of a file. Returns the bytes and where they begin."""
    if block.offset == 0 and encoding == "utf-8" and block.data.startswith(UTF8_MARK):
        return block.data[len(UTF8_MARK) :], len(UTF8_MARK)
    return block.data, block.offset


def _read_stream(piece: FileRange, options: ReadOptions) -> Iterator[Rows]:
    """Read a whole file whose bytes cannot be cut at newlines; a range that is not its start has nothing."""
    if piece.start > 0 or piece.length == 0:
        return
    codec = width_codec(canonical(options.job.encoding))
    errors = "surrogatepass" if codec.startswith("utf-") else "replace"
    offset = before = 0
    with Stream(piece) as stream:
        for lines, mark, position in decoded_lines(stream, options):
            widths = [_width(line, codec, errors) for line in lines]
            widths[0] += mark
            offsets = list(accumulate(widths, initial=offset))
            offset = offsets.pop()
            lines = [_without_return(line[:-1]) if line.endswith("\n") else line for line in lines]
            if options.bad.tolerant:
                offsets, lines = _readable(offsets, lines, piece.path, options)
            yield from sliced(offsets, lines, before, position, options)
            before = position


def _width(line: str, codec: str, errors: str) -> int:
    """Bytes of a line in its file."""
    if not line.startswith(TOO_LONG):
        return len(line.encode(codec, errors))
    return int(line[1:]) + (len("\n".encode(codec)) if line.endswith("\n") else 0)


def _readable(
    offsets: list[int], lines: list[str], path: str, options: ReadOptions
) -> tuple[list[int], list[str]]:
    """Refuse the lines that are too long, or hold escaped bytes; returns the others."""
    kept: list[tuple[int, str]] = []
    for offset, line in zip(offsets, lines, strict=True):
        if wrong := unreadable(line, options):
            options.bad.refuse(offset, f"{path}:{offset}: {wrong}", "" if line.startswith(TOO_LONG) else line)
        else:
            kept.append((offset, line))
    return [offset for offset, _ in kept], [line for _, line in kept]


def unreadable(text: str, options: ReadOptions) -> str:
    """What is wrong with text from `decoded_lines`; empty if nothing is."""
    if TOO_LONG in text:
        return f"the record is longer than --max-record-bytes ({options.job.max_record_bytes} bytes)"
    return undecoded(text, options.job.encoding) if options.job.encoding_errors == "strict" else ""


def _without_return(line: str) -> str:
    return line[:-1] if line.endswith("\r") else line


def read_batches(piece: FileRange, options: ReadOptions) -> Iterator[tuple[Any, int]]:
    """Yield the lines of a range as Arrow batches (key int64, value string), with the consumed bytes."""
    import pyarrow as pa

    encoding = canonical(options.job.encoding)
    if not splits_at_newline(encoding):
        for offsets, lines, consumed in _read_stream(piece, options):
            yield (
                pa.record_batch([pa.array(offsets, pa.int64()), arrow_strings(lines, piece.path)], _NAMES),
                consumed,
            )
        return
    for block in line_blocks(piece, options):
        ends = block.line_ends()
        offsets, consumed = pa.array(block.line_offsets(ends)), block.consumed_bytes
        if encoding == "utf-8" and options.job.encoding_errors == "strict":
            data, offset = without_mark(block, encoding)
            decode(data, piece.path, offset, encoding, "strict")
            values = _strings(data, ends - (len(block.data) - len(data))) if data else None
            del data
        else:
            lines = _decode_lines(block, len(ends), piece.path, options)
            values = arrow_strings(lines, piece.path) if lines else None
            del lines
        del block
        if values is not None:
            yield pa.record_batch([offsets, values], _NAMES), consumed
        del values


_NAMES = ["key", "value"]
#: A larger column of strings needs offsets of 64 bits.
MAX_STRING_BYTES = (1 << 31) - 1


def arrow_strings(lines: list[str], path: str) -> Any:
    """Make an Arrow string column. Raises BadInput for text with surrogates, which Arrow cannot hold."""
    import pyarrow as pa

    wide = 4 * sum(map(len, lines)) > MAX_STRING_BYTES
    try:
        return pa.array(lines, pa.large_string() if wide else pa.string())
    except (UnicodeEncodeError, pa.ArrowException) as error:
        raise BadInput(
            f"{path} has bytes that are not text; map_batch needs --encoding-errors replace"
        ) from error


def _strings(data: bytes, ends: Positions) -> Any:
    """Make an Arrow string column of lines of valid UTF-8, given the position of each one's newline."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    wide = len(data) >= MAX_STRING_BYTES
    string, binary = (pa.large_string(), pa.large_binary()) if wide else (pa.string(), pa.binary())
    offsets = np.zeros(len(ends) + 1, dtype=np.int64 if wide else np.int32)

    def column(kind: Any, bytes_: Any) -> Any:
        return pa.Array.from_buffers(kind, len(ends), [None, pa.py_buffer(offsets), pa.py_buffer(bytes_)])

    if len(ends) == 1:
        offsets[1] = _line_end(data)
        return column(string, data)
    if b"\r" in data:
        kept, offsets[1:] = _without_ends(data, ends)
        return column(string, kept)
    offsets[1:] = ends + 1
    lines = column(binary, data if data.endswith(b"\n") else data + b"\n")
    return pc.binary_slice(lines, 0, -1).view(string)


def _without_ends(data: bytes, ends: Positions) -> tuple[Any, Positions]:
    """Drop every \\n, and every \\r before one. Returns the bytes left and where each line ends in them."""
    import numpy as np

    codes = np.frombuffer(data, dtype=np.uint8)
    keep = codes != 10
    returns = (codes[:-1] == 13) & ~keep[1:]
    keep[:-1] &= ~returns
    newlines_before = np.arange(len(ends))
    returns_before = np.searchsorted(np.flatnonzero(returns), ends)
    return codes[keep], ends - newlines_before - returns_before
