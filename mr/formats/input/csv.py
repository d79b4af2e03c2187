"""Format `csv`: one record a row below the header; key = number of the row from 0, value = dict of str.

A file is read whole by one task, since a quoted cell may hold line ends. Cells are separated by
commas and quoted with double quotes; blank lines are skipped; every row has as many cells as the header.
"""

import csv
import sys
from collections.abc import Iterator
from typing import Any

from mr.formats.input.bad_records import MalformedRecord
from mr.formats.input.compression import Stream
from mr.formats.input.lines import decoded_lines
from mr.formats.input.options import ReadOptions, Rows, batches
from mr.formats.input.text import unreadable
from mr.protocol.bad_records import RECORD_CHARACTERS
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
        tolerant = options.bad.tolerant
        for cells in _rows(reader):
            if header is None:
                if wrong := _wrong(cells, cells, options):
                    raise MalformedRecord(f"{piece.path}, line {reader.line_num}: {wrong}")
                header = _header(cells, piece.path)
                continue
            if tolerant or len(cells) != len(header):
                wrong = _wrong(cells, header, options)
                if wrong and rows:
                    yield list(range(number, number + len(rows))), rows, stream.position()
                    number += len(rows)
                    rows, cut = [], lines.characters
                if wrong:
                    options.bad.refuse(number, f"{piece.path}, line {reader.line_num}: {wrong}", lines.begun)
                    number += 1
                    continue
            rows.append(dict(zip(header, cells, strict=True)))
            if len(rows) == options.chunk_rows or lines.characters - cut >= options.read_bytes:
                yield list(range(number, number + len(rows))), rows, stream.position()
                number += len(rows)
                rows, cut = [], lines.characters
        if rows:
            yield list(range(number, number + len(rows))), rows, piece.file_bytes


class _NoRow(list[str]):
    """Stands for lines that are no row: no cells, and why."""

    def __init__(self, error: csv.Error) -> None:
        super().__init__()
        self.error = error


def _header(cells: list[str], path: str) -> list[str]:
    doubled = sorted({cell for cell in cells if cells.count(cell) > 1})
    if doubled:
        raise MalformedRecord(f"{path}, line 1: the header names {doubled[0]!r} twice")
    return cells


def _wrong(cells: list[str], header: list[str], options: ReadOptions) -> str:
    """What is wrong with a row; empty if nothing is."""
    if isinstance(cells, _NoRow):
        return f"not valid CSV: {cells.error}"
    if options.bad.tolerant and (wrong := unreadable("".join(cells), options)):
        return wrong
    if len(cells) != len(header):
        return f"{len(cells)} cells where the header has {len(header)}"
    return ""


def _rows(reader: Any) -> Iterator[list[str]]:
    """Yield rows that are not blank, and _NoRow for what is none; the next line begins a row again."""
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            yield _NoRow(error)
            continue
        if cells is None:
            return
        if cells:
            yield cells


class _Lines:
    """The lines of a stream with their ends, how many characters they had so far, and how the last began."""

    def __init__(self, stream: Stream, options: ReadOptions) -> None:
        self._blocks = decoded_lines(stream, options)
        self._noting = options.bad.tolerant
        self.characters = 0
        self.begun = ""

    def __iter__(self) -> Iterator[str]:
        """Yield the lines. Raises BadInput."""
        for lines, _, _ in self._blocks:
            lines.reverse()
            while lines:
                self.characters += len(lines[-1])
                if self._noting:
                    self.begun = lines[-1][:RECORD_CHARACTERS]
                yield lines.pop()  # not held while it is parsed: it may be very long


def read_batches(piece: FileRange, options: ReadOptions) -> Iterator[tuple[Any, int]]:
    """Yield the rows as Arrow batches; value is a struct of strings."""
    yield from batches(read(piece, options), piece.path)
