"""The order and the identity of keys: encoded bytes, native columns and sorting by prefix all agree."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mr.workers.shuffle import sort
from mr.workers.shuffle.columns import encode_keys, key_column, key_list
from mr.workers.shuffle.key_codec import decode_key, encode_key
from mr.workers.shuffle.partition import hash_encoded, hashes_of, partition_of, partitions_of
from mr.workers.shuffle.prefix_sort import sort_distinctly
from mr.workers.shuffle.sort import rank_keys, stable_order

INTEGERS = st.integers() | st.integers(-300, 300) | st.integers(-(1 << 1100), 1 << 1100)
FLOATS = st.floats() | st.sampled_from([0.0, -0.0, math.nan, -math.nan, math.inf, -math.inf])
TEXT = st.text(st.characters(codec=None), max_size=6) | st.text("\x00a\udc80\U0001f600", max_size=4)
BYTES = st.binary(max_size=5) | st.lists(st.sampled_from([b"\x00", b"\xff", b"a"]), max_size=4).map(b"".join)
ATOMS = st.none() | st.booleans() | INTEGERS | FLOATS | TEXT | BYTES
KEYS = st.recursive(ATOMS, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=6)

RANKS = {type(None): 0, bool: 1, int: 2, float: 3, str: 4, bytes: 5, tuple: 6}


def rank(key: Any) -> Any:
    """The documented order of keys, as something that Python can sort."""
    if type(key) is float:
        return (3, (1, 0.0) if math.isnan(key) else (0, key + 0.0))
    if type(key) is tuple:
        return (6, tuple(map(rank, key)))
    return (RANKS[type(key)], 0 if key is None else key)


@given(KEYS, KEYS)
@settings(max_examples=500)
def test_bytes_sort_as_keys_do(left: Any, right: Any) -> None:
    assert (encode_key(left) < encode_key(right)) == (rank(left) < rank(right))
    assert (encode_key(left) == encode_key(right)) == (rank(left) == rank(right))


@given(KEYS)
@settings(max_examples=300)
def test_keys_come_back(key: Any) -> None:
    found = decode_key(encode_key(key))
    assert type(found) is type(key)
    assert rank(found) == rank(key)


UNIFORM = st.sampled_from(
    [st.integers(-(1 << 63), (1 << 63) - 1), FLOATS, st.text(), BYTES, st.booleans()]
).flatmap(lambda kind: st.lists(kind, min_size=1, max_size=40))


@given(UNIFORM)
def test_native_and_encoded_columns_agree_on_partitions(keys: list[Any]) -> None:
    column = key_column(keys)
    hashes = [hash_encoded(encode_key(key)) for key in keys]
    assert hashes_of(column).tolist() == hashes
    assert hashes_of(encode_keys(column)).tolist() == hashes
    assert partitions_of(column, 7, None).tolist() == [partition_of(key, 7) for key in keys]


LONG = st.text("ab\x00", max_size=30).map(lambda tail: "common prefix " + tail)
MANY = st.sampled_from(
    [
        st.integers(-(1 << 63), (1 << 63) - 1),
        FLOATS,
        st.text("ab\x00é", max_size=20),
        BYTES,
        LONG,
        st.booleans(),
        KEYS,
    ]
).flatmap(lambda kind: st.lists(kind, min_size=1, max_size=60))


@given(MANY, st.booleans(), st.integers(0, 3))
def test_ranks_by_hashing_and_by_sorting(keys: list[Any], sorting: bool, skipped: int) -> None:
    """Both ways give the sorted distinct keys; also of a slice that does not begin at its buffers' start."""
    column = key_column(["begin"] * skipped + keys) if isinstance(keys[0], str) else key_column(keys)
    column = column.slice(len(column) - len(keys), len(column))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sort, "SAMPLE_ROWS", 1 if sorting else 1 << 20)
        distinct, codes = rank_keys(column)
    wanted = sorted({rank(key) for key in keys})
    assert [rank(key) for key in key_list(distinct)] == wanted
    assert [wanted[code] for code in codes.tolist()] == [rank(key) for key in keys]


def test_sorting_gives_up_on_long_common_prefixes() -> None:
    keys = key_column(["x" * 100 + str(n) for n in range(50)])
    assert sort_distinctly(keys) is None
    assert sort_distinctly(key_column(["x" * 60 + chr(97 + n % 4) for n in range(50)])) is not None


@given(st.lists(st.integers(0, 5), max_size=50))
def test_stable_order_is_stable(codes: list[int]) -> None:
    found = stable_order(np.array(codes, np.int64))
    positions = list(range(len(codes))) if found is None else found.tolist()
    assert positions == sorted(range(len(codes)), key=lambda at: codes[at])
