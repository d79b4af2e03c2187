"""Values as bytes: each comes back exactly, any other is refused."""

from collections import Counter, namedtuple
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from mr.errors import UnencodableValue
from mr.workers.shuffle.value_codec import decode_value, encode_value

Point = namedtuple("Point", "x y")
NESTED = {"a": [1, (2.5, None)], (1, "x"): {frozenset({1}), b"z"}, 3: -(1 << 200)}


@pytest.mark.parametrize(
    "value",
    [
        NESTED,
        [1, (2.5, None), "x"],
        (),
        set(),
        [[], {}],
        1 << 64,
        -(1 << 63) - 1,
        "\udc80",
        1 + 2j,
        Decimal("1.10"),
        UUID(int=5),
        date(2024, 2, 29),
        time(1, 2, 3, 4),
        timedelta(-1, 2, 3),
        datetime(2024, 1, 1, 12),
        datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin")),
        datetime(2024, 1, 1, tzinfo=UTC),
        datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=-3, minutes=-30), "there")),
    ],
)
def test_values_come_back_exactly(value: Any) -> None:
    found = decode_value(encode_value(value))
    assert found == value
    assert type(found) is type(value)
    if value is not NESTED:  # sets show their members in no order
        assert repr(found) == repr(value)


def test_equal_sets_have_equal_bytes() -> None:
    assert encode_value({8, 0, 16}) == encode_value({16, 8, 0})


@pytest.mark.parametrize("value", [object(), Point(1, 2), Counter("a"), [Point(1, 2)], np.zeros(2)])
def test_other_values_are_refused(value: Any) -> None:
    with pytest.raises(UnencodableValue, match="cannot be stored"):
        encode_value(value)


def test_time_zones_that_would_not_come_back_are_refused() -> None:
    class Odd(tzinfo):
        """A zone of the user's own."""

    with pytest.raises(UnencodableValue, match="or ZoneInfo"):
        encode_value(datetime(2024, 1, 1, tzinfo=Odd()))
    with pytest.raises(UnencodableValue, match="store a datetime"):
        encode_value(time(1, tzinfo=UTC))


def test_a_refused_value_leaves_no_trace() -> None:
    with pytest.raises(UnencodableValue):
        encode_value([1, 2, object()])
    assert decode_value(encode_value([3])) == [3]


def test_a_value_that_holds_itself_is_refused() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(UnencodableValue, match="cannot be stored"):
        encode_value(value)
