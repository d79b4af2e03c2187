"""The built-in reducers as plain functions, and their columns against those functions."""

import math
import re
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

import mr.agg
from mr.agg import Aggregation
from mr.errors import BadAggregate, BadJob, SegmentCorrupt
from mr.protocol.aggregation import AggregationSpec
from mr.protocol.codec import JSON, decode, encode
from mr.workers.shuffle.aggregate import KERNELS, finished, kernel_of
from mr.workers.shuffle.columns import Kind, key_column, key_list, value_column, value_list
from mr.workers.shuffle.result_table import to_pairs
from mr.workers.shuffle.rows import Rows, concatenate
from mr.workers.shuffle.state_kernels import STATE_KERNELS

HUGE = 1 << 62
STATEFUL = [getattr(mr.agg, name) for name in STATE_KERNELS]


@pytest.mark.parametrize(
    ("aggregation", "values", "result"),
    [
        (mr.agg.sum, [1, 2, True], 4),
        (mr.agg.sum, [1, 0.5], 1.5),
        (mr.agg.count, ["a", None], 2),
        (mr.agg.min, ["b", "a"], "a"),
        (mr.agg.max, [(1, "a"), (1, "b")], (1, "b")),
        (mr.agg.mean, [1, 2], 1.5),
        (mr.agg.collect, [2, 1, 2], [2, 1, 2]),
        (mr.agg.count_distinct, [1, 1.0, True, 1, [1], [1], -0.0, 0.0], 5),
        (mr.agg.count_distinct, [Decimal("1.0"), Decimal("1.00"), Decimal("NaN"), Decimal("sNaN")], 2),
        (mr.agg.each(mr.agg.sum, mr.agg.max), [(1, "a"), (2, "c"), (3, "b")], (6, "c")),
        (
            mr.agg.each(mr.agg.mean, mr.agg.each(mr.agg.first, mr.agg.top_k(1)), mr.agg.collect),
            [(1, ("x", 1), 0), (2, ("y", 3), None)],
            (1.5, ("x", [3]), [0, None]),
        ),
        (mr.agg.each(mr.agg.count_distinct, mr.agg.quantiles(0.5)), [(1, 1), (True, 2)], (2, [1.5])),
        (mr.agg.first, [-0.0, None, 1], -0.0),
        (mr.agg.last, [1, "x", (2, [3])], (2, [3])),
        (mr.agg.quantiles(0, 0.5, 1), [3, 1, True, 2], [1.0, 1.5, 3.0]),
        (mr.agg.quantiles(0, 0.5, 1), [1, math.nan], [math.nan] * 3),
        (mr.agg.quantiles(0.2, 0.75, 1), [math.inf, math.inf, -0.0, 0.0], [0.0, math.inf, math.inf]),
        (mr.agg.top_k(2), [1, 3.0, True, 3, 2], [3.0, 3]),
        (mr.agg.top_k(5), ["a", "c", "b"], ["c", "b", "a"]),
        (mr.agg.top_k(2), [1, math.inf, Decimal("sNaN")], [Decimal("sNaN"), math.inf]),
        (mr.agg.top_k(2), [(1, math.nan), (2, 0), (1, 9)], [(2, 0), (1, math.nan)]),
    ],
)
def test_as_a_plain_function(aggregation: Aggregation, values: list[Any], result: Any) -> None:
    assert list(map(repr, aggregation("key", values))) == [repr(("key", result))]
    rows = Rows(key_column(["key"] * len(values)), {"value": value_column(values)})
    (table,) = kernel_of(aggregation.spec).results(rows)
    assert repr(to_pairs(table)) == repr((["key"], [result]))


def test_names() -> None:
    plain = {"sum", "count", "min", "max", "mean", "collect", "count_distinct", "first", "last"}
    assert set(KERNELS) == plain | {"top_k", "quantiles", "each"}
    assert all(hasattr(mr.agg, name) for name in KERNELS)
    assert repr(mr.agg.mean) == "mr.agg.mean"
    both = mr.agg.each(mr.agg.sum, mr.agg.each(mr.agg.top_k(3), mr.agg.quantiles(0.5)))
    assert repr(both) == "mr.agg.each(mr.agg.sum, mr.agg.each(mr.agg.top_k(3), mr.agg.quantiles(0.5)))"
    assert decode(encode(both.spec, JSON), AggregationSpec, JSON) == both.spec
    assert repr(mr.agg.top_k(3)) == "mr.agg.top_k(3)"
    assert mr.agg.top_k(3) == mr.agg.top_k(3) != mr.agg.top_k(2)
    assert mr.agg.sum == Aggregation("sum", len, "")
    assert mr.agg.sum != mr.agg.count
    with pytest.raises(SegmentCorrupt, match=r"no mr\.agg\.median\(0\.5\)"):
        kernel_of(AggregationSpec("median", (0.5,)))


