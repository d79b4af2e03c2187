"""Format `csv`: one record a row below the header; key = number of the row from 0, value = dict of str.

A file is read whole by one task, since a quoted cell may hold line ends. Cells are separated by
commas and quoted with double quotes; blank lines are skipped; every row has as many cells as the header.
"""

import csv
import sys
from collections.abc import Iterator
from typing import Any

from mr.errors import BadInput
from mr.formats.input.compression import Stream
from mr.formats.input.lines import decoded_lines
from mr.formats.input.options import ReadOptions, Rows, batches
from mr.protocol.jobs import FileRange


def read(piece: FileRange, options: ReadOptions) -> Iterator[Rows]:
    """Yield the rows of a file as (row numbers, dicts, consumed bytes). Raises BadInput."""
    if piece.start > 0:
        return
    csv.field_size_limit(sys.maxsize)
    with Stream(piece) as stream:
        lines = _Lines(stream, options)
        reader = csv.reader(lines, strict=True)
        header: list[str] | None = None
        rows: list[dict[str, str]] = []
        number = cut = 0
        for cells in _checked(reader, piece.path):
            if header is None:
                header = _header(cells, piece.path)
                continue
            if len(cells) != len(header):
                counts = f"{len(cells)} cells where the header has {len(header)}"
                raise BadInput(f"{piece.path}, line {reader.line_num}: {counts}")
            rows.append(dict(zip(header, cells, strict=True)))
            if len(rows) == options.chunk_rows or lines.characters - cut >= options.read_bytes:
                yield list(range(number, number + len(rows))), rows, stream.position()
                number += len(rows)
                rows, cut = [], lines.characters
        if rows:
            yield list(range(number, number + len(rows))), rows, piece.file_bytes


def _header(cells: list[str], path: str) -> list[str]:
    doubled = sorted({cell for cell in cells if cells.count(cell) > 1})
    if doubled:
        raise BadInput(f"{path}, line 1: the header names {doubled[0]!r} twice")
    return cells


def _checked(reader: Any, path: str) -> Iterator[list[str]]:
    """Yield rows that are not blank. Raises BadInput."""
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise BadInput(f"{path}, line {reader.line_num}: not valid CSV: {error}") from error
        if cells is None:
            return
        if cells:
            yield cells


class _Lines:
    """The lines of a stream with their ends, and how many characters they had so far."""

    def __init__(self, stream: Stream, options: ReadOptions) -> None:
        self._blocks = decoded_lines(stream, options)
        self.characters = 0

    def __iter__(self) -> Iterator[str]:
        """Yield the lines. Raises BadInput."""
        for lines, _, _ in self._blocks:
            lines.reverse()
            while lines:
                self.characters += len(lines[-1])
                yield lines.pop()  # not held while it is parsed: it may be very long


def read_batches(piece: FileRange, options: ReadOptions) -> Iterator[tuple[Any, int]]:
    """Yield the rows as Arrow batches; value is a struct of strings."""
    yield from batches(read(piece, options), piece.path)
