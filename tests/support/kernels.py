"""The kernels of the built-in reducers, called as the shuffle calls them."""

from collections.abc import Sequence
from typing import Any

from mr.agg import Aggregation
from mr.workers.shuffle.aggregate import kernel_of
from mr.workers.shuffle.columns import key_column, value_column
from mr.workers.shuffle.result_table import to_pairs
from mr.workers.shuffle.rows import Rows, concatenate


def raw_rows(pairs: Sequence[tuple[str, Any]]) -> Rows:
    """Rows of one value each."""
    return Rows(key_column([key for key, _ in pairs]), {"value": value_column([value for _, value in pairs])})


def by_columns(aggregation: Aggregation, parts: Sequence[Sequence[tuple[str, Any]]]) -> dict[str, Any]:
    """Combine each part, then all of them together, as a map's spills and a reducer do."""
    kernel = kernel_of(aggregation.spec)
    combined = kernel.combine(concatenate([kernel.combine(raw_rows(part)) for part in parts]))
    return dict(pair for table in kernel.results(combined) for pair in zip(*to_pairs(table), strict=True))