@pytest.mark.parametrize("aggregation", [mr.agg.min, mr.agg.max], ids=repr)
def test_values_that_refuse_comparison_are_told(aggregation: Aggregation) -> None:
    with pytest.raises(BadAggregate, match="cannot compare"):
        aggregation.reduce_values([Decimal(1), Decimal("NaN")])


def by_columns(aggregation: Aggregation, parts: list[list[tuple[str, Any]]]) -> dict[str, Any]:
    """Combine each part, then all of them together, as a map's spills and a reducer do."""
    kernel = kernel_of(aggregation.spec)
    states = [
        kernel.combine(Rows(key_column([k for k, _ in part]), {"value": value_column([v for _, v in part])}))
        for part in parts
    ]
    merged = finished(kernel.combine(concatenate(states)))
    return dict(zip(key_list(merged.keys), value_list(merged.columns["value"]), strict=True))


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


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ([1, 2, "x"], "2 beside 'x'"),
        ([(1, 2), [1, 2]], "(1, 2) beside [1, 2]"),
        ([0, ()], "0 beside ()"),
        ([1, None], "None of type NoneType"),
        ([{1}], "{1} of type set"),
        ([(1, {2: 3})], "(1, {2: 3}) of type tuple"),
        ([(1, "a"), (2, "b"), (1, 5)], "values of different types"),
    ],
)
def test_what_has_no_order_names_the_key(values: list[Any], told: str) -> None:
    with pytest.raises(BadAggregate, match=re.escape(f"mr.agg.top_k cannot order {told} (key 'b')")):
        by_columns(mr.agg.top_k(2), [[("a", 1), *(("b", value) for value in values)]])
    with pytest.raises(BadAggregate, match=re.escape(told)):
        mr.agg.top_k(2).reduce_values(values)


@pytest.mark.parametrize("k", [0, -1, "a", 1.0, True, None, 1 << 63], ids=repr)
def test_top_k_refuses_what_is_no_number_of_values(k: Any) -> None:
    with pytest.raises(BadJob, match=re.escape(f"mr.agg.top_k({k!r}): k must be a whole number from 1 up")):
        mr.agg.top_k(k)


@pytest.mark.parametrize("shares", [(), (1.5,), (0.5, -0.1), ("a",), (True,), (math.nan,)], ids=repr)
def test_quantiles_refuse_what_is_no_share(shares: Any) -> None:
    with pytest.raises(BadJob, match=r"^mr\.agg\.quantiles.* from 0 to 1$"):
        mr.agg.quantiles(*shares)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (["x"], "takes numbers; it met 'x' of type str"),
        ([0.5, 1, None], "met None"),
        ([1 << 2000], "too large"),
    ],
)
def test_quantiles_of_what_is_no_number_name_the_key(values: list[Any], told: str) -> None:
    rows = Rows(key_column(["a", *"b" * len(values)]), {"value": value_column([1, *values])})
    with pytest.raises(BadAggregate, match=rf"mr\.agg\.quantiles.*{told}.* \(key 'b'\)"):
        list(kernel_of(mr.agg.quantiles(0.5).spec).results(rows))
    with pytest.raises(BadAggregate, match=told):
        mr.agg.quantiles(0.5).reduce_values(values)


@pytest.mark.parametrize(
    ("parts", "told"),
    [((), "at least one aggregation"), ((mr.agg.sum, sum), "<built-in function sum> is no aggregation")],
)
def test_each_refuses_what_is_no_aggregation(parts: tuple[Any, ...], told: str) -> None:
    with pytest.raises(BadJob, match=rf"^mr\.agg\.each.*{told}.*such as mr\.agg\.sum$"):
        mr.agg.each(*parts)


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
