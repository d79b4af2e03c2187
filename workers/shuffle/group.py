"""What a reducer sees: the keys of its partition in order, each with its values in input order."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import length_hint
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from mr.agg import Aggregation
from mr.workers.shuffle.aggregate import finished, kernel_of
from mr.workers.shuffle.columns import key_list, value_list
from mr.workers.shuffle.combine import row_combiner
from mr.workers.shuffle.key_batches import BATCH_WEIGHT, cut_keys, key_weights
from mr.workers.shuffle.merge import Giant, KeyRange, merge_segments
from mr.workers.shuffle.rows import Rows, concatenate
from mr.workers.shuffle.segment import SegmentSource, pieces
from mr.workers.shuffle.sort import Sorted, sort_rows

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

    `sources`: one segment per map task, in map order. `group_bytes`: about what grouping may take. It is
    done in memory when the uncompressed rows fit half of that, else by merging sorted runs by ranges of
    keys, with temporary files in `work_dir` when there are very many runs. A key whose values weigh more
    than `lazy_weight` comes with a lazy iterator.
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
        #: Values (or partial states) of the ranges of keys that were used up so far.
        self.values_read = 0

    def batches(self) -> Iterator[GroupBatch]:
        """All keys in order. Raises SegmentCorrupt, OSError. Partial states come as their results."""
        for key_range in self._ranges():
            if isinstance(key_range, Giant):
                yield _giant_batch(key_range.parts)
            else:
                yield from self._whole_batches(sort_rows(finished(key_range.rows)))

    def aggregate(self, aggregation: Aggregation) -> Iterator[pa.Table]:
        """Tables of columns key, value: each key's result, keys in order. Raises BadAggregate as well.

        Columns are native where all results of a table are; see `result_table.is_native` and `to_pairs`.
        """
        kernel = kernel_of(aggregation.spec)
        for key_range in self._ranges():
            if isinstance(key_range, Giant):
                yield from kernel.results(_combined_giant(key_range.parts, aggregation))
            else:
                yield from kernel.results(key_range.rows)

    def _ranges(self) -> Iterator[KeyRange]:
        for key_range in merge_segments(
            self._sources, budget_bytes=self._group_bytes, work_dir=self._work_dir
        ):
            if isinstance(key_range, Giant):
                yield Giant(self._counted(key_range.parts))
            else:
                yield key_range
                self.values_read += key_range.rows.values

    def _counted(self, parts: Iterator[Rows]) -> Iterator[Rows]:
        for rows in parts:
            yield rows
            self.values_read += rows.values

    def _whole_batches(self, view: Sorted) -> Iterator[GroupBatch]:
        weights = key_weights(view)
        lazy = weights > self._lazy_weight
        for first, last in cut_keys(np.where(lazy, np.maximum(weights, BATCH_WEIGHT + 1), weights)):
            if lazy[first]:
                keys = key_list(view.keys.slice(first, last))
                yield GroupBatch(keys, [LazyValues(pieces(view, first, last))])
                continue
            start, stop = int(view.offsets[first]), int(view.offsets[last])
            values = value_list(view.values_of(start, stop)["value"])
            bounds = (view.offsets[first : last + 1] - start).tolist()
            yield GroupBatch(
                key_list(view.keys.slice(first, last)),
                [values[a:b] for a, b in pairwise(bounds)],
            )


class LazyValues:
    """The values of a key whose values are too many for memory. Iterated over once."""

    def __init__(self, parts: Iterable[Rows]) -> None:
        self._parts = parts
        #: Values up to the end of the present part, and the iterator over that part.
        self._at: tuple[int, Iterator[Any]] = 0, iter(())

    def __iter__(self) -> Iterator[Any]:
        end = 0
        for rows in self._parts:
            values = value_list(rows.columns["value"])
            end += len(values)
            part = iter(values)
            self._at = end, part
            del values
            yield from part

    def read(self) -> int:
        """How many values were taken; for any thread."""
        end, part = self._at
        return end - length_hint(part)


def _giant_batch(parts: Iterator[Rows]) -> GroupBatch:
    first = next(parts)
    keys = key_list(first.keys.slice(0, 1))

    def rest() -> Iterator[Rows]:
        yield finished(first)
        yield from map(finished, parts)

    return GroupBatch(keys, [LazyValues(rest())])


def _combined_giant(parts: Iterator[Rows], aggregation: Aggregation) -> Rows:
    """The rows of one key, combined as they come."""
    combiner = row_combiner(aggregation)
    if combiner is None:
        return concatenate(list(parts))
    held: list[Rows] = []
    for rows in parts:
        held.append(combiner.combine(rows))
        if len(held) >= _FOLD_PARTS:
            held = [combiner.combine(concatenate(held))]
    return concatenate(held)
