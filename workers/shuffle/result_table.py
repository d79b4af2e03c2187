"""Tables of results: columns `key` and `value`, native where they can be, and as Python pairs on demand."""

from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from mr.workers.shuffle.columns import Column, field, key_list, kind_of, value_list
from mr.workers.shuffle.rows import Positions


def result_table(keys: Column, values: Column, offsets: Positions | None = None) -> pa.Table:
    """A table of keys and values; with `offsets`, list i goes from `offsets[i]` to the next."""
    item = field("value", values.kind)
    data = values.array()
    if offsets is not None:
        item = pa.field("value", pa.list_(item.with_name("item")))
        data = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), data, type=item.type)
    return pa.table([keys.array(), data], schema=pa.schema([field("key", keys.kind), item]))


def is_native(table: pa.Table) -> bool:
    """Whether both columns are plain str, bytes, int64, float64 or bool, so that a writer may take them as
    they are. If not, `to_pairs` gives what they stand for."""
    return all(not pa.types.is_list(item.type) and item.metadata is None for item in table.schema)


def to_pairs(table: pa.Table) -> tuple[list[Any], list[Any]]:
    """Keys and values as Python objects."""
    keys = key_list(Column(kind_of(table.schema.field(0)), table.column(0)))
    item = table.schema.field(1)
    if not pa.types.is_list(item.type):
        return keys, value_list(Column(kind_of(item), table.column(1)))
    data = table.column(1).combine_chunks()
    lists = pa.concat_arrays(data.chunks) if isinstance(data, pa.ChunkedArray) else data
    flat = value_list(Column(kind_of(item.type.value_field), lists.flatten()))
    bounds = np.concatenate(([0], np.cumsum(lists.value_lengths().to_numpy()))).tolist()
    return keys, [flat[start:stop] for start, stop in pairwise(bounds)]
