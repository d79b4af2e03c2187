"""Rows: keys with their values or their partial aggregates, in memory and as Arrow record batches.

There are two layouts. Raw: each row is a key and a run of its values in record order (column `value`, a
list); the same key may stand in several rows, in order. State: each row is a key and the partial
aggregate of its values in one or more columns, and the schema's metadata names the aggregation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa

from mr.errors import BadMessage, SegmentCorrupt
from mr.protocol.aggregation import AggregationSpec
from mr.protocol.codec import JSON, decode, encode
from mr.workers.shuffle.columns import Column, field, join, kind_of

#: Schema metadata: the AggregationSpec, as JSON, whose partial states the columns hold.
STATE: Final = b"mr.state"

#: What a row costs beside its data while rows are numbered, sorted and moved, in bytes: a place in a hash
#: table, a number, positions. Measured with small rows of distinct keys, where it is most of the cost.
ROW_BYTES: Final = 120
#: The same for each further value of a row.
ITEM_BYTES: Final = 16

Positions = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True, slots=True)
class Rows:
    """Keys, and the values or the partial state of each."""

    keys: Column
    #: Raw: `{"value": all values of all rows, one after the other}`. State: columns as long as `keys`.
    columns: dict[str, Column]
    #: Raw: row i has the values from `offsets[i]` up to `offsets[i + 1]`. None: one per row.
    offsets: Positions | None = None
    #: The aggregation whose partial states these are; None for raw.
    state: AggregationSpec | None = None

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def nbytes(self) -> int:
        """Bytes of keys, values and offsets."""
        offsets = 0 if self.offsets is None else self.offsets.nbytes
        return self.keys.nbytes + sum(column.nbytes for column in self.columns.values()) + offsets

    @property
    def weight(self) -> int:
        """What the rows take of a memory budget: their bytes, and what sorting them takes."""
        return self.nbytes + ROW_BYTES * len(self) + ITEM_BYTES * (self.values - len(self))

    @property
    def values(self) -> int:
        """Number of values (raw) or of partial states."""
        return len(next(iter(self.columns.values())))

    def lengths(self) -> Positions:
        """Number of values of each row."""
        return np.ones(len(self), np.int64) if self.offsets is None else np.diff(self.offsets)

    def slice(self, start: int, stop: int) -> "Rows":
        """The rows from `start` up to `stop`."""
        first, last, offsets = start, stop, self.offsets
        if offsets is not None:
            first, last = int(offsets[start]), int(offsets[stop])
            offsets = offsets[start : stop + 1] - first
        columns = {name: column.slice(first, last) for name, column in self.columns.items()}
        return Rows(self.keys.slice(start, stop), columns, offsets, self.state)


def concatenate(parts: Sequence[Rows]) -> Rows:
    """One after the other; columns of different kinds become encoded. At least one part, one layout."""
    if len(parts) == 1:
        return parts[0]
    if len({part.state for part in parts}) > 1:
        raise SegmentCorrupt("map outputs of one job differ in layout: an older version wrote some of them")
    columns = {name: join([part.columns[name] for part in parts], keys=False) for name in parts[0].columns}
    offsets = None
    if any(part.offsets is not None for part in parts):
        offsets = np.zeros(sum(map(len, parts)) + 1, np.int64)
        np.cumsum(np.concatenate([part.lengths() for part in parts]), out=offsets[1:])
    keys = join([part.keys for part in parts], keys=True).in_one_piece()
    return Rows(keys, columns, offsets, parts[0].state)


def to_batch(rows: Rows) -> pa.RecordBatch:
    """One record batch. The values of one batch stay below 2^31 in number and bytes."""
    fields = [field("key", rows.keys.kind)]
    arrays = [rows.keys.array()]
    for name, column in rows.columns.items():
        item = field(name, column.kind)
        if rows.state is not None:
            arrays.append(column.array())
        else:
            offsets = np.arange(len(rows) + 1) if rows.offsets is None else rows.offsets
            item = pa.field(name, pa.list_(item.with_name("item")))
            arrays.append(
                pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), column.array(), type=item.type)
            )
        fields.append(item)
    metadata = None if rows.state is None else {STATE: encode(rows.state, JSON)}
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields, metadata=metadata))


def from_batch(batch: pa.RecordBatch) -> Rows:
    """The rows that `to_batch` made a batch of. Raises SegmentCorrupt for an aggregation it cannot read."""
    schema = batch.schema
    keys = Column(kind_of(schema.field(0)), batch.column(0))
    if schema.metadata and STATE in schema.metadata:
        try:
            state = decode(schema.metadata[STATE], AggregationSpec, JSON)
        except BadMessage as error:
            raise SegmentCorrupt(f"a map output holds states of an unknown aggregation: {error}") from error
        columns = {
            item.name: Column(kind_of(item), batch.column(place))
            for place, item in enumerate(schema)
            if place
        }
        return Rows(keys, columns, None, state)
    lists = batch.column(1)
    offsets = lists.offsets.to_numpy().astype(np.int64)
    values = lists.values.slice(int(offsets[0]), int(offsets[-1] - offsets[0]))
    return Rows(
        keys, {"value": Column(kind_of(schema.field(1).type.value_field), values)}, offsets - offsets[0]
    )
