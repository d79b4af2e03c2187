"""Pairs as a Parquet file with the columns key and value.

Each column has one type in the whole file: that of its first objects (None fits every type).
Integers are not widened to floats on the way, so whether a job works does not depend on which
pairs meet in one batch. Row groups are cut at counted rows and bytes.
"""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mr.errors import UnencodableKey, UnencodableValue
from mr.formats.rendering import ordered

#: Rows, and bytes in memory, at which a row group is written.
ROW_GROUP_ROWS = 131_072
ROW_GROUP_BYTES = 64 * 1024 * 1024

_ERRORS: dict[str, type[UnencodableKey | UnencodableValue]] = {
    "key": UnencodableKey,
    "value": UnencodableValue,
}
_ADVICE = "a Parquet column has one type: make them uniform, or choose another output format"


class ParquetRenderer:
    """Collects pairs and writes them in row groups."""

    def __init__(self, sink: Any) -> None:
        self._sink = sink
        self._types: dict[str, pa.DataType] = {"key": pa.null(), "value": pa.null()}
        self._held: list[pa.Table] = []
        self._held_rows = 0
        self._held_bytes = 0
        self._writer: pq.ParquetWriter | None = None

    def pairs(self, keys: Sequence[Any], values: Sequence[Any]) -> None:
        """Write pairs of Python objects."""
        self.table(pa.table({"key": _column("key", keys), "value": _column("value", values)}))

    def table(self, table: Any) -> None:
        """Write a table."""
        columns = {}
        for name in ("key", "value"):
            column = _normal(table.column(name))
            self._types[name] = self._agreed(name, column.type)
            columns[name] = column
        for start in range(0, table.num_rows, ROW_GROUP_ROWS):
            self._hold(pa.table(columns).slice(start, ROW_GROUP_ROWS))

    def end(self) -> None:
        """Write what is left and the footer; a file without rows has columns of type null."""
        self._write(self._held_rows)
        self._open().close()

    def _agreed(self, name: str, found: pa.DataType) -> pa.DataType:
        known = self._types[name]
        if found.equals(known) or pa.types.is_null(found):
            return known
        if pa.types.is_null(known) and self._writer is None:
            return found
        raise _ERRORS[name](f"a {name} of type {found} follows {name}s of type {known}; {_ADVICE}")

    def _hold(self, table: pa.Table) -> None:
        self._held.append(table)
        self._held_rows += table.num_rows
        self._held_bytes += table.nbytes
        while self._held_rows >= ROW_GROUP_ROWS:
            self._write(ROW_GROUP_ROWS)
        if self._held_bytes >= ROW_GROUP_BYTES:
            self._write(self._held_rows)

    def _write(self, rows: int) -> None:
        """Write the first `rows` held rows as one row group."""
        if not rows:
            return
        schema = pa.schema(list(self._types.items()))
        held = pa.concat_tables([table.cast(schema) for table in self._held])
        self._open().write_table(held.slice(0, rows).combine_chunks(), row_group_size=max(rows, 1))
        rest = held.slice(rows)
        self._held = [rest] if rest.num_rows else []
        self._held_rows = rest.num_rows
        self._held_bytes = rest.nbytes

    def _open(self) -> pq.ParquetWriter:
        if self._writer is None:
            schema = pa.schema(list(self._types.items()))
            self._writer = pq.ParquetWriter(self._sink, schema, compression="zstd")
        return self._writer


def _column(name: str, items: Sequence[Any]) -> pa.Array:
    """Make an Arrow column of objects of one type. Raises UnencodableKey or UnencodableValue."""
    kinds = set(map(type, items)) - {type(None)}
    if len(kinds) > 1:
        shown = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise _ERRORS[name](f"{name}s are of several types ({shown}); {_ADVICE}")
    if kinds & {set, frozenset}:
        items = [None if item is None else ordered(item) for item in items]
    try:
        return pa.array(items)
    except (pa.ArrowException, UnicodeEncodeError, OverflowError, TypeError, ValueError) as error:
        raise _ERRORS[name](f"{name}s cannot be written to Parquet: {error}; {_ADVICE}") from error


def _normal(column: Any) -> Any:
    """Bring a column to the type that Python objects of its kind would have given."""
    kind = column.type
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return column.cast(pa.string())
    if pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        return column.cast(pa.binary())
    if pa.types.is_integer(kind) and kind != pa.uint64():
        return column.cast(pa.int64())
    if pa.types.is_floating(kind):
        return column.cast(pa.float64())
    if pa.types.is_dictionary(kind):
        return _normal(column.cast(kind.value_type))
    return column
