"""What the formats of typed columns share: pairs in row groups.

Each of the columns key and value has one type in the whole file: `column_types` finds it from the objects
in the first row group. None fits every type, but a column (or a list in it) that holds only None in the
first row group has the type null to the end. Row groups end at a number of rows or of bytes, both counted
from the pairs. So neither the file nor whether the job succeeds depends on which pairs come in one batch.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mr.errors import UnencodableKey, UnencodableValue
from mr.formats.output.column_types import (
    NoCommonType,
    cast_column,
    common,
    normal,
    settled,
    to_column,
    type_of,
)

#: Rows, and bytes as `_sizes` counts them, at which a row group ends.
ROW_GROUP_ROWS = 131_072
ROW_GROUP_BYTES = 64 * 1024 * 1024

_ERRORS: dict[str, type[UnencodableKey | UnencodableValue]] = {
    "key": UnencodableKey,
    "value": UnencodableValue,
}


class RowGroupWriter(ABC):
    """Collects pairs; a subclass writes them in row groups."""

    #: The format's name in messages.
    name: ClassVar[str]

    def __init__(self, file: Any) -> None:
        self._file = file
        self._opened = False
        self._types: dict[str, pa.DataType] = {"key": pa.null(), "value": pa.null()}
        self._held: list[pa.Table] = []
        self._held_rows = 0
        self._held_bytes = 0

    @abstractmethod
    def open(self, file: Any, schema: pa.Schema) -> None:
        """Begin the file; called once, first. Raises what `write_group` does."""

    @abstractmethod
    def write_group(self, group: pa.Table) -> None:
        """Write a row group. Raises ValueError, TypeError and the like for what the format cannot hold."""

    @abstractmethod
    def close(self) -> None:
        """End the file; called once, last."""

    def pairs(self, keys: Sequence[Any], values: Sequence[Any]) -> None:
        """Write pairs of Python objects."""
        items = {"key": keys, "value": values}
        columns = {}
        for name in items:
            with self._refusing(name):
                columns[name] = to_column(items[name], type_of(items[name]))

        def piece(start: int, stop: int) -> dict[str, Any]:
            if stop - start == len(keys):
                return columns
            return {
                name: to_column(items[name][start:stop], type_of(items[name][start:stop])) for name in items
            }

        self._hold(columns, piece)

    def table(self, table: Any) -> None:
        """Write a table."""
        columns = {}
        for name in ("key", "value"):
            column = table.column(name)
            with self._refusing(name):
                columns[name] = cast_column(column, normal(column.type))
        self._hold(
            columns,
            lambda start, stop: {name: column.slice(start, stop - start) for name, column in columns.items()},
        )

    def end(self) -> None:
        """Write what is left and the footer; a file without rows has columns of type null."""
        self._write_group()
        self._open()
        self.close()

    def _agreed(self, name: str, found: pa.DataType) -> pa.DataType:
        """Return the type of what was written and what comes; after the first row group it is fixed."""
        known = self._types[name]
        both = common(known, found)
        if both is None or (self._opened and settled(both) != known):
            raise _ERRORS[name](f"a {name} of type {found} follows {name}s of type {known}; {self._advice}")
        return both

    def _hold(self, columns: dict[str, Any], piece: Callable[[int, int], dict[str, Any]]) -> None:
        """Keep rows, and write a row group at each row that fills one.

        `piece` returns the columns of some of the rows. Their type must be that of these rows alone: rows
        after the end of a row group do not affect it.
        """
        totals = np.cumsum(sum(_sizes(column) for column in columns.values()))
        start, before, rows = 0, 0, len(totals)
        while start < rows:
            room = ROW_GROUP_BYTES - self._held_bytes
            filled = int(np.searchsorted(totals, before + room)) + 1
            stop = min(filled, start + ROW_GROUP_ROWS - self._held_rows, rows)
            self._keep(piece(start, stop))
            self._held_rows += stop - start
            self._held_bytes += int(totals[stop - 1]) - before
            start, before = stop, int(totals[stop - 1])
            if self._held_rows >= ROW_GROUP_ROWS or self._held_bytes >= ROW_GROUP_BYTES:
                self._write_group()

    def _keep(self, columns: dict[str, Any]) -> None:
        """Keep the columns of some rows of one row group."""
        held = {}
        for name, column in columns.items():
            self._types[name] = self._agreed(name, column.type)
            with self._refusing(name):
                held[name] = cast_column(column, self._types[name])
        self._held.append(pa.table(held))

    def _write_group(self) -> None:
        """Write the held rows as one row group."""
        if not self._held:
            return
        self._types = {name: settled(found) for name, found in self._types.items()}
        with self._refusing("value"):
            held = [
                {name: cast_column(table.column(name), wanted) for name, wanted in self._types.items()}
                for table in self._held
            ]
            group = pa.concat_tables(map(pa.table, held)).combine_chunks()
            self._open()
            self.write_group(group)
        self._held, self._held_rows, self._held_bytes = [], 0, 0

    def _open(self) -> None:
        if not self._opened:
            self.open(self._file, pa.schema(list(self._types.items())))
            self._opened = True

    @property
    def _advice(self) -> str:
        return f"a column of {self.name} has one type: make them uniform, or choose another output format"

    @contextmanager
    def _refusing(self, column: str) -> Iterator[None]:
        """Turn what Arrow and the format cannot hold into UnencodableKey or UnencodableValue."""
        try:
            yield
        except NoCommonType as error:
            raise _ERRORS[column](f"{column}s are {error}; {self._advice}") from error
        except (ValueError, TypeError, NotImplementedError, OverflowError, KeyError) as error:  # Arrow's too
            message = f"{column}s cannot be written to {self.name}: {error}; {self._advice}"
            raise _ERRORS[column](message) from error


def _sizes(column: Any) -> Any:
    """Count the bytes of each row of a column: 8, plus its characters or the sum of what is nested.

    A null counts 8 whatever its type; as a member of a struct it counts 0, as if it were missing. So the
    count of a row does not depend on the other rows.
    """
    if isinstance(column, pa.ChunkedArray):
        return np.concatenate([np.zeros(0, np.int64), *map(_sizes, column.chunks)])
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        return pc.fill_null(pc.binary_length(column), 0).to_numpy(zero_copy_only=False).astype(np.int64) + 8
    if pa.types.is_list(kind):
        lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
        inside = np.concatenate(([0], np.cumsum(_sizes(column.flatten()))))
        ends = np.cumsum(lengths)
        return inside[ends] - inside[ends - lengths] + 8
    sizes = np.full(len(column), 8, dtype=np.int64)
    for member in column.flatten() if pa.types.is_struct(kind) else ():
        sizes += np.where(member.is_valid().to_numpy(zero_copy_only=False), _sizes(member), 0)
    return sizes
