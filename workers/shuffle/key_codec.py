"""Keys as bytes whose order is the order of the keys: one type tag, then the value.

The order of all keys, and what makes two of them equal:

    None < False < True < int < float < str < bytes < tuple

Keys of different types are never equal: 1, 1.0 and True are three keys. Integers of any size sort by
value; floats by value, with -0.0 equal to 0.0 and every NaN one key after all others; strings by code
point (= by UTF-8 byte), lone surrogates included; tuples by element, a prefix first.

Only the exact built-in types count. NumPy scalars are converted to them before they come here;
subclasses (enums, named tuples, `str` subclasses) are refused, because they would come back as
something else than what was given.
"""

import struct
from collections.abc import Callable
from typing import Any, Final

from mr.error_text import safe_repr
from mr.errors import UnencodableKey

#: First byte of every encoded key. 0 is no tag: it ends a tuple.
NONE: Final = 0x01
FALSE: Final = 0x02
TRUE: Final = 0x03
INT: Final = 0x05
FLOAT: Final = 0x06
STR: Final = 0x07
BYTES: Final = 0x08
TUPLE: Final = 0x09

#: Deepest nesting of tuples.
MAX_DEPTH: Final = 64

#: Length byte of integers: 0x80 + bytes for those >= 0, 0x80 - bytes for those below, up to this many bytes;
#: beyond it 0xFF or 0x00 and eight bytes of length.
_SHORT_BYTES: Final = 0x7E
_SIGN: Final = 1 << 63
_ALL: Final = (1 << 64) - 1
_QUIET_NAN: Final = 0x7FF8_0000_0000_0000


def encode_key(key: Any) -> bytes:
    """Encode one key. Raises UnencodableKey for a type without an order and for too deep nesting."""
    encoder = _ENCODERS.get(type(key))
    if encoder is None:
        raise UnencodableKey(_refusal(key))
    return encoder(key)


def decode_key(data: bytes) -> Any:
    """Give back the key that `encode_key` encoded."""
    tag = data[0]
    if tag == STR:
        return data[1:].decode("utf-8", "surrogatepass")
    if tag == BYTES:
        return data[1:]
    return _decode_nested(data, 0)[0]


def _refusal(key: Any) -> str:
    return (
        f"the key {safe_repr(key)} is of type {type(key).__qualname__}, which has no order here; "
        "use None, bool, int, float, str, bytes or tuples of them"
    )


def _encode_int(key: int) -> bytes:
    length = (abs(key).bit_length() + 7) // 8
    if key >= 0:
        code = (
            bytes((INT, 0x80 + length)) if length <= _SHORT_BYTES else b"\x05\xff" + length.to_bytes(8, "big")
        )
        return code + key.to_bytes(length, "big")
    code = (
        bytes((INT, 0x80 - length))
        if length <= _SHORT_BYTES
        else b"\x05\x00" + (_ALL - length).to_bytes(8, "big")
    )
    return code + ((1 << 8 * length) - 1 + key).to_bytes(length, "big")


def _decode_int(data: bytes, at: int) -> tuple[int, int]:
    code = data[at]
    at += 1
    if code in (0x00, 0xFF):
        length = int.from_bytes(data[at : at + 8], "big")
        length = length if code else _ALL - length
        at += 8
    else:
        length = abs(code - 0x80)
    value = int.from_bytes(data[at : at + length], "big")
    return (value if code >= 0x80 else value - (1 << 8 * length) + 1), at + length


def float_payload(key: float) -> bytes:
    """Eight bytes that sort as the number does; -0.0 as 0.0, every NaN alike and last."""
    bits = _QUIET_NAN if key != key else struct.unpack(">Q", struct.pack(">d", key + 0.0))[0]
    return (bits ^ _ALL if bits & _SIGN else bits | _SIGN).to_bytes(8, "big")


def _decode_float(data: bytes, at: int) -> tuple[float, int]:
    bits = int.from_bytes(data[at : at + 8], "big")
    bits = bits ^ _SIGN if bits & _SIGN else bits ^ _ALL
    return struct.unpack(">d", bits.to_bytes(8, "big"))[0], at + 8


def _encode_tuple(key: tuple[Any, ...]) -> bytes:
    out = bytearray()
    _append_tuple(out, key, 1)
    return bytes(out)


def _append_tuple(out: bytearray, key: tuple[Any, ...], depth: int) -> None:
    if depth > MAX_DEPTH:
        raise UnencodableKey(f"a key nests tuples more than {MAX_DEPTH} deep; flatten it")
    out.append(TUPLE)
    for element in key:
        kind = type(element)
        if kind is tuple:
            _append_tuple(out, element, depth + 1)
            continue
        encoded = encode_key(element)
        if kind is str or kind is bytes:  # zeros are escaped, so that a single zero ends it and sorts first
            encoded = encoded.replace(b"\x00", b"\x00\xff") + b"\x00"
        out += encoded
    out.append(0)


def _decode_nested(data: bytes, at: int) -> tuple[Any, int]:
    tag = data[at]
    at += 1
    if tag == INT:
        return _decode_int(data, at)
    if tag in (STR, BYTES):
        end = data.index(b"\x00", at)
        while data[end + 1 : end + 2] == b"\xff":
            end = data.index(b"\x00", end + 2)
        raw = data[at:end].replace(b"\x00\xff", b"\x00")
        return (raw.decode("utf-8", "surrogatepass") if tag == STR else raw), end + 1
    if tag == FLOAT:
        return _decode_float(data, at)
    if tag == TUPLE:
        elements = []
        while data[at]:
            element, at = _decode_nested(data, at)
            elements.append(element)
        return tuple(elements), at + 1
    return _SINGLES[tag], at


_SINGLES: Final[dict[int, bool | None]] = {NONE: None, FALSE: False, TRUE: True}

_ENCODERS: Final[dict[type, Callable[[Any], bytes]]] = {
    type(None): lambda key: b"\x01",
    bool: lambda key: b"\x03" if key else b"\x02",
    int: _encode_int,
    float: lambda key: b"\x06" + float_payload(key),
    str: lambda key: b"\x07" + key.encode("utf-8", "surrogatepass"),
    bytes: lambda key: b"\x08" + key,
    tuple: _encode_tuple,
}
