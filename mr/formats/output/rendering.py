"""Pairs as lines: text, jsonl and csv.

How one object is shown as text: str as it is; bytes as themselves; everything else as Python's
`str()`, so `None`, `True`, `0.1`, `(1, 'a')`; sets with their members in order, since their own
order changes from run to run. Nothing is escaped in text output: a tab or a line end inside a key
stays one.
"""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec

from mr.error_text import safe_repr
from mr.errors import UnencodableKey, UnencodableValue

Write = Callable[[Any], int]

#: Types that an f-string shows as str() does, fast.
_PLAIN = frozenset({str, int, float, bool, type(None)})
#: Rows of a table rendered at a time, and their bytes.
_TABLE_ROWS = 65536
_TABLE_BYTES = 4 * 1024 * 1024


def show(item: Any) -> str:
    """Show one object as text; bytes become UTF-8 with surrogate escapes, which encode back to themselves."""
    if isinstance(item, str):
        return str(item)
    if isinstance(item, bytes | bytearray):
        return item.decode("utf-8", "surrogateescape")
    if isinstance(item, set | frozenset | tuple | list | dict) and _holds_set(item):
        return _representation(item)
    return str(item)


def _holds_set(item: Any) -> bool:
    if isinstance(item, set | frozenset):
        return True
    if isinstance(item, dict):
        return any(_holds_set(member) for pair in item.items() for member in pair)
    return isinstance(item, list | tuple) and any(map(_holds_set, item))


def _representation(item: Any) -> str:
    """Give repr() with the members of sets in order."""
    if isinstance(item, set | frozenset):
        body = ", ".join(_representation(member) for member in ordered(item))
        shown = f"{{{body}}}" if item else "set()"
        return f"frozenset({shown if item else ''})" if isinstance(item, frozenset) else shown
    if type(item) is dict:
        return f"{{{', '.join(f'{_representation(k)}: {_representation(v)}' for k, v in item.items())}}}"
    if type(item) is list:
        return f"[{', '.join(map(_representation, item))}]"
    if type(item) is tuple:
        return f"({', '.join(map(_representation, item))}{',' if len(item) == 1 else ''})"
    return repr(item)


def ordered(items: Iterable[Any]) -> list[Any]:
    """Sort the members of a set the same way in every process: naturally when of one plain type."""
    members = list(items)
    kinds = set(map(type, members))
    if len(kinds) == 1 and kinds <= {str, bytes, int, float}:
        return sorted(members)
    return sorted(members, key=lambda member: (type(member).__name__, _representation(member)))


def texts(items: Sequence[Any]) -> list[str]:
    """Show many objects as text."""
    kinds = set(map(type, items))
    if kinds == {str}:
        return list(items)
    with _showable():
        return [f"{item}" for item in items] if kinds <= _PLAIN else list(map(show, items))


@contextmanager
def _showable() -> Iterator[None]:
    """Turn the one failure to show a plain object into UnencodableValue: an integer of too many digits."""
    try:
        yield
    except ValueError as error:
        raise UnencodableValue(f"a result cannot be shown as text: {error}") from error


