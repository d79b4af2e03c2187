"""What the formats of lines share: how an object is shown as text.

A str is shown as it is, bytes as themselves, everything else as Python's `str()`: `None`, `True`, `0.1`,
`(1, 'a')`. The members of a set are sorted, since their own order changes from run to run. Nothing is
escaped: a tab or a line end inside a key stays one.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from mr.errors import UnencodableValue

#: Types that an f-string shows as str() does, and fast.
PLAIN = frozenset({str, int, float, bool, type(None)})
#: Rows of a table rendered at a time, and their bytes.
_TABLE_ROWS = 65536
_TABLE_BYTES = 4 * 1024 * 1024


def show(item: Any) -> str:
    """Show one object as text; bytes that are not UTF-8 become surrogates, which encode back to them."""
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
    """Return repr() with the members of sets sorted."""
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
    """Sort the members of a set the same way in every process: by value if they are of one plain type."""
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
    with showable():
        return [f"{item}" for item in items] if kinds <= PLAIN else list(map(show, items))


@contextmanager
def showable() -> Iterator[None]:
    """Raise UnencodableValue where a plain object cannot be shown: an integer of too many digits."""
    try:
        yield
    except ValueError as error:
        raise UnencodableValue(f"a result cannot be shown as text: {error}") from error


def encode_text(text: str) -> bytes:
    """Encode text as UTF-8. Raises UnencodableValue for surrogates that stand for no byte."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        around = text[max(error.start - 20, 0) : error.end + 20]
        raise UnencodableValue(
            f"a result holds the lone surrogate {text[error.start]!a}, which is no text: {around!a}"
        ) from error


class LineWriter:
    """Writes pairs into a file as lines, which a subclass makes."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def lines(self, keys: Sequence[Any], values: Sequence[Any]) -> bytes:
        """Make the lines of pairs of Python objects. Raises UnencodableKey and UnencodableValue."""
        raise NotImplementedError

    def pairs(self, keys: Sequence[Any], values: Sequence[Any]) -> None:
        """Write pairs of Python objects."""
        self._file.write(self.lines(keys, values))

    def table(self, table: Any) -> None:
        """Write a table."""
        for batch in small_batches(table):
            self.pairs(batch.column("key").to_pylist(), batch.column("value").to_pylist())

    def end(self) -> None:
        """Write nothing more."""


def small_batches(table: Any) -> list[Any]:
    """Cut a table into batches of bounded rows and, on the average, bytes."""
    if not hasattr(table, "to_batches"):
        return [table]
    row_bytes = max(1, table.nbytes // max(1, table.num_rows))
    return table.to_batches(max_chunksize=max(1, min(_TABLE_ROWS, _TABLE_BYTES // row_bytes)))  # type: ignore[no-any-return]
