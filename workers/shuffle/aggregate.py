"""The kernels of all built-in reducers of `mr.agg` by their spec, and `each`, which is made of others."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from operator import itemgetter
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa

from mr.agg import checked_tuple
from mr.errors import BadAggregate, SegmentCorrupt, UnencodableValue
from mr.protocol.aggregation import AggregationSpec
from mr.workers.shuffle.columns import Column, Kind, value_column, value_list
from mr.workers.shuffle.kernel import BadValue, BadValueOfKey, StateKernel, States, ValueKernel
from mr.workers.shuffle.result_table import to_pairs
from mr.workers.shuffle.rows import Positions, Rows
from mr.workers.shuffle.state_kernels import STATE_KERNELS
from mr.workers.shuffle.value_kernels import VALUE_KERNELS


class Each(StateKernel):
    """State: that of each part, in columns whose names begin with the part's position."""

    def __init__(self, spec: AggregationSpec) -> None:
        super().__init__(spec)
        self._parts = [_state_of(part) for part in spec.arguments if isinstance(part, AggregationSpec)]

    def start(self, values: Column, codes: Positions, groups: int) -> States:
        items = []
        for row, item in enumerate(value_list(values)):
            try:
                items.append(checked_tuple(item, len(self._parts)))
            except BadAggregate as error:
                raise BadValue(str(error), int(codes[row])) from error
        columns = [value_column(list(map(itemgetter(place), items))) for place in range(len(self._parts))]
        return _joined(
            part.start(column, codes, groups) for part, column in zip(self._parts, columns, strict=True)
        )

    def merge(self, states: States, codes: Positions, groups: int) -> States:
        return _joined(
            part.merge(_of_part(states, place), codes, groups) for place, part in enumerate(self._parts)
        )

    def final(self, states: States) -> Column:
        results = [value_list(part.final(_of_part(states, place))) for place, part in enumerate(self._parts)]
        return value_column(list(zip(*results, strict=True)))


def _joined(parts: Iterable[States]) -> States:
    return {
        f"{place}.{name}": column for place, states in enumerate(parts) for name, column in states.items()
    }


def _of_part(states: States, place: int) -> States:
    prefix = f"{place}."
    return {name.removeprefix(prefix): column for name, column in states.items() if name.startswith(prefix)}


class ListState(StateKernel):
    """State: what a ValueKernel keeps of a key's values, as one list."""

    def __init__(self, kernel: ValueKernel) -> None:
        super().__init__(kernel.spec)
        self._kernel = kernel

    def start(self, values: Column, codes: Positions, groups: int) -> States:
        with _naming_codes():
            kept = self._kernel.combine(Rows(Column(Kind.INT, pa.array(codes)), {"value": values}))
        lists: list[list[Any]] = [[] for _ in range(groups)]
        for code, value in zip(kept.keys.numpy().tolist(), value_list(kept.columns["value"]), strict=True):
            lists[code].append(value)
        try:
            return {"values": value_column(lists)}
        except UnencodableValue as error:
            raise BadValue(f"{self.spec}: {error}", error.row or 0) from error

    def merge(self, states: States, codes: Positions, groups: int) -> States:
        values, offsets = _flat(states)
        return self.start(values, np.repeat(codes, np.diff(offsets)), groups)

    def final(self, states: States) -> Column:
        values, offsets = _flat(states)
        rows = Rows(Column(Kind.INT, pa.array(np.arange(len(offsets) - 1))), {"value": values}, offsets)
        with _naming_codes():
            tables = list(self._kernel.results(rows))
        return value_column([result for table in tables for result in to_pairs(table)[1]])


@contextlib.contextmanager
def _naming_codes() -> Iterator[None]:
    """For rows whose keys are codes: turn a BadValueOfKey back into a BadValue."""
    try:
        yield
    except BadValueOfKey as error:
        raise BadValue(error.reason, error.key) from error.__cause__


def _flat(states: States) -> tuple[Column, Positions]:
    """The values of all lists, and where each list begins, plus the end."""
    lists = value_list(states["values"])
    return value_column(list(chain.from_iterable(lists))), np.cumsum([0, *map(len, lists)])


KERNELS: Mapping[str, type[StateKernel] | type[ValueKernel]] = MappingProxyType(
    {**STATE_KERNELS, **VALUE_KERNELS, "each": Each}
)


def kernel_of(spec: AggregationSpec) -> StateKernel | ValueKernel:
    """The kernel of an aggregation. Raises SegmentCorrupt for a name that only a segment can bring."""
    if spec.name not in KERNELS:
        raise SegmentCorrupt(f"there is no {spec}: a newer version wrote this map output")
    return KERNELS[spec.name](spec)


def _state_of(spec: AggregationSpec) -> StateKernel:
    kernel = kernel_of(spec)
    return kernel if isinstance(kernel, StateKernel) else ListState(kernel)


def _state_kernel(rows: Rows) -> StateKernel:
    assert rows.state is not None
    kernel = kernel_of(rows.state)
    if not isinstance(kernel, StateKernel):
        raise SegmentCorrupt(f"a map output holds states of {rows.state}, which has none")
    return kernel


def merge_states(rows: Rows) -> Rows:
    """Rows with the partial states of each key merged into one; raw rows as they are."""
    return rows if rows.state is None else _state_kernel(rows).combine(rows)


def finished(rows: Rows) -> Rows:
    """Partial states as raw rows of their results; raw rows as they are."""
    if rows.state is None:
        return rows
    return Rows(rows.keys, {"value": _state_kernel(rows).final(rows.columns)})
