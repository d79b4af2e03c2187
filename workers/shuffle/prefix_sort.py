"""Sorting many different keys without hashing them: by eight bytes at a time, as numbers.

A string's first eight bytes, read as a big-endian number, sort as the string does; only rows that tie
look at the next eight. For columns of mostly distinct keys this beats a hash table of all of them.
"""

from typing import Any, Final

import numpy as np
import pyarrow as pa

from mr.workers.shuffle.columns import Column, Kind

_Numbers = np.ndarray[Any, Any]

#: Words of eight bytes compared at most; keys that still tie are left to the caller, which can hash them.
MAX_WORDS: Final = 8


def sort_distinctly(keys: Column) -> tuple[_Numbers, _Numbers] | None:
    """The positions that sort the keys (equal ones in their order), and where each distinct one begins.

    The second array is True at each sorted place whose key differs from the one before. None: too many
    bytes in common.
    """
    if keys.kind in (Kind.INT, Kind.BOOL):
        return _by_number(keys.numpy())
    if keys.kind is Kind.FLOAT:
        numbers = keys.numpy()
        order = np.argsort(numbers, kind="stable")
        ordered = numbers[order]
        begins = _begins(ordered)
        begins[1:] &= ~(np.isnan(ordered[1:]) & np.isnan(ordered[:-1]))
        return order, begins
    return _by_words(keys.array().cast(pa.binary()))


def _by_number(numbers: _Numbers) -> tuple[_Numbers, _Numbers]:
    order = np.argsort(numbers, kind="stable")
    return order, _begins(numbers[order])


def _begins(ordered: _Numbers) -> _Numbers:
    begins = np.ones(len(ordered), np.bool_)
    begins[1:] = ordered[1:] != ordered[:-1]
    return begins


def _by_words(data: pa.Array) -> tuple[_Numbers, _Numbers] | None:
    words = _Words(data)
    order, begins = _by_number(words.at(0, np.arange(len(data))))
    for depth in range(1, MAX_WORDS):
        tied = _tied(begins)
        if not len(tied) or int(words.lengths[order[tied]].max()) <= 8 * depth:
            break
        _refine(order, begins, tied, words.at(depth, order[tied]))
    else:
        tied = _tied(begins)
        if len(tied) and int(words.lengths[order[tied]].max()) > 8 * MAX_WORDS:
            return None
    if len(tied):  # nothing differs but zero bytes at the end: the shorter first
        _refine(order, begins, tied, words.lengths[order[tied]])
    return order, begins


def _tied(begins: _Numbers) -> _Numbers:
    """Sorted places whose key still equals a neighbour's."""
    ties = ~begins
    ties[:-1] |= ~begins[1:]
    return np.flatnonzero(ties)


def _refine(order: _Numbers, begins: _Numbers, tied: _Numbers, numbers: _Numbers) -> None:
    """Sort the tied places by one more number, each group of ties for itself."""
    groups = np.cumsum(begins[tied])
    finer = np.lexsort((numbers, groups))
    order[tied] = order[tied][finer]
    ordered = numbers[finer]
    begins[tied[1:]] |= ordered[1:] != ordered[:-1]


class _Words:
    """The bytes of strings as numbers of eight bytes each, zeros after the end."""

    def __init__(self, data: pa.Array) -> None:
        _, offsets, buffer = data.buffers()
        bounds = np.frombuffer(offsets, np.int32)[data.offset : data.offset + len(data) + 1].astype(np.int64)
        first, last = int(bounds[0]), int(bounds[-1])
        held = np.zeros(last - first + 8, np.uint8)
        if last > first:
            held[:-8] = np.frombuffer(buffer, np.uint8)[first:last]
        self._starts = bounds[:-1] - first
        #: Bytes of each string.
        self.lengths: _Numbers = np.diff(bounds)
        #: The number that begins at each byte.
        self._windows = np.ndarray((len(held) - 7,), ">u8", held, strides=(1,))

    def at(self, depth: int, rows: _Numbers) -> _Numbers:
        """Bytes `8 * depth` up to 8 more of these rows' strings, as native numbers."""
        left = np.clip(self.lengths[rows] - 8 * depth, 0, 8)
        places = np.where(left > 0, self._starts[rows] + 8 * depth, 0)
        words = self._windows[places].astype(np.uint64)
        shift = ((8 - left) * 8).astype(np.uint64)
        kept: _Numbers = np.where(left > 0, (words >> shift) << shift, np.uint64(0))
        return kept
