"""Combining: fewer rows before they are written, by a built-in of `mr.agg` or by the user's function."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pyarrow.compute as pc

from mr.agg import Aggregation
from mr.workers.shuffle.aggregate import kernel_of
from mr.workers.shuffle.columns import Column, encode_keys, key_column, key_list, value_column, value_list
from mr.workers.shuffle.kernel import Kernel
from mr.workers.shuffle.rows import Rows, concatenate
from mr.workers.shuffle.segment import pieces
from mr.workers.shuffle.sort import sort_rows


@dataclass(frozen=True, slots=True)
class PythonCombiner:
    """The user's `combine_fn`, called for many keys at once.

    `call(keys, values)` takes keys in order, each with a list of its values in record order, and returns
    the keys and values of the combined pairs, in order. A key with very many values comes in several
    parts, and results may be combined again, any number of times or not at all.
    """

    call: Callable[[list[Any], list[list[Any]]], tuple[Sequence[Any], Sequence[Any]]]

    def combine(self, rows: Rows) -> Rows:
        """Combine each key's rows; the keys come in no order. Raises what the user's function raises."""
        view = sort_rows(rows)
        combined = []
        for piece in pieces(view, 0, len(view.keys)):
            keys, values = self.call(key_list(piece.keys), value_lists(piece))
            if len(keys):
                combined.append(Rows(key_column(keys), {"value": value_column(values)}))
        return concatenate(combined) if combined else rows.slice(0, 0)


Combiner = Aggregation | PythonCombiner


def row_combiner(combiner: Combiner | None) -> Kernel | PythonCombiner | None:
    """What combines rows; None where combining saves nothing."""
    if isinstance(combiner, Aggregation):
        return kernel_of(combiner.spec) if combiner.combines else None
    return combiner


def combine_in_place(rows: Rows, combiner: Kernel | PythonCombiner) -> Rows:
    """Combine each key's rows, unless the user's function gives other keys.

    For merges, in which a key must stay in its range. Combining is optional there.
    """
    combined = combiner.combine(rows)
    if isinstance(combiner, PythonCombiner) and not _contains(rows.keys, combined.keys):
        return rows
    return combined


def _contains(keys: Column, others: Column) -> bool:
    if keys.kind is not others.kind:
        keys, others = encode_keys(keys), encode_keys(others)
    return len(others) == 0 or bool(pc.all(pc.is_in(others.array(), value_set=keys.array())).as_py())


def value_lists(rows: Rows) -> list[list[Any]]:
    """The values of each raw row as Python lists."""
    values = value_list(rows.columns["value"])
    if rows.offsets is None:
        return [[value] for value in values]
    bounds = rows.offsets.tolist()
    return [values[start:stop] for start, stop in pairwise(bounds)]
