"""What a reducer sees: the keys of its partition in order, each with its values in input order."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from mr.agg import Aggregation
from mr.workers.shuffle.aggregate import KERNELS, distinct_values, finished, partial_states
from mr.workers.shuffle.columns import Column, Kind, key_list, value_list
from mr.workers.shuffle.merge import Giant, merge_segments
from mr.workers.shuffle.result_table import result_table
from mr.workers.shuffle.rows import Rows, concatenate
from mr.workers.shuffle.segment import SegmentSource, pieces
from mr.workers.shuffle.sort import Sorted, cut, sort_rows

__all__ = ["GroupBatch", "Grouped", "SegmentSource"]

#: Keys of one batch at most.
BATCH_KEYS: Final = 4096
#: Weight of one batch: Arrow bytes plus what a Python object costs for each value.
BATCH_WEIGHT: Final = 8 << 20
OBJECT_WEIGHT: Final = 64
#: A key heavier than this comes with a lazy iterator of its values, not a list.
LAZY_WEIGHT: Final = 64 << 20
#: Parts of a giant key that are aggregated before they are merged into its state.
_FOLD_PARTS: Final = 16


@dataclass(frozen=True, slots=True)
class GroupBatch:
    """Some keys in order, each with its values in input order.

    A batch of one key may have an iterator instead of a list as its element of `values`: the key's values
    are too many for memory. It can be used once, before the next batch is asked for.
    """

    keys: list[Any]
    values: list[Iterable[Any]]


class Grouped:
    """The map outputs of one partition, grouped by key.

    `sources`: one segment a map task, in map order. `group_bytes`: about what grouping may take; in memory
    when the uncompressed rows fit half of it, else a merge of sorted runs by ranges of keys, with temporary
    files in `work_dir` when there are very many runs. A key whose values weigh more than `lazy_weight`
    comes with a lazy iterator.
    """

    def __init__(
        self,
        sources: Sequence[SegmentSource],
        *,
        group_bytes: int,
        work_dir: Path,
        lazy_weight: int = LAZY_WEIGHT,
    ) -> None:
        self._sources = sources
        self._group_bytes = group_bytes
        self._work_dir = work_dir
        self._lazy_weight = lazy_weight

    def batches(self) -> Iterator[GroupBatch]:
        """All keys in order. Raises SegmentCorrupt, OSError. Partial states come as their results."""
        for key_range in merge_segments(
            self._sources, budget_bytes=self._group_bytes, work_dir=self._work_dir
        ):
            if isinstance(key_range, Giant):
                yield _giant_batch(key_range.parts)
            else:
                yield from self._whole_batches(sort_rows(finished(key_range.rows)))

    def aggregate(self, aggregation: Aggregation) -> Iterator[pa.Table]:
        """Tables of columns key, value: each key's result, keys in order. Raises BadAggregate as well.

        Columns are native where all results of a table are; see `tables.is_native` and `tables.to_pairs`.
        """
        for key_range in merge_segments(
            self._sources, budget_bytes=self._group_bytes, work_dir=self._work_dir
        ):
            if isinstance(key_range, Giant):
                yield from _result(_fold_giant(key_range.parts, aggregation), aggregation)
            else:
                yield from _result(key_range.rows, aggregation)

    def _whole_batches(self, view: Sorted) -> Iterator[GroupBatch]:
        weights = _weights(view)
        lazy = weights > self._lazy_weight
        for first, last in _cut_keys(np.where(lazy, np.maximum(weights, BATCH_WEIGHT + 1), weights)):
            if lazy[first]:
                keys = key_list(view.keys.slice(first, last))
                yield GroupBatch(keys, [_values(pieces(view, first, last))])
                continue
            start, stop = int(view.offsets[first]), int(view.offsets[last])
            values = value_list(view.values_of(start, stop)["value"])
            bounds = (view.offsets[first : last + 1] - start).tolist()
            yield GroupBatch(
                key_list(view.keys.slice(first, last)),
                [values[a:b] for a, b in pairwise(bounds)],
            )


def _weights(view: Sorted) -> np.ndarray[Any, Any]:
    """What each key's values cost as Python objects, roughly, in bytes."""
    if not len(view.keys):
        return np.zeros(0, np.int64)
    weights: np.ndarray[Any, Any] = np.add.reduceat(view.sizes, view.offsets[:-1])
    weights += np.diff(view.offsets) * OBJECT_WEIGHT
    return weights


def _cut_keys(weights: np.ndarray[Any, Any]) -> Iterator[tuple[int, int]]:
    """Cut the keys into batches; one that is too heavy for any stands alone."""
    yield from cut(weights, BATCH_WEIGHT, BATCH_KEYS)


def _values(parts: Iterable[Rows]) -> Iterator[Any]:
    for rows in parts:
        yield from value_list(rows.columns["value"])


def _giant_batch(parts: Iterator[Rows]) -> GroupBatch:
    first = next(parts)
    keys = key_list(first.keys.slice(0, 1))

    def rest() -> Iterator[Rows]:
        yield finished(first)
        yield from map(finished, parts)

    return GroupBatch(keys, [_values(rest())])


def _fold_giant(parts: Iterator[Rows], aggregation: Aggregation) -> Rows:
    """The rows of one key, aggregated as they come."""
    held: list[Rows] = []
    for rows in parts:
        held.append(partial_states(rows, aggregation))
        if len(held) >= _FOLD_PARTS and aggregation.name != "collect":
            held = [partial_states(concatenate(held), aggregation)]
    return concatenate(held)


def _result(rows: Rows, aggregation: Aggregation) -> Iterator[pa.Table]:
    """The results of complete keys, in key order."""
    kernel = KERNELS.get(aggregation.name)
    if kernel is not None:
        states = partial_states(rows, aggregation)
        view = sort_rows(Rows(states.keys, {"value": kernel.final(states.columns)}))
        yield result_table(view.keys, view.values_of(0, len(view.keys))["value"])
        return
    rows = finished(rows)
    if aggregation.name == "count_distinct":
        view = sort_rows(distinct_values(rows))
        counts = Column(Kind.INT, pa.array(np.diff(view.offsets)))
        yield result_table(view.keys, counts)
        return
    view = sort_rows(rows)
    for first, last in _cut_keys(_weights(view)):
        start, stop = int(view.offsets[first]), int(view.offsets[last])
        offsets = view.offsets[first : last + 1] - start
        yield result_table(view.keys.slice(first, last), view.values_of(start, stop)["value"], offsets)
