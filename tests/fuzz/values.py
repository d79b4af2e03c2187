"""The one generator of absurd input: valid messages, records and files with something wrong in them."""

import json
import math
import random
from collections.abc import Iterator
from typing import Any

import msgspec

from mr.protocol.codec import JSON, MSGPACK

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
    "unheard-of",
    "a\0b",
    "../../x",
    "/etc/passwd",
    "s3://nowhere/x",
    "file:///etc/passwd",
    "map-00000\n",
    "map-999999999",
    "reduce-00007",
    "job-1",
    "%s{0}\x1b[31m\u202e",
    [],
    {},
    [[[]]],
    {"a": {"b": []}},
    {"": ""},
    ["x"] * 3000,
    b"\xff\xfe",
)
#: Only JSON can carry these.
HUGE: tuple[int, ...] = (2**70, 10**400, -(10**400))
#: Stand in a message for what an encoder refuses: a lone surrogate, and very deep nesting.
_SURROGATE, _DEEP = "@surrogate@", "@very-deep@"
_DEPTH = 100_000
_SPECIAL = (_SURROGATE, _DEEP)
#: In bytes: lengths and counts that a reader may believe.
_WORDS = (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x80" * 9, b"\xff" * 8, b"\x7f" * 8)


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


def poisoned(rng: random.Random, valid: Any, values: tuple[Any, ...] = ABSURD) -> Any:
    """A valid structure with something absurd in one place: a value, a value of another place, a key."""
    path = rng.choice(list(places(valid)))
    at = valid
    for step in path:
        at = at[step]
    how = rng.random()
    if how < 0.15 and isinstance(at, dict):
        return changed(valid, path, {**at, rng.choice(("unheard-of", "", "type")): rng.choice(values)})
    if how < 0.25 and isinstance(at, dict) and at:
        gone = rng.choice(list(at))
        return changed(valid, path, {key: item for key, item in at.items() if key != gone})
    if how < 0.3 and isinstance(at, list) and at:
        return changed(valid, path, at * rng.choice((0, 2, 3000)))
    if how < 0.4:
        other = valid
        for step in rng.choice(list(places(valid))):
            other = other[step]
        return changed(valid, path, other)
    return changed(valid, path, rng.choice(values))


def message(rng: random.Random, valid: Any, content_type: str = MSGPACK) -> bytes:
    """A valid message as bytes, with something absurd in one place, or damaged as bytes."""
    if rng.random() < 0.1:
        return damaged(rng, packed(valid, content_type))
    values = (*ABSURD, *_SPECIAL, *(HUGE if content_type == JSON else ()))
    return packed(poisoned(rng, valid, values), content_type)


def packed(value: Any, content_type: str = MSGPACK) -> bytes:
    """Encode a structure, with what no encoder takes put in afterwards."""
    if content_type == JSON:
        body = json.dumps(value, default=lambda other: other.decode("latin-1")).encode()
        deep = b"[" * _DEPTH + b"]" * _DEPTH
        return body.replace(f'"{_DEEP}"'.encode(), deep).replace(_SURROGATE.encode(), b"\\ud800")
    body = msgspec.msgpack.encode(value)
    deep = b"\x91" * _DEPTH + b"\xc0"
    surrogate = bytes([0xA0 + len(_SURROGATE)]) + _SURROGATE.encode()
    return body.replace(bytes([0xA0 + len(_DEEP)]) + _DEEP.encode(), deep).replace(
        surrogate, b"\xa3\xed\xa0\x80"
    )


def damaged(rng: random.Random, data: bytes) -> bytes:
    """Bytes cut short, with some flipped, with a number changed, or with a piece lost, doubled or put in."""
    at = rng.randrange(len(data) + 1)
    end = min(len(data), at + rng.choice((1, 1, 2, 4, 8, 16, 100)))
    match rng.randrange(7):
        case 0:
            return data[:at]
        case 1 if at < len(data):
            return data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]
        case 2:
            word = rng.choice(_WORDS)
            return data[:at] + word + data[at + len(word) :]
        case 3:
            return data[:at] + data[end:]
        case 4:
            return data[:end] + data[at:]
        case 5:
            return data[:at] + rng.randbytes(end - at) + data[end:]
    return rng.choice((b"", data + data, data + b"\0", b"\0" + data, rng.randbytes(40)))
