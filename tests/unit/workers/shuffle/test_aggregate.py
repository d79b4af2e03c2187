"""Kernels by their spec, and `each` over columns: what it refuses."""

import re
from typing import Any

import pytest

import mr.agg
from mr.errors import BadAggregate, SegmentCorrupt
from mr.protocol.aggregation import AggregationSpec
from mr.workers.shuffle.aggregate import KERNELS, kernel_of, merge_states
from mr.workers.shuffle.columns import key_column, value_column
from mr.workers.shuffle.rows import STATE, Rows, from_batch, to_batch
from tests.support.kernels import by_columns


def test_every_kernel_has_its_aggregation() -> None:
    plain = {"sum", "count", "min", "max", "mean", "collect", "count_distinct", "first", "last"}
    assert set(KERNELS) == plain | {"top_k", "quantiles", "each"}
    assert all(hasattr(mr.agg, name) for name in KERNELS)


def test_states_of_an_unknown_aggregation_are_refused() -> None:
    with pytest.raises(SegmentCorrupt, match=r"no mr\.agg\.median\(0\.5\)"):
        kernel_of(AggregationSpec("median", (0.5,)))
    rows = Rows(key_column(["a"]), {"value": value_column([1])}, None, mr.agg.collect.spec)
    with pytest.raises(SegmentCorrupt, match=r"states of mr\.agg\.collect, which has none"):
        merge_states(rows)
    batch = to_batch(rows)
    with pytest.raises(SegmentCorrupt, match="unknown aggregation: "):
        from_batch(batch.replace_schema_metadata({STATE: b"sum"}))


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ([(1, 2), (1, 2, 3)], "tuples of 2 items; it met (1, 2, 3) of 3 items"),
        ([(1, 2), [1, 2]], "tuples of 2 items; it met [1, 2] of type list"),
        ([("x", 2)], "mr.agg.sum adds numbers; it met 'x' of type str"),
        ([(1, 2), (3, "x")], "mr.agg.top_k cannot order 2 beside 'x'"),
    ],
)
def test_each_names_the_key_of_what_it_cannot_take(values: list[Any], told: str) -> None:
    aggregation = mr.agg.each(mr.agg.sum, mr.agg.top_k(2))
    with pytest.raises(BadAggregate, match=re.escape(f"{told} (key 'b')")):
        by_columns(aggregation, [[("a", (1, 1)), *(("b", value) for value in values)]])
    with pytest.raises(BadAggregate, match=re.escape(told)):
        aggregation.reduce_values(values)


def test_each_names_the_key_of_a_bad_result() -> None:
    rows = Rows(key_column(["a", "b", "b"]), {"value": value_column([(1,), (2,), ("x",)])})
    with pytest.raises(BadAggregate, match=r"takes numbers; it met 'x' of type str \(key 'b'\)"):
        list(kernel_of(mr.agg.each(mr.agg.quantiles(0.5)).spec).results(rows))
