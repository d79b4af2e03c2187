"""Pairs as a Parquet file with the columns key and value.

Each column has one type in the whole file: that of the objects in its first row group. None fits
every type, but a column (or a list in it) of nothing else in the first row group stays one of nulls.
Integers are not widened to floats on the way, so whether a job works does not depend on which
pairs meet in one batch. Row groups are cut at counted rows and bytes of the pairs themselves, so
the file does not depend on it either.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mr.errors import UnencodableKey, UnencodableValue
from mr.formats.rendering import ordered

#: Rows, and bytes as `_sizes` counts them, at which a row group ends.
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
        self._hold(pa.table(columns))

    def end(self) -> None:
        """Write what is left and the footer; a file without rows has columns of type null."""
        self._write_group()
        self._open().close()

    def _agreed(self, name: str, found: pa.DataType) -> pa.DataType:
        """Give the type that fits what was written and what comes; once a row group is out, it is fixed."""
        known = self._types[name]
        both = _common(known, found)
        if both is None or (self._writer is not None and both != known):
            raise _ERRORS[name](f"a {name} of type {found} follows {name}s of type {known}; {_ADVICE}")
        return both

    def _hold(self, table: pa.Table) -> None:
        """Keep rows, and write a row group at each row that fills one."""
        totals = np.cumsum(sum(_sizes(column) for column in table.combine_chunks().columns))
        start, before = 0, 0
        while start < table.num_rows:
            room = ROW_GROUP_BYTES - self._held_bytes
            filled = int(np.searchsorted(totals, before + room)) + 1
            stop = min(filled, start + ROW_GROUP_ROWS - self._held_rows, table.num_rows)
            self._held.append(table.slice(start, stop - start))
            self._held_rows += stop - start
            self._held_bytes += int(totals[stop - 1]) - before
            start, before = stop, int(totals[stop - 1])
            if self._held_rows >= ROW_GROUP_ROWS or self._held_bytes >= ROW_GROUP_BYTES:
                self._write_group()

    def _write_group(self) -> None:
        """Write the held rows as one row group."""
        if not self._held:
            return
        schema = pa.schema(list(self._types.items()))
        group = pa.concat_tables([table.cast(schema) for table in self._held]).combine_chunks()
        self._open().write_table(group, row_group_size=group.num_rows)
        self._held, self._held_rows, self._held_bytes = [], 0, 0

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


def _common(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """Find the type that holds both, where one of them lacks members or knows only None there."""
    if one == other or pa.types.is_null(other):
        return one
    if pa.types.is_null(one):
        return other
    if pa.types.is_list(one) and pa.types.is_list(other):
        inside = _common(one.value_type, other.value_type)
        return None if inside is None else pa.list_(inside)
    if pa.types.is_struct(one) and pa.types.is_struct(other):
        members = {field.name: field.type for field in one}
        for field in other:
            inside = _common(members.get(field.name, pa.null()), field.type)
            if inside is None:
                return None
            members[field.name] = inside
        return pa.struct(list(members.items()))
    return None


def _sizes(column: Any) -> Any:
    """Count the bytes of each row of a column: characters, 8 for a number, the sum of what is nested."""
    if isinstance(column, pa.ChunkedArray):
        return np.concatenate([_sizes(chunk) for chunk in column.chunks])
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        return pc.fill_null(pc.binary_length(column), 0).to_numpy(zero_copy_only=False).astype(np.int64) + 8
    if pa.types.is_list(kind):
        lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
        inside = np.concatenate(([0], np.cumsum(_sizes(column.flatten()))))
        ends = np.cumsum(lengths)
        return inside[ends] - inside[ends - lengths] + 8
    if pa.types.is_struct(kind) and kind.num_fields:
        return sum(_sizes(field) for field in column.flatten())
    return np.full(len(column), 8, dtype=np.int64)


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
