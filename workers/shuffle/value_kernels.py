"""The built-in reducers that need the values themselves, all or some of them."""

from collections.abc import Iterator, Mapping
from itertools import chain
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import pyarrow as pa

from mr.agg import as_float, identity, top
from mr.errors import BadAggregate
from mr.protocol.aggregation import AggregationSpec
from mr.workers.shuffle.columns import Column, Kind, normalise, value_list
from mr.workers.shuffle.kernel import BadValue, SelectingKernel, ValueKernel
from mr.workers.shuffle.result_table import result_table
from mr.workers.shuffle.rows import Positions, Rows
from mr.workers.shuffle.sort import number_keys, rank_keys, sort_rows
from mr.workers.shuffle.value_codec import decode_value


class CountDistinct(SelectingKernel):
    """Keeps each value once. A result is the number of what is kept."""

    def keep(self, values: Column, codes: Positions) -> tuple[Column, Positions]:
        distinct, places = number_keys(_alike(values))
        both = np.unique(codes * max(len(distinct), 1) + places)
        kept, place = np.divmod(both, max(len(distinct), 1))
        return distinct.take(place), kept

    def results(self, rows: Rows) -> Iterator[pa.Table]:
        view = sort_rows(self.combine(rows))
        yield result_table(view.keys, Column(Kind.INT, pa.array(np.diff(view.offsets))))


class TopK(SelectingKernel):
    """Keeps the largest values of each key, in descending order."""

    def __init__(self, spec: AggregationSpec) -> None:
        super().__init__(spec)
        (k,) = spec.arguments
        assert isinstance(k, int)
        self._k = k

    def keep(self, values: Column, codes: Positions) -> tuple[Column, Positions]:
        kept = self._kept_objects(values, codes) if values.kind is Kind.ENCODED else self._kept(values, codes)
        return values.take(kept), codes[kept]

    def _kept(self, values: Column, codes: Positions) -> Positions:
        """The positions to keep, by ranks."""
        if values.kind in (Kind.INT, Kind.BOOL):
            ranks = values.numpy().astype(np.int64)
        else:
            _, ranks = rank_keys(_alike(values))
        order = np.lexsort((~ranks, codes))
        ordered = codes[order]
        places = np.arange(len(ordered)) - np.searchsorted(ordered, ordered)
        kept: Positions = order[places < self._k]
        return kept

    def _kept_objects(self, values: Column, codes: Positions) -> Positions:
        """The positions to keep, by comparing Python objects."""
        items = value_list(values)
        rows_of: dict[int, list[int]] = {}
        for row, code in enumerate(codes.tolist()):
            rows_of.setdefault(code, []).append(row)
        kept: list[int] = []
        for code, rows in rows_of.items():
            try:
                kept += top(rows, self._k, items.__getitem__)
            except BadAggregate as error:
                raise BadValue(str(error), code) from error
        return np.array(kept, np.int64)


class Quantiles(ValueKernel):
    """Interpolates between the sorted values of each key."""

    def lists(self, values: Column, offsets: Positions) -> tuple[Column, Positions]:
        numbers = _floats(values, offsets)
        counts = np.diff(offsets)
        numbers = numbers[np.lexsort((numbers, np.repeat(np.arange(len(counts)), counts)))]
        shares = np.array(self.spec.arguments, np.float64)
        places = shares * (counts[:, np.newaxis] - 1)
        below = places.astype(np.int64)
        low = numbers[offsets[:-1, np.newaxis] + below]
        high = numbers[offsets[:-1, np.newaxis] + np.minimum(below + 1, counts[:, np.newaxis] - 1)]
        weights = places - below
        with np.errstate(over="ignore", invalid="ignore"):
            step = high - low
            between = np.where(weights < 0.5, low + step * weights, high - step * (1 - weights))
        found = np.where((weights == 0) | (low == high), low, between)
        found[np.isnan(numbers[offsets[1:] - 1])] = np.nan  # NaN is sorted last
        return Column(Kind.FLOAT, pa.array(found.ravel())), np.arange(len(counts) + 1) * len(shares)


def _floats(values: Column, offsets: Positions) -> np.ndarray[Any, Any]:
    """Numbers as floats. Raises BadValue, with the place between `offsets`, for what is no number."""
    if values.kind in (Kind.INT, Kind.FLOAT, Kind.BOOL):
        return values.numpy().astype(np.float64) + 0.0
    numbers: list[float] = []
    try:
        numbers.extend(map(as_float, value_list(values)))
    except BadAggregate as error:
        raise BadValue(str(error), int(np.searchsorted(offsets, len(numbers), side="right")) - 1) from error
    return np.array(numbers)


def _alike(values: Column) -> Column:
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


VALUE_KERNELS: Mapping[str, type[ValueKernel]] = MappingProxyType(
    {"collect": ValueKernel, "count_distinct": CountDistinct, "top_k": TopK, "quantiles": Quantiles}
)
