"""Ordering rows by key: number the distinct keys once, sort only those, then move rows by number."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mr.protocol.aggregation import AggregationSpec
from mr.workers.shuffle.columns import Column
from mr.workers.shuffle.partition import Partitioner, partitions_of
from mr.workers.shuffle.prefix_sort import sort_distinctly
from mr.workers.shuffle.rows import Positions, Rows

#: Rows sampled to choose between hashing the keys and sorting them.
SAMPLE_ROWS = 65_536
#: Share of distinct keys in the sample above which they are sorted. Words of a text repeat less in a
#: sample than in the whole.
SORT_DISTINCT = 0.9


def number_keys(keys: Column) -> tuple[Column, Positions]:
    """The distinct keys in order of first appearance, and the number of each row's key among them."""
    encoded = keys.data.dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        chunks = encoded.chunks
        if not chunks:
            return Column(keys.kind, keys.array()), np.zeros(0, np.int64)
        codes = np.concatenate([chunk.indices.to_numpy() for chunk in chunks])
        # One hash table numbers all chunks, so the last chunk's dictionary holds every number given out.
        return Column(keys.kind, chunks[-1].dictionary), codes.astype(np.int64)
    return Column(keys.kind, encoded.dictionary), encoded.indices.to_numpy().astype(np.int64)


def rank_keys(keys: Column) -> tuple[Column, Positions]:
    """The distinct keys in key order, and the number of each row's key among them."""
    if _mostly_distinct(keys) and (ranked := _rank_by_sorting(keys)) is not None:
        return ranked
    distinct, codes = number_keys(keys)
    order = pc.sort_indices(distinct.array()).to_numpy().astype(np.int64)
    return distinct.take(order), _inverse(order)[codes]


def _mostly_distinct(keys: Column) -> bool:
    """Guess from the first rows; either way of ranking gives the same ranks."""
    sample = keys.slice(0, SAMPLE_ROWS)
    return len(sample) == SAMPLE_ROWS and len(number_keys(sample)[0]) > SORT_DISTINCT * SAMPLE_ROWS


def _rank_by_sorting(keys: Column) -> tuple[Column, Positions] | None:
    keys = Column(keys.kind, keys.array())
    found = sort_distinctly(keys)
    if found is None:
        return None
    order, begins = found
    codes = np.empty(len(order), np.int64)
    codes[order] = np.cumsum(begins) - 1
    return keys.take(order[begins]), codes


def _inverse(order: Positions) -> Positions:
    inverse = np.empty_like(order)
    inverse[order] = np.arange(len(order))
    return inverse


def stable_order(codes: Positions) -> Positions | None:
    """The positions that sort `codes`, equal ones in their order; None when they are sorted already."""
    if len(codes) < 2 or bool(np.all(codes[1:] >= codes[:-1])):
        return None
    if len(codes) >= 1 << 31 or int(np.max(codes)) >= 1 << 31:
        return np.argsort(codes, kind="stable")
    packed = (codes.astype(np.uint64) << np.uint64(32)) | np.arange(len(codes), dtype=np.uint64)
    packed.sort()
    return (packed & np.uint64(0xFFFFFFFF)).astype(np.int64)


@dataclass(frozen=True)
class Sorted:
    """Rows in key order: the distinct keys, and where the values of each are."""

    keys: Column
    #: Values of key i are `order[offsets[i] : offsets[i + 1]]`.
    offsets: Positions
    #: Positions of the values in `columns`, by key, then by record; None: they are in that order already.
    order: Positions | None
    columns: dict[str, Column]
    state: AggregationSpec | None

    @cached_property
    def sizes(self) -> Positions:
        """Bytes that each value costs, in key order; the first value of a key includes the key."""
        sizes = np.zeros(int(self.offsets[-1]), np.int64)
        for column in self.columns.values():
            sizes += column.lengths() if self.order is None else column.lengths()[self.order]
        sizes[self.offsets[:-1]] += self.keys.lengths() + 4
        return sizes

    def values_of(self, first: int, last: int) -> dict[str, Column]:
        """The columns' items from place `first` up to `last` in key order."""
        if self.order is None:
            return {name: column.slice(first, last) for name, column in self.columns.items()}
        positions = self.order[first:last]
        return {name: column.take(positions) for name, column in self.columns.items()}


def sort_rows(rows: Rows) -> Sorted:
    """The rows in key order."""
    distinct, codes = rank_keys(rows.keys)
    return _arrange(rows, distinct, codes)


def sort_by_partition(
    rows: Rows, partitions: int, partitioner: Partitioner | None
) -> tuple[Sorted, Positions]:
    """The rows in order of partition, then of key; and where each partition's keys begin, plus the end."""
    distinct, codes = rank_keys(rows.keys)
    chosen = partitions_of(distinct, partitions, partitioner)
    order = np.argsort(chosen, kind="stable")
    bounds = np.searchsorted(chosen[order], np.arange(partitions + 1))
    return _arrange(rows, distinct.take(order), _inverse(order)[codes]), bounds


def _arrange(rows: Rows, keys: Column, codes: Positions) -> Sorted:
    order = stable_order(codes)
    lengths = rows.lengths()
    counts = np.bincount(codes, weights=None if rows.offsets is None else lengths, minlength=len(keys))
    offsets = np.zeros(len(keys) + 1, np.int64)
    np.cumsum(counts.astype(np.int64), out=offsets[1:])
    if order is not None and rows.offsets is not None:
        order = _spread(rows.offsets[:-1][order], lengths[order])
    columns = {name: Column(column.kind, column.array()) for name, column in rows.columns.items()}
    return Sorted(keys, offsets, order, columns, rows.state)


def _spread(starts: Positions, lengths: Positions) -> Positions:
    """The positions of several runs, one after the other: 5+2, 9+1 gives 5, 6, 9."""
    total = int(lengths.sum())
    before = np.cumsum(lengths) - lengths
    spread: Positions = np.arange(total) + np.repeat(starts - before, lengths)
    return spread


def cut(sizes: np.ndarray[Any, Any], limit: int, most: int) -> Iterator[tuple[int, int]]:
    """Cut a row of items into pieces, each at most `limit` in sum of sizes (or one item) and `most` items."""
    ends = np.cumsum(sizes)
    start, done = 0, 0
    while start < len(sizes):
        stop = int(np.searchsorted(ends, done + limit, side="right"))
        stop = min(max(stop, start + 1), start + most)
        yield start, stop
        start, done = stop, int(ends[stop - 1])
