"""What a built-in reducer of `mr.agg` does with rows: the two kinds of kernel, and errors that name a key.

The rows of a key are named by the key's number (`codes`), so an aggregation is one pass of NumPy over a
column, in row order. What NumPy cannot do exactly (integers that might overflow, mixed types) is done on
Python objects by the functions that `mr.agg` itself uses.
"""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from mr.error_text import safe_repr
from mr.errors import BadAggregate, SegmentCorrupt
from mr.protocol.aggregation import AggregationSpec
from mr.workers.shuffle.columns import Column, key_list
from mr.workers.shuffle.key_batches import cut_keys, key_weights
from mr.workers.shuffle.result_table import result_table
from mr.workers.shuffle.rows import Positions, Rows
from mr.workers.shuffle.sort import number_keys, sort_rows

States = dict[str, Column]


class Kernel(Protocol):
    """One aggregation over rows."""

    def combine(self, rows: Rows) -> Rows:
        """Partial results, in the order of the values; keys in any order. Raises BadAggregate."""

    def results(self, rows: Rows) -> Iterator[pa.Table]:
        """The results of complete keys, in key order. Raises BadAggregate, naming the key."""


class BadValue(BadAggregate):
    """A value of the key numbered `code` cannot be aggregated."""

    def __init__(self, reason: str, code: int) -> None:
        super().__init__(reason)
        self.code = code


class BadValueOfKey(BadAggregate):
    """A value of `key` cannot be aggregated."""

    def __init__(self, reason: str, key: Any) -> None:
        super().__init__(f"{reason} (key {safe_repr(key)})")
        self.reason = reason
        self.key = key


@contextlib.contextmanager
def naming(keys: Column) -> Iterator[None]:
    """Turn a BadValue into a BadValueOfKey."""
    try:
        yield
    except BadValue as error:
        key = key_list(keys.slice(error.code, error.code + 1))[0]
        raise BadValueOfKey(str(error), key) from error.__cause__


def codes_of_values(rows: Rows, codes: Positions) -> Positions:
    """The key's number for each value of raw rows, from the key's number for each row."""
    return codes if rows.offsets is None else np.repeat(codes, rows.lengths())


class StateKernel(ABC):
    """An aggregation that keeps a state for each key, in columns of its own."""

    def __init__(self, spec: AggregationSpec) -> None:
        self.spec = spec

    @abstractmethod
    def start(self, values: Column, codes: Positions, groups: int) -> States:
        """The state of each of `groups` keys, from values; value i belongs to key `codes[i]`."""

    @abstractmethod
    def merge(self, states: States, codes: Positions, groups: int) -> States:
        """The state of each of `groups` keys, from partial states; state i belongs to key `codes[i]`."""

    @abstractmethod
    def final(self, states: States) -> Column:
        """The result of each key."""

    def combine(self, rows: Rows) -> Rows:
        """One partial state for each distinct key, in order of first appearance. Raises BadAggregate."""
        if rows.state not in (None, self.spec):
            raise SegmentCorrupt(f"a map output holds partial results of {rows.state}, not of {self.spec}")
        keys, codes = number_keys(rows.keys)
        with naming(keys):
            if rows.state is None:
                states = self.start(rows.columns["value"], codes_of_values(rows, codes), len(keys))
            else:
                states = self.merge(rows.columns, codes, len(keys))
        return Rows(keys, states, None, self.spec)

    def results(self, rows: Rows) -> Iterator[pa.Table]:
        """All results in one table."""
        states = self.combine(rows)
        with naming(states.keys):
            values = self.final(states.columns)
        view = sort_rows(Rows(states.keys, {"value": values}))
        yield result_table(view.keys, view.values_of(0, len(view.keys))["value"])


class ValueKernel:
    """An aggregation whose partial results are the values, as raw rows, and whose results are lists."""

    def __init__(self, spec: AggregationSpec) -> None:
        self.spec = spec

    def lists(self, values: Column, offsets: Positions) -> tuple[Column, Positions]:
        """The results of complete keys, from their values: list i goes from `offsets[i]` to the next."""
        return values, offsets

    def combine(self, rows: Rows) -> Rows:
        """The rows as they are."""
        if rows.state is not None:
            raise SegmentCorrupt(f"a map output holds partial results of {rows.state}, not of {self.spec}")
        return rows

    def results(self, rows: Rows) -> Iterator[pa.Table]:
        """Tables of bounded size, unless one key alone is larger."""
        view = sort_rows(self.combine(rows))
        for first, last in cut_keys(key_weights(view)):
            start, stop = int(view.offsets[first]), int(view.offsets[last])
            keys, offsets = view.keys.slice(first, last), view.offsets[first : last + 1] - start
            with naming(keys):
                lists = self.lists(view.values_of(start, stop)["value"], offsets)
            yield result_table(keys, *lists)


class SelectingKernel(ValueKernel, ABC):
    """An aggregation that needs only some of the values."""

    @abstractmethod
    def keep(self, values: Column, codes: Positions) -> tuple[Column, Positions]:
        """The values to keep, each key's in the order of the result, and the number of each one's key."""

    def combine(self, rows: Rows) -> Rows:
        """The rows of the values that are kept. Raises BadAggregate."""
        keys, codes = number_keys(super().combine(rows).keys)
        with naming(keys):
            values, codes = self.keep(rows.columns["value"], codes_of_values(rows, codes))
        return Rows(keys.take(codes), {"value": values})
