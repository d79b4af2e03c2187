"""Bytes to messages and back, bounded in size and strict in shape."""

from typing import Any, TypeVar

import msgspec

from mr.errors import BadMessage

T = TypeVar("T")

JSON = "application/json"
MSGPACK = "application/msgpack"

#: Ids and small facts only travel through the broker; anything above this is refused.
MAX_MESSAGE_BYTES = 1024 * 1024
#: Of a report, of which a coordinator holds many at a time.
MAX_REPORT_BYTES = 256 * 1024


def check_size(body: bytes, what: str = "a message", limit_bytes: int = MAX_MESSAGE_BYTES) -> None:
    """Raise BadMessage, naming `what`, for a body above the limit."""
    if len(body) > limit_bytes:
        raise BadMessage(f"{what} of {len(body)} bytes is over the limit of {limit_bytes}")


def encode(message: Any, content_type: str = MSGPACK) -> bytes:
    """Encode a Struct as msgpack (default) or JSON. Raises BadMessage above MAX_MESSAGE_BYTES."""
    body = msgspec.json.encode(message) if content_type == JSON else msgspec.msgpack.encode(message)
    check_size(body, f"a {type(message).__name__}")
    return body


def decode(body: bytes, kind: type[T], content_type: str | None = MSGPACK) -> T:
    """Decode `body` into `kind`, a Struct or a union of tagged ones.

    Raises BadMessage, with the place that is wrong (`Expected int, got str - at $.maps`).
    """
    check_size(body)
    media_type = (content_type or JSON).partition(";")[0].strip().lower()
    try:
        if media_type == JSON:
            return msgspec.json.decode(body, type=kind)
        if media_type in (MSGPACK, "application/x-msgpack", "application/vnd.msgpack"):
            return msgspec.msgpack.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadMessage(str(error)) from error
    raise BadMessage(f"content type {content_type!r} is neither {JSON} nor {MSGPACK}")


def pack(record: Any) -> bytes:
    """Encode a record for the state store as msgpack; no size limit."""
    return msgspec.msgpack.encode(record)


def unpack(data: bytes, kind: type[T]) -> T:
    """Decode a record of the state store. Raises BadMessage when another version wrote it."""
    try:
        return msgspec.msgpack.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        name = getattr(kind, "__name__", str(kind))
        raise BadMessage(f"a stored {name} cannot be read, did another version write it? {error}") from error
