"""The built-in reducers that keep one small state for each key: numbers, the smallest, the largest."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from mr.agg import add, divide, pick
from mr.errors import BadAggregate
from mr.workers.shuffle.columns import Column, Kind, normalise, value_column, value_list
from mr.workers.shuffle.kernel import BadValue, StateKernel, States
from mr.workers.shuffle.rows import Positions
from mr.workers.shuffle.sort import rank_keys


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
            raise BadValue(str(error), code) from error
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


class OneValue(StateKernel):
    """State: one value for each key, which is also the result; states merge as values do."""

    def merge(self, states: States, codes: Positions, groups: int) -> States:
        return self.start(states["value"], codes, groups)

    def final(self, states: States) -> Column:
        return states["value"]


class Sum(OneValue):
    """State: the sum so far."""

    def start(self, values: Column, codes: Positions, groups: int) -> States:
        return {"value": _sums(values, codes, groups, "sum")}


class Count(OneValue):
    """State: the count so far."""

    def start(self, values: Column, codes: Positions, groups: int) -> States:
        return {"value": _counts(codes, groups)}

    def merge(self, states: States, codes: Positions, groups: int) -> States:
        return {"value": _sum_integers(states["value"].numpy(), codes, groups)}


class Mean(StateKernel):
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


class Extreme(OneValue):
    """State: the smallest or the largest value so far."""

    #: Keeps the smaller, or the larger, of two numbers.
    _keep: ClassVar[np.ufunc]

    def start(self, values: Column, codes: Positions, groups: int) -> States:
        return {"value": self._extremes(values, codes, groups)}

    def _extremes(self, values: Column, codes: Positions, groups: int) -> Column:
        if values.kind is Kind.INT:
            return Column(Kind.INT, pa.array(self._at(values.numpy(), codes, groups)))
        if values.kind is Kind.FLOAT:
            return Column(Kind.FLOAT, pa.array(self._at(normalise(values.numpy()), codes, groups)))
        if values.kind is Kind.ENCODED:
            return self._fold_plain(values, codes, groups)
        distinct, ranks = rank_keys(values)
        return distinct.take(self._at(ranks, codes, groups))

    def _at(self, numbers: np.ndarray[Any, Any], codes: Positions, groups: int) -> np.ndarray[Any, Any]:
        best = np.empty(groups, numbers.dtype)
        best[codes] = numbers
        with np.errstate(invalid="ignore"):
            self._keep.at(best, codes, numbers)
        return best

    def _fold_plain(self, values: Column, codes: Positions, groups: int) -> Column:
        chosen = _fold(values, codes, groups, lambda best, value: pick(best, value, self.spec.name), None)
        return value_column([v + 0.0 if type(v) is float else v for v in value_list(chosen)])


class Min(Extreme):
    """State: the smallest value so far."""

    _keep = np.minimum


class Max(Extreme):
    """State: the largest value so far."""

    _keep = np.maximum


class First(OneValue):
    """State: the first value so far."""

    def start(self, values: Column, codes: Positions, groups: int) -> States:
        return {"value": values.take(self._rows(codes, groups))}

    def _rows(self, codes: Positions, groups: int) -> Positions:
        """The row of each key's value that stays."""
        chosen = np.full(groups, len(codes))
        np.minimum.at(chosen, codes, np.arange(len(codes)))
        return chosen


class Last(First):
    """State: the last value so far."""

    def _rows(self, codes: Positions, groups: int) -> Positions:
        chosen = np.zeros(groups, np.int64)
        np.maximum.at(chosen, codes, np.arange(len(codes)))
        return chosen


STATE_KERNELS: Mapping[str, type[StateKernel]] = MappingProxyType(
    {"sum": Sum, "count": Count, "mean": Mean, "min": Min, "max": Max, "first": First, "last": Last}
)
