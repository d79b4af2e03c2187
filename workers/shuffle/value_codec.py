"""Values that fit no native column, as msgpack with a few extension types.

None, bool, int of any size, float, str (lone surrogates too), bytes, list, tuple, dict, set, frozenset,
complex, Decimal, UUID, date, time, datetime and timedelta come back exactly as they were given, at
any nesting; a bytearray comes back as bytes. Other types, and subclasses of these, are refused.
The bytes of equal sets are equal; those of equal dicts are when their items stand in the same order.
"""

import threading
import uuid
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any, Final
from zoneinfo import ZoneInfo

import msgpack  # type: ignore[import-untyped]

from mr.error_text import safe_repr
from mr.errors import UnencodableValue

#: Largest encoded value, in bytes: an Arrow column holds no more than 2 GiB.
MAX_VALUE_BYTES: Final = 1 << 30

_TUPLE, _SET, _FROZENSET, _INT, _DATETIME, _DATE, _TIME, _TIMEDELTA, _DECIMAL, _COMPLEX, _UUID = range(1, 12)


#: First byte of a value that is a tuple, before its elements as a list. No msgpack begins with it.
_TOP_TUPLE: Final = b"\xc1"


def encode_value(value: Any) -> bytes:
    """Encode one value. Raises UnencodableValue for a type that would not come back as it was."""
    try:
        if type(value) is tuple:
            data: bytes = _TOP_TUPLE + _PACKER.pack(list(value))
        else:
            data = _PACKER.pack(value)
    except (ValueError, RecursionError, OverflowError) as error:
        raise UnencodableValue(
            f"a value of type {type(value).__qualname__} cannot be stored: {error}"
        ) from error
    if len(data) > MAX_VALUE_BYTES:
        raise UnencodableValue(f"a value of {len(data)} bytes is over the limit of {MAX_VALUE_BYTES}")
    return data


def decode_value(data: bytes) -> Any:
    """Give back the value that `encode_value` encoded."""
    if data[:1] == _TOP_TUPLE:
        return tuple(_unpack(data[1:]))
    return _unpack(data)


def _unpack(data: bytes) -> Any:
    return msgpack.unpackb(
        data, ext_hook=_from_extension, strict_map_key=False, unicode_errors="surrogatepass"
    )


def _pack(value: Any) -> bytes:
    """Encode a nested value."""
    return msgpack.packb(value, **_OPTIONS)  # type: ignore[no-any-return]


def _to_extension(value: Any) -> msgpack.ExtType:
    encoder = _ENCODERS.get(type(value))
    if encoder is None:
        raise UnencodableValue(
            f"the value {safe_repr(value)} is of type {type(value).__qualname__}, which cannot be stored; "
            "use None, bool, int, float, str, bytes, list, tuple, dict, set, Decimal, UUID "
            "or the types of datetime"
        )
    code, encode = encoder
    return msgpack.ExtType(code, encode(value))


def _from_extension(code: int, data: bytes) -> Any:
    return _DECODERS[code](data)


def _pack_set(value: set[Any] | frozenset[Any]) -> bytes:
    members = sorted(map(_pack, value))
    return msgpack.Packer().pack_array_header(len(members)) + b"".join(members)  # type: ignore[no-any-return]


def _pack_datetime(value: datetime) -> bytes:
    zone = value.tzinfo
    if zone is None:
        named: Any = None
    elif type(zone) is timezone:
        offset, *name = zone.__getinitargs__()  # type: ignore[attr-defined]
        named = [offset.days, offset.seconds, offset.microseconds, *name]
    elif type(zone) is ZoneInfo and zone.key is not None:
        named = zone.key
    else:
        raise UnencodableValue(f"the time zone {zone!r} cannot be stored; use datetime.timezone or ZoneInfo")
    return _pack([value.replace(tzinfo=None, fold=0).isoformat(), value.fold, named])


def _unpack_datetime(data: bytes) -> datetime:
    text, fold, named = _unpack(data)
    zone: Any = None
    if type(named) is str:
        zone = ZoneInfo(named)
    elif named is not None:
        zone = timezone(timedelta(*named[:3]), *named[3:])
    return datetime.fromisoformat(text).replace(tzinfo=zone, fold=fold)


def _pack_time(value: time) -> bytes:
    if value.tzinfo is not None:
        raise UnencodableValue(f"the time {value!r} has a time zone; store a datetime, or a time without one")
    return _pack([value.replace(fold=0).isoformat(), value.fold])


def _unpack_time(data: bytes) -> time:
    text, fold = _unpack(data)
    return time.fromisoformat(text).replace(fold=fold)


def _pack_int(value: int) -> bytes:
    return value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)


_ENCODERS: Final[dict[type, tuple[int, Callable[[Any], bytes]]]] = {
    tuple: (_TUPLE, lambda value: _pack(list(value))),
    set: (_SET, _pack_set),
    frozenset: (_FROZENSET, _pack_set),
    int: (_INT, _pack_int),
    datetime: (_DATETIME, _pack_datetime),
    date: (_DATE, lambda value: value.isoformat().encode()),
    time: (_TIME, _pack_time),
    timedelta: (_TIMEDELTA, lambda value: _pack([value.days, value.seconds, value.microseconds])),
    Decimal: (_DECIMAL, lambda value: str(value).encode()),
    complex: (_COMPLEX, lambda value: _pack([value.real, value.imag])),
    uuid.UUID: (_UUID, lambda value: value.bytes),
}

_DECODERS: Final[dict[int, Callable[[bytes], Any]]] = {
    _TUPLE: lambda data: tuple(_unpack(data)),
    _SET: lambda data: set(_unpack(data)),
    _FROZENSET: lambda data: frozenset(_unpack(data)),
    _INT: lambda data: int.from_bytes(data, "big", signed=True),
    _DATETIME: _unpack_datetime,
    _DATE: lambda data: date.fromisoformat(data.decode()),
    _TIME: _unpack_time,
    _TIMEDELTA: lambda data: timedelta(*_unpack(data)),
    _DECIMAL: lambda data: Decimal(data.decode()),
    _COMPLEX: lambda data: complex(*_unpack(data)),
    _UUID: lambda data: uuid.UUID(bytes=data),
}

_OPTIONS: Final[dict[str, Any]] = {
    "default": _to_extension,
    "strict_types": True,
    "unicode_errors": "surrogatepass",
}


class _ThreadPacker(threading.local):
    """One packer per thread: making one for every value costs more than packing it."""

    def __init__(self) -> None:
        self.pack: Callable[[Any], bytes] = msgpack.Packer(**_OPTIONS).pack


_PACKER: Final = _ThreadPacker()
