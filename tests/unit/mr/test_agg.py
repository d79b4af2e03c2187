"""The built-in reducers: as plain functions, as values, and what they refuse when they are made."""

import math
import re
from decimal import Decimal
from typing import Any

import pytest

import mr.agg
from mr.agg import MAX_EACH_DEPTH, Aggregation
from mr.errors import BadAggregate, BadJob
from mr.protocol.aggregation import AggregationSpec
from mr.protocol.codec import JSON, decode, encode
from mr.workers.shuffle.aggregate import kernel_of
from mr.workers.shuffle.result_table import to_pairs
from tests.support.kernels import raw_rows


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
    rows = raw_rows([("key", value) for value in values])
    (table,) = kernel_of(aggregation.spec).results(rows)
    assert repr(to_pairs(table)) == repr((["key"], [result]))


def test_an_aggregation_is_its_spec() -> None:
    assert repr(mr.agg.mean) == "mr.agg.mean"
    assert repr(mr.agg.top_k(3)) == "mr.agg.top_k(3)"
    assert mr.agg.top_k(3) == mr.agg.top_k(3) != mr.agg.top_k(2)
    assert mr.agg.sum == Aggregation("sum", len, "")
    assert mr.agg.sum != mr.agg.count
    both = mr.agg.each(mr.agg.sum, mr.agg.each(mr.agg.top_k(3), mr.agg.quantiles(0.5)))
    assert repr(both) == "mr.agg.each(mr.agg.sum, mr.agg.each(mr.agg.top_k(3), mr.agg.quantiles(0.5)))"
    assert decode(encode(both.spec, JSON), AggregationSpec, JSON) == both.spec


def test_what_an_aggregation_can_do() -> None:
    feeding = mr.agg.each(mr.agg.sum, mr.agg.first)
    assert feeding.combines and feeding.feeds_reduce_fn
    combining = mr.agg.each(mr.agg.sum, mr.agg.top_k(2))
    assert combining.combines and not combining.feeds_reduce_fn
    assert not mr.agg.each(mr.agg.sum, mr.agg.collect).combines


@pytest.mark.parametrize("aggregation", [mr.agg.min, mr.agg.max], ids=repr)
def test_values_that_refuse_comparison_are_told(aggregation: Aggregation) -> None:
    with pytest.raises(BadAggregate, match="cannot compare"):
        aggregation.reduce_values([Decimal(1), Decimal("NaN")])


@pytest.mark.parametrize("k", [0, -1, "a", 1.0, True, None, 1 << 63], ids=repr)
def test_top_k_refuses_what_is_no_number_of_values(k: Any) -> None:
    with pytest.raises(BadJob, match=re.escape(f"mr.agg.top_k({k!r}): k must be a whole number, at least 1")):
        mr.agg.top_k(k)


@pytest.mark.parametrize("shares", [(), (1.5,), (0.5, -0.1), ("a",), (True,), (math.nan,)], ids=repr)
def test_quantiles_refuse_what_is_no_share(shares: Any) -> None:
    with pytest.raises(BadJob, match=r"^mr\.agg\.quantiles.* from 0 to 1$"):
        mr.agg.quantiles(*shares)


@pytest.mark.parametrize(
    ("parts", "told"),
    [((), "at least one aggregation"), ((mr.agg.sum, sum), "<built-in function sum> is not an aggregation")],
)
def test_each_refuses_what_is_no_aggregation(parts: tuple[Any, ...], told: str) -> None:
    with pytest.raises(BadJob, match=rf"^mr\.agg\.each.*{told}.*such as mr\.agg\.sum$"):
        mr.agg.each(*parts)


def test_each_is_nested_to_a_bounded_depth() -> None:
    """Deeper ones would end in Python's limit of recursion, on every worker."""
    nested = mr.agg.sum
    for _ in range(MAX_EACH_DEPTH):
        nested = mr.agg.each(nested)
    with pytest.raises(BadJob, match=r"^mr\.agg\.each can be nested 8 deep at most$"):
        mr.agg.each(nested)
