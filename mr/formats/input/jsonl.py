"""Format `jsonl`: one JSON value a line; key = byte offset of the line, value = the parsed object.

Blank lines are skipped. Ranges, line ends and byte order marks are as in format `text`.
"""

import json
import math
import re
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from mr.formats.input import text
from mr.formats.input.bad_records import BadRecords
from mr.formats.input.encodings import canonical, decode
from mr.formats.input.lines import line_blocks
from mr.formats.input.options import ReadOptions, Rows, batches, sliced
from mr.protocol.jobs import FileRange


def read(piece: FileRange, options: ReadOptions) -> Iterator[Rows]:
    """Yield the values of a range as (offsets, objects, consumed bytes). Raises BadInput."""
    if canonical(options.job.encoding) == "utf-8" and options.job.encoding_errors == "strict":
        yield from _read_utf8(piece, options)
        return
    for offsets, lines, consumed in text.read(piece, options):
        # the standard library's parser accepts surrogates, which stand for bytes that are not text
        keys, values = _parsed(_parse_slowly, offsets, lines, piece.path, options.bad)
        del lines
        yield keys, values, consumed
        del values


def _read_utf8(piece: FileRange, options: ReadOptions) -> Iterator[Rows]:
    decode_fast = msgspec.json.Decoder().decode
    before = 0
    for block in line_blocks(piece, options):
        data, offset = text.without_mark(block, "utf-8")
        decode(data, piece.path, offset, "utf-8", "strict")
        offsets, consumed = block.line_offsets().tolist(), block.consumed_bytes
        lines = [data] if len(offsets) == 1 else data.removesuffix(b"\n").split(b"\n")
        del block, data
        keys, values = _parsed(decode_fast, offsets, lines, piece.path, options.bad)
        del lines
        yield from sliced(keys, values, before, consumed, options)
        before = consumed
        del values


def _parsed(
    parse: Callable[[Any], Any], offsets: list[int], lines: list[Any], path: str, bad: BadRecords
) -> tuple[list[int], list[Any]]:
    """Parse lines, leaving out blank ones. Raises BadInput."""
    try:
        return offsets, list(map(parse, lines))
    except (ValueError, RecursionError):
        full = [(offset, line) for offset, line in zip(offsets, lines, strict=True) if line.strip()]
    keys, values = [], []
    for offset, line in full:
        try:
            values.append(_parse_again(parse, line))
        except (ValueError, RecursionError) as error:
            bad.refuse(offset, f"{path}:{offset}: not a JSON value: {error}", line)
        else:
            keys.append(offset)
    return keys, values


def _parse_again(parse: Callable[[Any], Any], line: Any) -> Any:
    """Parse a line that may hold half a surrogate pair, such as "\\ud800", which msgspec refuses."""
    try:
        return parse(line)
    except ValueError:
        if isinstance(line, str) or _SURROGATE.search(line) is None:
            raise
        return _parse_slowly(line)


_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def _parse_slowly(line: str | bytes) -> Any:
    """Parse with the standard library, but refuse what it accepts beyond JSON. Raises ValueError."""
    return json.loads(line, parse_constant=_refuse, parse_float=_finite)


def _refuse(text: str) -> Any:
    raise ValueError(f"{text} is not in JSON")


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _refuse(text)


def read_batches(piece: FileRange, options: ReadOptions) -> Iterator[tuple[Any, int]]:
    """Yield the values as Arrow batches; the type of a batch's column is inferred from its objects."""
    yield from batches(read(piece, options), piece.path)
