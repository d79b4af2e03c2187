"""Valid messages and records with one absurd value in them."""

import math
from collections.abc import Iterator
from typing import Any

import msgspec
from hypothesis import strategies as st

ABSURD: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    2**31,
    2**53 + 1,
    2**63 - 1,
    2**63,
    2**64 - 1,
    -(2**63),
    0.5,
    -1e308,
    1e308,
    math.nan,
    math.inf,
    "",
    "x" * 5000,
    "9" * 400,
    "999999999999999T",
    "1e999",
    "a\0b",
    "../../x",
    "/etc/passwd",
    "map-00000\n",
    "map-999999999",
    "reduce-00007",
    [],
    {},
    [[[]]],
    {"a": {"b": []}},
    b"\xff\xfe",
)
#: Only JSON can carry these.
HUGE: tuple[int, ...] = (2**70, 10**400, -(10**400))


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place inside a structure of dicts and lists."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


def changed(value: Any, path: tuple[Any, ...], absurd: Any) -> Any:
    """A copy of a structure with one value replaced."""
    if not path:
        return absurd
    copy = value.copy()
    copy[path[0]] = changed(value[path[0]], path[1:], absurd)
    return copy


def plain(record: Any) -> Any:
    """A Struct as dicts and lists, as msgpack has it."""
    return msgspec.msgpack.decode(msgspec.msgpack.encode(record))


@st.composite
def poisoned(draw: st.DrawFn, valid: Any, values: tuple[Any, ...] = ABSURD) -> Any:
    """One of the valid structures, with an absurd value somewhere."""
    path = draw(st.sampled_from(list(places(valid))))
    return changed(valid, path, draw(st.sampled_from(values)))
