"""The bytes of keys are fixed: a change here breaks segments of running jobs."""

import enum
import math
from typing import Any

import pytest

from mr.errors import UnencodableKey
from mr.workers.shuffle.key_codec import MAX_DEPTH, encode_key


class Colour(enum.IntEnum):
    RED = 1


class Name(str):
    __slots__ = ()


@pytest.mark.parametrize(
    ("key", "encoded"),
    [
        (None, "01"),
        (False, "02"),
        (True, "03"),
        (0, "0580"),
        (1, "058101"),
        (256, "05820100"),
        (-1, "057ffe"),
        (-256, "057efeff"),
        (1 << 64, "0589010000000000000000"),
        (0.0, "068000000000000000"),
        (-0.0, "068000000000000000"),
        (1.5, "06bff8000000000000"),
        (-1.5, "064007ffffffffffff"),
        (math.nan, "06fff8000000000000"),
        ("é", "07c3a9"),
        ("\udc80", "07edb280"),
        (b"a\x00", "086100"),
        ((), "0900"),
        (("a\x00", 1), "09076100ff0005810100"),
        (((None,),), "0909010000"),
    ],
)
def test_encoding(key: Any, encoded: str) -> None:
    assert encode_key(key).hex() == encoded


@pytest.mark.parametrize("key", [[1], {1}, {}, 1j, object, Colour.RED, Name("a"), ("a", [1]), (Colour.RED,)])
def test_other_types_are_refused(key: Any) -> None:
    with pytest.raises(UnencodableKey, match="has no order here; use None, bool"):
        encode_key(key)


def test_too_deep_a_tuple_is_refused() -> None:
    key: Any = 1
    for _ in range(MAX_DEPTH):
        key = (key,)
    encode_key(key)
    with pytest.raises(UnencodableKey, match="flatten"):
        encode_key((key,))
