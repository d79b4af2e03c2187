"""Format `jsonl`: `{"key":...,"value":...}` for each pair.

Tuples are arrays; sets are sorted arrays; bytes must be UTF-8 and are strings; NaN and the infinities are
null; keys of objects are strings.
"""

import math
from collections.abc import Sequence
from typing import Any

import msgspec

from mr.error_text import safe_repr
from mr.errors import UnencodableKey, UnencodableValue
from mr.formats.output.lines import PLAIN, LineWriter, ordered, show


class Writer(LineWriter):
    """Writes one JSON object a line."""

    def __init__(self, file: Any) -> None:
        super().__init__(file)
        self._encode = msgspec.json.Encoder().encode

    def lines(self, keys: Sequence[Any], values: Sequence[Any]) -> bytes:
        """Make JSON of pairs."""
        keys, values = self._plain(keys, UnencodableKey), self._plain(values, UnencodableValue)
        encode = self._encode
        try:
            lines = [
                b'{"key":%b,"value":%b}\n' % pair
                for pair in zip(map(encode, keys), map(encode, values), strict=True)
            ]
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise self._culprit(keys, values) from error
        return b"".join(lines)

    def _plain(self, items: Sequence[Any], error: type[UnencodableKey | UnencodableValue]) -> Sequence[Any]:
        if set(map(type, items)) <= PLAIN:
            return items
        return [_jsonable(item, error) for item in items]

    def _culprit(self, keys: Sequence[Any], values: Sequence[Any]) -> UnencodableKey | UnencodableValue:
        """Find the object that JSON cannot hold."""
        for items, error in ((keys, UnencodableKey), (values, UnencodableValue)):
            for item in items:
                try:
                    self._encode(item)
                except (TypeError, ValueError, OverflowError, RecursionError) as cause:
                    return error(f"{safe_repr(item, 80)} cannot be written as JSON: {cause}")
        return UnencodableValue("a result cannot be written as JSON")


def _jsonable(item: Any, error: type[UnencodableKey | UnencodableValue]) -> Any:
    """Turn an object into what JSON has. Raises `error` for bytes that are not UTF-8."""
    if type(item) in PLAIN:
        return item
    if isinstance(item, bytes | bytearray):
        try:
            return item.decode("utf-8")
        except UnicodeDecodeError as cause:
            raise error(f"{safe_repr(item, 80)} is not UTF-8 text, so JSON cannot hold it") from cause
    if isinstance(item, list | tuple):
        return [_jsonable(member, error) for member in item]
    if isinstance(item, set | frozenset):
        return [_jsonable(member, error) for member in ordered(item)]
    if isinstance(item, dict):
        return {_member_name(name, error): _jsonable(member, error) for name, member in item.items()}
    return item


def _member_name(name: Any, error: type[UnencodableKey | UnencodableValue]) -> str:
    if isinstance(name, float) and not math.isfinite(name):
        return "null"
    if name is None or isinstance(name, bool):
        return msgspec.json.encode(name).decode()
    return show(_jsonable(name, error))
