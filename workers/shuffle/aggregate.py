"""The built-in reducers of `mr.agg` over whole columns: start a state from values, merge states, finish.

The rows of a key are named by the key's number (`codes`), so an aggregation is one pass of NumPy over a
column, in row order. What NumPy cannot do exactly (integers that might overflow, mixed types) is done on
Python objects by the same functions that `mr.agg` itself uses.
"""

from collections.abc import Callable
from itertools import chain
from typing import Any, Final, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mr.agg import Aggregation, add, divide, identity, pick
from mr.error_text import safe_repr
from mr.errors import BadAggregate
from mr.workers.shuffle.columns import Column, Kind, key_list, normalise, value_column, value_list
from mr.workers.shuffle.rows import Positions, Rows
from mr.workers.shuffle.sort import number_keys
from mr.workers.shuffle.value_codec import decode_value

States = dict[str, Column]


class Kernel(Protocol):
    """One aggregation that keeps a bounded state per key."""

    def start(self, values: Column, codes: Positions, groups: int) -> States:
        """The state of each of `groups` keys, from values; value i belongs to key `codes[i]`."""

    def merge(self, states: States, codes: Positions, groups: int) -> States:
        """The state of each of `groups` keys, from partial states; state i belongs to key `codes[i]`."""

    def final(self, states: States) -> Column:
        """The result of each key."""


class _BadAt(BadAggregate):
    """A value of the key numbered `code` cannot be aggregated."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def _fold(
    values: Column, codes: Positions, groups: int, step: Callable[[Any, Any], Any], start: Any
) -> Column:
    """Fold each key's values in row order, as Python objects. `start` None: with the key's first value."""
    totals: list[Any] = [start] * groups
    seen = [start is not None] * groups
    for code, value in zip(codes.tolist(), value_list(values), strict=True):
        try:
            totals[code] = step(totals[code], value) if seen[code] else value
        except BadAggregate as error:
            raise _BadAt(str(error), code) from error
        seen[code] = True
    return value_column(totals)


def _sum_integers(numbers: np.ndarray[Any, Any], codes: Positions, groups: int) -> Column:
    """Exact sums of int64: by halves of 32 bits when a sum might not fit."""
    peak = max(abs(int(numbers.min())), abs(int(numbers.max()))) if len(numbers) else 0
    if peak * len(numbers) < 1 << 63:
        totals = np.zeros(groups, np.int64)
        np.add.at(totals, codes, numbers)
        return Column(Kind.INT, pa.array(totals))
    high, low = np.zeros(groups, np.int64), np.zeros(groups, np.int64)
    np.add.at(high, codes, numbers >> 32)
    np.add.at(low, codes, numbers & 0xFFFFFFFF)
    return value_column([(h << 32) + rest for h, rest in zip(high.tolist(), low.tolist(), strict=True)])


def _sums(values: Column, codes: Positions, groups: int, name: str) -> Column:
    if values.kind is Kind.INT:
        return _sum_integers(values.numpy(), codes, groups)
    if values.kind is Kind.BOOL:
        return _sum_integers(values.numpy().astype(np.int64), codes, groups)
    if values.kind is Kind.FLOAT:
        totals = np.zeros(groups, np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            np.add.at(totals, codes, values.numpy())
        return Column(Kind.FLOAT, pa.array(totals))
    return _fold(values, codes, groups, lambda total, value: add(total, value, name), 0)


def _counts(codes: Positions, groups: int) -> Column:
    return Column(Kind.INT, pa.array(np.bincount(codes, minlength=groups).astype(np.int64)))


class Sum:
    """State: the sum so far."""

    def start(self, values: Column, codes: Positions, groups: int) -> States:
        return {"value": _sums(values, codes, groups, "sum")}

    def merge(self, states: States, codes: Positions, groups: int) -> States:
        return self.start(states["value"], codes, groups)

    def final(self, states: States) -> Column:
        return states["value"]


class Count:
    """State: the count so far."""

    def start(self, values: Column, codes: Positions, groups: int) -> States:
        return {"value": _counts(codes, groups)}

    def merge(self, states: States, codes: Positions, groups: int) -> States:
        return {"value": _sum_integers(states["value"].numpy(), codes, groups)}

    def final(self, states: States) -> Column:
        return states["value"]


class Mean:
    """State: sum and count."""

    def start(self, values: Column, codes: Positions, groups: int) -> States:
        return {"sum": _sums(values, codes, groups, "mean"), "count": _counts(codes, groups)}

    def merge(self, states: States, codes: Positions, groups: int) -> States:
        return {
            "sum": _sums(states["sum"], codes, groups, "mean"),
            "count": _sum_integers(states["count"].numpy(), codes, groups),
        }

    def final(self, states: States) -> Column:
        total, counts = states["sum"], states["count"].numpy()
        if total.kind is Kind.FLOAT or (total.kind is Kind.INT and _exact_as_float(total.numpy())):
            return Column(Kind.FLOAT, pa.array(total.numpy() / counts))
        return value_column(list(map(divide, value_list(total), counts.tolist())))


def _exact_as_float(numbers: np.ndarray[Any, Any]) -> bool:
    return not len(numbers) or (int(numbers.min()) > -(1 << 53) and int(numbers.max()) < 1 << 53)


class Extreme:
    """State: the smallest or the largest value so far."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._least = name == "min"

    def start(self, values: Column, codes: Positions, groups: int) -> States:
        return {"value": self._extremes(values, codes, groups)}

    def merge(self, states: States, codes: Positions, groups: int) -> States:
        return self.start(states["value"], codes, groups)

    def final(self, states: States) -> Column:
        return states["value"]

    def _extremes(self, values: Column, codes: Positions, groups: int) -> Column:
        if values.kind is Kind.INT:
            return Column(Kind.INT, pa.array(self._at(values.numpy(), codes, groups)))
        if values.kind is Kind.FLOAT:
            return Column(Kind.FLOAT, pa.array(self._at(normalise(values.numpy()), codes, groups)))
        if values.kind is Kind.ENCODED:
            return self._fold_plain(values, codes, groups)
        distinct, ranks = number_keys(values)
        order = pc.sort_indices(distinct.array()).to_numpy()
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order))
        return distinct.take(order[self._at(place[ranks], codes, groups)])

    def _at(self, numbers: np.ndarray[Any, Any], codes: Positions, groups: int) -> np.ndarray[Any, Any]:
        best = np.empty(groups, numbers.dtype)
        best[codes] = numbers
        with np.errstate(invalid="ignore"):
            (np.minimum if self._least else np.maximum).at(best, codes, numbers)
        return best

    def _fold_plain(self, values: Column, codes: Positions, groups: int) -> Column:
        chosen = _fold(values, codes, groups, lambda best, value: pick(best, value, self._name), None)
        return value_column([v + 0.0 if type(v) is float else v for v in value_list(chosen)])


