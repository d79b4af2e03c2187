"""What becomes a native column, what is encoded, and what is refused, with the row to blame."""

from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mr.errors import UnencodableKey, UnencodableValue
from mr.workers.shuffle.columns import (
    Kind,
    arrow_column,
    join,
    key_column,
    key_list,
    value_column,
    value_list,
)


@pytest.mark.parametrize(
    ("items", "kind"),
    [
        (["a", "é"], Kind.STR),
        ([b"a"], Kind.BYTES),
        ([1, -5], Kind.INT),
        ([1.5], Kind.FLOAT),
        ([True, False], Kind.BOOL),
        ([np.int32(4), np.int32(5)], Kind.INT),
        ([np.float64(0.5), 2.5], Kind.FLOAT),
        ([np.str_("a")], Kind.STR),
        ([1, True], Kind.ENCODED),
        ([1, 1.0], Kind.ENCODED),
        ([1 << 63], Kind.ENCODED),
        (["\udc80"], Kind.ENCODED),
        ([None], Kind.ENCODED),
        ([("a", 1)], Kind.ENCODED),
    ],
)
def test_kinds(items: list[Any], kind: Kind) -> None:
    plain = [item.item() if isinstance(item, np.generic) else item for item in items]
    for make, back in ((key_column, key_list), (value_column, value_list)):
        column = make(items)
        assert column.kind is kind
        assert back(column) == plain
        assert list(map(type, back(column))) == list(map(type, plain))


def test_refusals_name_the_row() -> None:
    with pytest.raises(UnencodableKey) as key_error:
        key_column(["a", "b", ["c"]])
    assert key_error.value.row == 2
    with pytest.raises(UnencodableValue) as value_error:
        value_column([1, object()])
    assert value_error.value.row == 1


@pytest.mark.parametrize(
    ("data", "kind", "items"),
    [
        (pa.array([1, 2], pa.int16()), Kind.INT, [1, 2]),
        (pa.array([1, 1 << 63], pa.uint64()), Kind.ENCODED, [1, 1 << 63]),
        (pa.array([0.5], pa.float32()), Kind.FLOAT, [0.5]),
        (pa.array(["a", "b", "a"]).dictionary_encode(), Kind.STR, ["a", "b", "a"]),
        (pa.DictionaryArray.from_arrays([0, 1], ["a", None]), Kind.ENCODED, ["a", None]),
        (pa.array(["a"], pa.large_string()), Kind.STR, ["a"]),
        (pa.array([b"ab"], pa.binary(2)), Kind.BYTES, [b"ab"]),
        (pa.array(["a", None]), Kind.ENCODED, ["a", None]),
        (pa.array([[1, 2]]), Kind.ENCODED, [[1, 2]]),
        (pa.array([date(2024, 1, 1)]), Kind.ENCODED, [date(2024, 1, 1)]),
    ],
)
def test_arrow_data_of_the_users(data: pa.Array, kind: Kind, items: list[Any]) -> None:
    column = arrow_column(data, keys=False)
    assert column.kind is kind
    assert value_list(column) == items


def test_float_keys_are_normalised() -> None:
    for column in (key_column([-0.0]), arrow_column(pa.array([-0.0]), keys=True), key_column([-0.0, None])):
        assert str(key_list(column)[0]) == "0.0"
    assert str(value_list(value_column([-0.0]))) == "[-0.0]"


def test_columns_of_two_kinds_become_encoded() -> None:
    joined = join([key_column([1, 2]), key_column(["a"]), key_column([])], keys=True)
    assert joined.kind is Kind.ENCODED
    assert key_list(joined) == [1, 2, "a"]
    assert join([key_column([1]), key_column([2])], keys=True).kind is Kind.INT
