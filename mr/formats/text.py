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
from mr.formats.compression import Stream
from mr.formats.encodings import canonical, decode, decode_stream, splits_at_newline, width_codec
from mr.formats.lines import UTF8_MARK, LineBlock, line_blocks
from mr.formats.options import ReadOptions, Records, sliced
from mr.protocol.jobs import FileRange


def read(piece: FileRange, options: ReadOptions) -> Iterator[Records]:
    """Yield the lines of a range as (offsets, lines, consumed bytes). Raises BadInput."""
    if not splits_at_newline(options.encoding):
        yield from _read_stream(piece, options)
        return
    before = 0
    for block in line_blocks(piece, options.read_bytes):
        lines = decode_lines(block, piece.path, options)
        if lines:
            yield from sliced(block.line_offsets().tolist(), lines, before, block.consumed_bytes, options)
            before = block.consumed_bytes


def decode_lines(block: LineBlock, path: str, options: ReadOptions) -> list[str]:
    """Decode a block and cut it into lines without their ends. Raises BadInput.

    An empty list stands for a file that holds nothing but a byte order mark.
    """
    encoding = canonical(options.encoding)
    data, offset = without_mark(block, encoding)
    if not data:
        return []
    text = decode(data, path, offset, encoding, options.encoding_errors)
    lines = (text.replace("\r\n", "\n") if "\r\n" in text else text).split("\n")
    if data.endswith(b"\n"):
        lines.pop()
    if len(lines) == data.count(b"\n") + (not data.endswith(b"\n")):
        return lines
    # a codec that replaced bytes may have taken a newline for part of a broken character
    raw_lines = data.removesuffix(b"\n").split(b"\n")
    return [_without_return(line.decode(encoding, options.encoding_errors)) for line in raw_lines]


def without_mark(block: LineBlock, encoding: str) -> tuple[bytes, int]:
    """Drop a UTF-8 byte order mark at the start of a file. Returns the bytes and where they begin."""
    if block.offset == 0 and encoding == "utf-8" and block.data.startswith(UTF8_MARK):
        return block.data[len(UTF8_MARK) :], len(UTF8_MARK)
    return block.data, block.offset


def _read_stream(piece: FileRange, options: ReadOptions) -> Iterator[Records]:
    """Read a whole file whose bytes cannot be cut at newlines; a range that is not its start has nothing."""
    if piece.start > 0 or piece.length == 0:
        return
    codec = width_codec(canonical(options.encoding))
    errors = "surrogatepass" if codec.startswith("utf-") else "replace"
    held: list[str] = []
    offset = mark = before = 0
    with Stream(piece) as stream:
        for text, mark_bytes, position in decode_stream(
            stream, options.encoding, options.encoding_errors, options.read_bytes
        ):
            mark += mark_bytes
            cut = text.rfind("\n") + 1
            if not cut:
                held.append(text)
                continue
            raw_lines = "".join((*held, text[:cut])).split("\n")
            raw_lines.pop()
            held = [text[cut:]]
            widths = [len(f"{line}\n".encode(codec, errors)) for line in raw_lines]
            widths[0] += mark
            mark = 0
            offsets = list(accumulate(widths, initial=offset))
            offset = offsets.pop()
            lines = [_without_return(line) for line in raw_lines]
            yield from sliced(offsets, lines, before, position, options)
            before = position
        last = "".join(held)
        if last:
            yield [offset], [last], piece.file_bytes


def _without_return(line: str) -> str:
    return line[:-1] if line.endswith("\r") else line


def read_batches(piece: FileRange, options: ReadOptions) -> Iterator[tuple[Any, int]]:
    """Yield the lines of a range as Arrow batches (key int64, value string), with the consumed bytes."""
    import pyarrow as pa

    encoding = canonical(options.encoding)
    if not splits_at_newline(encoding):
        for offsets, lines, consumed in _read_stream(piece, options):
            yield (
                pa.record_batch([pa.array(offsets, pa.int64()), arrow_strings(lines, piece.path)], _NAMES),
                consumed,
            )
        return
    for block in line_blocks(piece, options.read_bytes):
        if encoding == "utf-8" and options.encoding_errors == "strict":
            data, offset = without_mark(block, encoding)
            decode(data, piece.path, offset, encoding, "strict")
            values = None if not data else _strings(LineBlock(data, offset, 0))
        else:
            lines = decode_lines(block, piece.path, options)
            values = None if not lines else arrow_strings(lines, piece.path)
        if values is not None:
            yield pa.record_batch([pa.array(block.line_offsets()), values], _NAMES), block.consumed_bytes


_NAMES = ["key", "value"]


def arrow_strings(lines: list[str], path: str) -> Any:
    """Make an Arrow string column. Raises BadInput for text with surrogates, which Arrow cannot hold."""
    import pyarrow as pa

    try:
        return pa.array(lines, pa.string())
    except (UnicodeEncodeError, pa.ArrowException) as error:
        raise BadInput(
            f"{path} has bytes that are not text; map_batch needs --encoding-errors replace"
        ) from error


def _strings(block: LineBlock) -> Any:
    """Make an Arrow string column of a block's lines from its bytes, which are valid UTF-8."""
    import numpy as np
    import pyarrow as pa

    data = np.frombuffer(block.data, dtype=np.uint8)
    keep = data != 10
    ends = block.line_ends()
    dropped = np.arange(len(ends), dtype=np.int64)
    if b"\r\n" in block.data:
        returns = (data[:-1] == 13) & (data[1:] == 10)
        keep[:-1] &= ~returns
        before = np.flatnonzero(returns) + 1
        dropped += np.searchsorted(before, ends, side="right")
    offsets = np.zeros(len(ends) + 1, dtype=np.int32)
    offsets[1:] = ends - dropped
    kept = pa.py_buffer(data[keep])
    return pa.Array.from_buffers(pa.string(), len(ends), [None, pa.py_buffer(offsets), kept])