def encode_text(text: str) -> bytes:
    """Encode what is to be written. Raises UnencodableValue for surrogates that stand for no byte."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        around = text[max(error.start - 20, 0) : error.end + 20]
        raise UnencodableValue(
            f"a result holds the lone surrogate {text[error.start]!a}, which is no text: {around!a}"
        ) from error


class TextRenderer:
    """`key<TAB>value` and a newline for each pair."""

    def __init__(self, write: Write) -> None:
        self._write = write

    def pairs(self, keys: Sequence[Any], values: Sequence[Any]) -> None:
        """Write pairs of Python objects."""
        if not set(map(type, keys)) | set(map(type, values)) <= _PLAIN:
            keys, values = texts(keys), texts(values)
        with _showable():
            lines = [f"{key}\t{value}\n" for key, value in zip(keys, values, strict=True)]
        self._write(encode_text("".join(lines)))

    def table(self, table: Any) -> None:
        """Write a table without making Python objects of strings, bytes and integers."""
        import pyarrow as pa
        import pyarrow.compute as pc

        tab, newline, nothing = (pa.scalar(mark, pa.large_binary()) for mark in (b"\t", b"\n", b""))
        for batch in _batches(table):
            keys, values = (_arrow_text(batch.column(name)) for name in ("key", "value"))
            lines = pc.binary_join_element_wise(keys, tab, values, newline, nothing)
            self._write(_string_bytes(lines))

    def end(self) -> None:
        """Write nothing more."""


def _batches(table: Any) -> list[Any]:
    """Cut a table into batches of bounded rows and, on the average, bytes."""
    if not hasattr(table, "to_batches"):
        return [table]
    row_bytes = max(1, table.nbytes // max(1, table.num_rows))
    return table.to_batches(max_chunksize=max(1, min(_TABLE_ROWS, _TABLE_BYTES // row_bytes)))  # type: ignore[no-any-return]


def _arrow_text(column: Any) -> Any:
    """Show a column as a large_binary one, as `show` would each of its elements."""
    import pyarrow as pa
    import pyarrow.types as kind

    plain = column.null_count == 0
    if plain and (kind.is_string(column.type) or kind.is_large_string(column.type)):
        return column.cast(pa.large_string()).cast(pa.large_binary())
    if plain and (kind.is_binary(column.type) or kind.is_large_binary(column.type)):
        return column.cast(pa.large_binary())
    if plain and kind.is_integer(column.type):
        return column.cast(pa.string()).cast(pa.large_string()).cast(pa.large_binary())
    shown = texts(column.to_pylist())
    return pa.array([text.encode("utf-8", "surrogateescape") for text in shown], pa.large_binary())


def _string_bytes(lines: Any) -> Any:
    """Give the characters of a large_binary column without nulls as one buffer."""
    import numpy as np

    _, offsets, data = lines.buffers()
    edges = np.frombuffer(offsets, dtype=np.int64)[lines.offset : lines.offset + len(lines) + 1]
    return memoryview(data)[int(edges[0]) : int(edges[-1])]


class CsvRenderer:
    """A header `key,value` and a row for each pair; None is an empty cell; rows end with \\n."""

    _SPECIAL = re.compile('[",\r\n]')

    def __init__(self, write: Write) -> None:
        self._write = write
        write(b"key,value\n")

    def pairs(self, keys: Sequence[Any], values: Sequence[Any]) -> None:
        """Write pairs of Python objects."""
        rows = [f"{key},{value}\n" for key, value in zip(self._cells(keys), self._cells(values), strict=True)]
        self._write(encode_text("".join(rows)))

    def table(self, table: Any) -> None:
        """Write a table."""
        for batch in _batches(table):
            self.pairs(batch.column("key").to_pylist(), batch.column("value").to_pylist())

    def end(self) -> None:
        """Write nothing more."""

    def _cells(self, items: Sequence[Any]) -> list[str]:
        cells = texts(items)
        if type(None) in set(map(type, items)):
            cells = ["" if item is None else cell for item, cell in zip(items, cells, strict=True)]
        if self._SPECIAL.search("\0".join(cells)):
            return [self._quoted(cell) for cell in cells]
        return cells

    def _quoted(self, cell: str) -> str:
        if self._SPECIAL.search(cell) is None:
            return cell
        return '"' + cell.replace('"', '""') + '"'


class JsonLinesRenderer:
    """`{"key":...,"value":...}` for each pair.

    Tuples are arrays, sets are arrays in order, bytes must be UTF-8 and are strings, NaN and the
    infinities are null, keys of objects are strings.
    """

    def __init__(self, write: Write) -> None:
        self._write = write
        self._encode = msgspec.json.Encoder().encode

    def pairs(self, keys: Sequence[Any], values: Sequence[Any]) -> None:
        """Write pairs of Python objects."""
        keys, values = self._plain(keys, UnencodableKey), self._plain(values, UnencodableValue)
        encode = self._encode
        try:
            lines = [
                b'{"key":%b,"value":%b}\n' % pair
                for pair in zip(map(encode, keys), map(encode, values), strict=True)
            ]
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise self._culprit(keys, values) from error
        self._write(b"".join(lines))

    def table(self, table: Any) -> None:
        """Write a table."""
        for batch in _batches(table):
            self.pairs(batch.column("key").to_pylist(), batch.column("value").to_pylist())

    def end(self) -> None:
        """Write nothing more."""

    def _plain(self, items: Sequence[Any], error: type[UnencodableKey | UnencodableValue]) -> Sequence[Any]:
        if set(map(type, items)) <= _PLAIN:
            return items
        return [_jsonable(item, error) for item in items]

    def _culprit(self, keys: Sequence[Any], values: Sequence[Any]) -> UnencodableKey | UnencodableValue:
        """Find the object that JSON cannot hold."""
        for items, error in ((keys, UnencodableKey), (values, UnencodableValue)):
            for item in items:
                try:
                    self._encode(item)
                except (TypeError, ValueError, OverflowError, RecursionError) as cause:
                    return error(f"{safe_repr(item, 80)} cannot be written as JSON: {cause}")
        return UnencodableValue("a result cannot be written as JSON")


def _jsonable(item: Any, error: type[UnencodableKey | UnencodableValue]) -> Any:
    """Bring an object to what JSON has. Raises `error` for bytes that are not UTF-8."""
    if type(item) in _PLAIN:
        return item
    if isinstance(item, bytes | bytearray):
        try:
            return item.decode("utf-8")
        except UnicodeDecodeError as cause:
            raise error(f"{safe_repr(item, 80)} is not UTF-8 text, so JSON cannot hold it") from cause
    if isinstance(item, list | tuple):
        return [_jsonable(member, error) for member in item]
    if isinstance(item, set | frozenset):
        return [_jsonable(member, error) for member in ordered(item)]
    if isinstance(item, dict):
        return {_member_name(name, error): _jsonable(member, error) for name, member in item.items()}
    return item


def _member_name(name: Any, error: type[UnencodableKey | UnencodableValue]) -> str:
    if isinstance(name, float) and not math.isfinite(name):
        return "null"
    if name is None or isinstance(name, bool):
        return msgspec.json.encode(name).decode()
    return show(_jsonable(name, error))


RENDERERS: dict[str, type[TextRenderer | CsvRenderer | JsonLinesRenderer]] = {
    "text": TextRenderer,
    "jsonl": JsonLinesRenderer,
    "csv": CsvRenderer,
}