KERNELS: dict[str, Kernel] = {
    "sum": Sum(),
    "count": Count(),
    "mean": Mean(),
    "min": Extreme("min"),
    "max": Extreme("max"),
}


def partial_states(rows: Rows, aggregation: Aggregation) -> Rows:
    """One partial state for each distinct key, in order of first appearance.

    For `count_distinct` the values without repetitions, for `collect` the rows as they are.
    Raises BadAggregate, naming the key.
    """
    rows = finished(rows, unless=aggregation.name)
    kernel = KERNELS.get(aggregation.name)
    if kernel is None:
        return distinct_values(rows) if aggregation.name == "count_distinct" else rows
    keys, codes = number_keys(rows.keys)
    try:
        states = states_by_code(rows, codes, len(keys), kernel)
    except _BadAt as error:
        key = key_list(keys.slice(error.code, error.code + 1))[0]
        raise BadAggregate(f"{error} (key {safe_repr(key)})") from error.__cause__
    return Rows(keys, states, None, aggregation.name)


def states_by_code(rows: Rows, codes: Positions, groups: int, kernel: Kernel) -> States:
    """The state of each numbered key, from rows of either layout."""
    if rows.state:
        return kernel.merge(rows.columns, codes, groups)
    if rows.offsets is not None:
        codes = np.repeat(codes, rows.lengths())
    return kernel.start(rows.columns["value"], codes, groups)


def finished(rows: Rows, unless: str = "") -> Rows:
    """Partial states as raw rows of their results, except those of the aggregation `unless`."""
    if not rows.state or rows.state == unless:
        return rows
    return Rows(rows.keys, {"value": KERNELS[rows.state].final(rows.columns)})


def distinct_values(rows: Rows) -> Rows:
    """Raw rows without a value that its key had before; keys in order of first appearance."""
    keys, codes = number_keys(rows.keys)
    if rows.offsets is not None:
        codes = np.repeat(codes, rows.lengths())
    values, places = number_keys(alike(rows.columns["value"]))
    both = np.unique(codes * max(len(values), 1) + places)
    columns = {"value": values.take(both % max(len(values), 1))}
    return Rows(keys.take(both // max(len(values), 1)), columns)


def alike(values: Column) -> Column:
    """Values such that those which count as one (`mr.agg.identity`) have equal bytes: those of the first."""
    if values.kind is Kind.FLOAT:
        return Column(values.kind, pa.array(normalise(values.numpy())))
    if values.kind is not Kind.ENCODED:
        return values
    encoded = values.array().dictionary_encode()
    firsts: dict[Any, bytes] = {}
    plain = [
        item if item[0] in _UNIQUE else firsts.setdefault(identity(decode_value(item)), item)
        for item in encoded.dictionary.to_pylist()
    ]
    return Column(values.kind, pa.array(plain, pa.binary()).take(encoded.indices))


#: First bytes of encoded values that nothing but themselves equals: None, bool, int, str, bytes.
_UNIQUE: Final = frozenset(
    chain(
        range(0x80),
        range(0xA0, 0xC1),
        range(0xC2, 0xC7),
        range(0xCC, 0xD4),
        range(0xD9, 0xDC),
        range(0xE0, 0x100),
    )
)
