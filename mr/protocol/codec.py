"""Bytes to messages and back, bounded in size and strict in shape."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec

from mr.errors import BadMessage

T = TypeVar("T")

JSON = "application/json"
MSGPACK = "application/msgpack"

#: What msgspec raises for bytes that it cannot decode.
UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

#: Only ids and small facts travel through the broker; anything above this is refused.
MAX_MESSAGE_BYTES = 1024 * 1024
#: Largest report: a coordinator holds many of them at a time.
MAX_REPORT_BYTES = 256 * 1024


def check_size(body: bytes, what: str = "a message", limit_bytes: int = MAX_MESSAGE_BYTES) -> None:
    """Raise BadMessage, naming `what`, for a body above the limit."""
    if len(body) > limit_bytes:
        raise BadMessage(f"{what} of {len(body)} bytes is over the limit of {limit_bytes}")


def encode(message: Any, content_type: str = MSGPACK) -> bytes:
    """Encode a Struct as msgpack (default) or JSON.

    Raises BadMessage above MAX_MESSAGE_BYTES, or for a value that msgpack or JSON cannot hold.
    """
    body = _encoded(message, msgspec.json.encode if content_type == JSON else msgspec.msgpack.encode)
    check_size(body, f"a {type(message).__name__}")
    return body


def decode(body: bytes, kind: type[T], content_type: str | None = MSGPACK) -> T:
    """Decode `body` into `kind`, a Struct or a union of tagged ones.

    Raises BadMessage, which names the field that is wrong (`Expected int, got str - at $.maps`).
    """
    check_size(body)
    media_type = (content_type or JSON).partition(";")[0].strip().lower()
    try:
        if media_type == JSON:
            return msgspec.json.decode(body, type=kind)
        if media_type in (MSGPACK, "application/x-msgpack", "application/vnd.msgpack"):
            return msgspec.msgpack.decode(body, type=kind)
    except UNDECODABLE as error:
        raise BadMessage(str(error)) from error
    raise BadMessage(f"content type {content_type!r} is neither {JSON} nor {MSGPACK}")


def pack(record: Any) -> bytes:
    """Encode a record for the state store as msgpack, of any size. Raises BadMessage for other values."""
    return _encoded(record, msgspec.msgpack.encode)


def _encoded(record: Any, encoder: Callable[[Any], bytes]) -> bytes:
    """Encode, with lone surrogates spelt out: a cause may quote a file name that is not UTF-8."""
    try:
        try:
            return encoder(record)
        except UnicodeEncodeError:
            return encoder(_spelt(msgspec.to_builtins(record, builtin_types=(bytes,))))
    except (ValueError, OverflowError, TypeError, RecursionError) as error:
        raise BadMessage(f"a {type(record).__name__} cannot be encoded: {error}") from error


def _spelt(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_spelt(key): _spelt(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_spelt(item) for item in value]
    return value


def unpack(data: bytes | None, kind: type[T]) -> T:
    """Decode a stored record. Raises BadMessage for a missing one and for one of another version."""
    if data is None:
        raise BadMessage(f"a stored {getattr(kind, '__name__', kind)} is missing")
    try:
        return msgspec.msgpack.decode(data, type=kind)
    except UNDECODABLE as error:
        name = getattr(kind, "__name__", str(kind))
        raise BadMessage(f"a stored {name} cannot be read, did another version write it? {error}") from error


def every_field(record: Any) -> Any:
    """Turn a record into dicts and lists of all its fields; the wire leaves out those with their default."""
    if isinstance(record, msgspec.Struct):
        config = record.__struct_config__
        fields = {name: every_field(getattr(record, name)) for name in record.__struct_fields__}
        return fields if config.tag_field is None else {config.tag_field: config.tag, **fields}
    if isinstance(record, Mapping):
        return {key: every_field(value) for key, value in record.items()}
    if isinstance(record, list | tuple):
        return [every_field(item) for item in record]
    return record


def as_json(record: Any) -> str:
    """Render a record as indented JSON with every field and sorted keys, for `--json` and `_SUCCESS`."""
    encoded = msgspec.json.encode(every_field(record), order="deterministic")
    return msgspec.json.format(encoded, indent=2).decode()
