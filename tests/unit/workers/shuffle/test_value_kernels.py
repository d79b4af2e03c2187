"""The built-in reducers that keep values, over columns: what they refuse."""

import re
from typing import Any

import pytest

import mr.agg
from mr.errors import BadAggregate
from mr.workers.shuffle.aggregate import kernel_of
from mr.workers.shuffle.columns import key_column, value_column
from mr.workers.shuffle.rows import Rows
from tests.support.kernels import by_columns


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
