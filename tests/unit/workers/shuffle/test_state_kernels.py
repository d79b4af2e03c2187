"""The built-in reducers that keep a state, over columns: what the plain functions give."""

import math
from typing import Any

import numpy as np
import pytest

import mr.agg
from mr.agg import Aggregation
from mr.errors import BadAggregate
from mr.workers.shuffle.aggregate import kernel_of
from mr.workers.shuffle.columns import Kind, key_column, value_column, value_list
from mr.workers.shuffle.rows import Rows
from mr.workers.shuffle.state_kernels import STATE_KERNELS
from tests.support.kernels import by_columns

HUGE = 1 << 62
STATEFUL = [getattr(mr.agg, name) for name in STATE_KERNELS]


@pytest.mark.parametrize("aggregation", STATEFUL, ids=repr)
@pytest.mark.parametrize(
    "values",
    [
        [1, 2, 3, 4],
        [HUGE, HUGE, HUGE, 1],
        [-HUGE, -HUGE, -HUGE, -1],
        [HUGE, HUGE, -HUGE, -HUGE],
        [(1 << 63) - 1, 1, -(1 << 63), -5],
        [1 << 70, 1, True, 2],
        [0.5, 1.5, -2.0, 8.0],
        [1, 0.5, True, 4],
        [True, False, True, True],
        [math.inf, 1.0, 2.0, 3.0],
        [1.0, math.nan, 3.0, 2],
        [1, math.nan, 3, 2],
        [-0.0, 0.0, -0.0, -0.0],
        [1, 1.0, True, 1],
    ],
    ids=repr,
)
@pytest.mark.parametrize("split", [0, 1, 2])
def test_columns_agree_with_the_function(aggregation: Aggregation, values: list[Any], split: int) -> None:
    pairs = [("a", value) for value in values] + [("b", values[0])]
    expected = {"a": aggregation.reduce_values(values), "b": aggregation.reduce_values(values[:1])}
    found = by_columns(aggregation, [part for part in (pairs[:split], pairs[split:]) if part])
    assert list(map(repr, found.items())) == list(map(repr, expected.items()))


@pytest.mark.parametrize("aggregation", [mr.agg.min, mr.agg.max], ids=repr)
@pytest.mark.parametrize("values", [["b", "a", "é"], [b"b", b""], [(2, "a"), (1, "b")], [None]], ids=repr)
def test_extremes_of_other_types(aggregation: Aggregation, values: list[Any]) -> None:
    expected = aggregation.reduce_values(values)
    assert by_columns(aggregation, [[("a", value)] for value in values]) == {"a": expected}


@pytest.mark.parametrize("aggregation", [mr.agg.sum, mr.agg.mean], ids=repr)
@pytest.mark.parametrize("value", ["x", b"x", None, (1,)], ids=repr)
def test_what_cannot_be_added_names_value_and_key(aggregation: Aggregation, value: Any) -> None:
    with pytest.raises(BadAggregate, match=r"adds numbers; it met .* \(key 'b'\)"):
        by_columns(aggregation, [[("a", 1), ("b", value)]])
    with pytest.raises(BadAggregate, match="adds numbers"):
        aggregation.reduce_values([value])


@pytest.mark.parametrize("aggregation", [mr.agg.min, mr.agg.max], ids=repr)
def test_what_does_not_compare_names_value_and_key(aggregation: Aggregation) -> None:
    with pytest.raises(BadAggregate, match=r"cannot compare 1 with 'x': .* \(key 'b'\)"):
        by_columns(aggregation, [[("a", 1), ("b", 1), ("b", "x")]])


def test_numbers_beyond_a_float() -> None:
    for pairs in ([("a", 1 << 2000)], [("a", 1 << 2000), ("a", 0.5)]):
        with pytest.raises(BadAggregate, match="too large"):
            by_columns(mr.agg.mean, [pairs])


def test_large_sums_of_small_integers_stay_native() -> None:
    rows = Rows(key_column(["a"] * 3), {"value": value_column([HUGE, HUGE, -HUGE])})
    assert kernel_of(mr.agg.sum.spec).combine(rows).columns["value"].kind is Kind.INT


def test_means_of_integers_beyond_53_bits_round_once() -> None:
    values = [(1 << 53) + 1, 0, 0]
    assert by_columns(mr.agg.mean, [[("a", value) for value in values]]) == {"a": sum(values) / 3}


def test_raw_rows_with_runs_of_values() -> None:
    offsets = np.array([0, 2, 3], np.int64)
    rows = Rows(key_column(["a", "b"]), {"value": value_column([1, 2, 3])}, offsets)
    assert value_list(kernel_of(mr.agg.sum.spec).combine(rows).columns["value"]) == [3, 3]
