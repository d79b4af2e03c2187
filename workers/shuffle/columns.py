"""Columns of keys and values: native Arrow arrays where the data is uniform, encoded bytes where not.

A column of str, bytes, int64, float64 or bool alone is native. Anything else (mixed types, None, tuples,
integers beyond 64 bits, strings with lone surrogates) is a binary column of encoded items, told from a
native column of bytes by the field's metadata. Keys are encoded by `key_codec`, values by `value_codec`.
Floats of key columns are normalised: -0.0 to 0.0, every NaN to one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mr.errors import MrError, UnencodableKey, UnencodableValue
from mr.workers.shuffle import key_codec
from mr.workers.shuffle.key_codec import decode_key, encode_key
from mr.workers.shuffle.value_codec import MAX_VALUE_BYTES, decode_value, encode_value


class Kind(StrEnum):
    """What a column holds."""

    STR = "str"
    BYTES = "bytes"
    INT = "int"
    FLOAT = "float"
    BOOL = "bool"
    ENCODED = "encoded"


ARROW_TYPES: dict[Kind, pa.DataType] = {
    Kind.STR: pa.string(),
    Kind.BYTES: pa.binary(),
    Kind.INT: pa.int64(),
    Kind.FLOAT: pa.float64(),
    Kind.BOOL: pa.bool_(),
    Kind.ENCODED: pa.binary(),
}
_NATIVE_TYPES: dict[type, Kind] = {
    str: Kind.STR,
    bytes: Kind.BYTES,
    int: Kind.INT,
    float: Kind.FLOAT,
    bool: Kind.BOOL,
}
_KINDS = {arrow: kind for kind, arrow in ARROW_TYPES.items() if kind is not Kind.ENCODED}
#: Field metadata that tells an encoded column from one of bytes.
MARK = {b"mr": b"encoded"}


@dataclass(frozen=True, slots=True)
class Column:
    """Arrow data and what it means. Never holds nulls: None is an encoded item."""

    kind: Kind
    data: pa.Array | pa.ChunkedArray

    def __len__(self) -> int:
        return len(self.data)

    @property
    def nbytes(self) -> int:
        """Bytes of the items, whatever the buffers they share."""
        return int(self.data.nbytes)

    def array(self) -> pa.Array:
        """The data in one piece."""
        if isinstance(self.data, pa.Array):
            return self.data
        chunks = self.data.chunks
        if len(chunks) == 1:
            return chunks[0]
        return pa.concat_arrays(chunks) if chunks else pa.array([], self.data.type)

    def in_one_piece(self) -> "Column":
        """The same column as one array, which keeps none of its chunks alive."""
        return Column(self.kind, self.array())

    def take(self, positions: np.ndarray[Any, Any]) -> "Column":
        """The items at these positions, in this order."""
        return Column(self.kind, self.array().take(pa.array(positions)))

    def slice(self, start: int, stop: int) -> "Column":
        """The items from `start` up to `stop`, sharing memory."""
        return Column(self.kind, self.data.slice(start, stop - start))

    def numpy(self) -> np.ndarray[Any, Any]:
        """The numbers of an INT, FLOAT or BOOL column."""
        return self.array().to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]

    def lengths(self) -> np.ndarray[Any, Any]:
        """Bytes of each item, as int64."""
        if self.kind in (Kind.STR, Kind.BYTES, Kind.ENCODED):
            lengths = pc.binary_length(self.array()).to_numpy(zero_copy_only=False)
            return lengths.astype(np.int64) + 4  # type: ignore[no-any-return]
        return np.full(len(self), 1 if self.kind is Kind.BOOL else 8, np.int64)


def field(name: str, kind: Kind) -> pa.Field:
    """The Arrow field of a column of this kind."""
    return pa.field(name, ARROW_TYPES[kind], metadata=MARK if kind is Kind.ENCODED else None)


def kind_of(arrow: pa.Field) -> Kind:
    """What a column of this field holds. Raises MrError for any other type."""
    if arrow.metadata is not None and arrow.metadata.get(b"mr") == b"encoded":
        return Kind.ENCODED
    kind = _KINDS.get(arrow.type)
    if kind is None:
        raise MrError(f"the column {arrow.name} is of type {arrow.type}, which is neither native nor encoded")
    return kind


# --- Python objects to columns


def key_column(keys: Sequence[Any]) -> Column:
    """Make a column of keys. Raises UnencodableKey with its `.row`."""
    return _column(keys, encode_key)


def value_column(values: Sequence[Any]) -> Column:
    """Make a column of values. Raises UnencodableValue with its `.row`."""
    return _column(values, encode_value)


def _column(items: Sequence[Any], encode: Callable[[Any], bytes]) -> Column:
    types = set(map(type, items))
    if len(types) == 1:
        kind = _NATIVE_TYPES.get(next(iter(types)))
        native = _native(items, kind, encode) if kind is not None else None
        if native is not None:
            return native
    elif any(issubclass(t, np.generic) for t in types):
        return _column([_plain(item) for item in items], encode)
    if len(types) == 1 and issubclass(next(iter(types)), np.generic):
        plain = [_plain(item) for item in items]
        if set(map(type, plain)) != types:
            return _column(plain, encode)
    return _encoded(items, encode)


def _plain(item: Any) -> Any:
    return item.item() if isinstance(item, np.generic) else item


def _native(items: Sequence[Any], kind: Kind, encode: Callable[[Any], bytes]) -> Column | None:
    """A native column, or None when an item does not fit: a big integer, a lone surrogate."""
    if kind is Kind.FLOAT:
        numbers = np.array(items, np.float64)
        return Column(kind, pa.array(normalise(numbers) if encode is encode_key else numbers))
    try:
        data = pa.array(items, ARROW_TYPES[kind])
    except (UnicodeEncodeError, OverflowError):
        return None
    except pa.ArrowCapacityError:
        _check_sizes(items, encode)
        raise
    if isinstance(data, pa.ChunkedArray) or data.nbytes > MAX_VALUE_BYTES:
        _check_sizes(items, encode)
    return Column(kind, data)


def normalise(numbers: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """A copy with -0.0 as 0.0 and every NaN as the same NaN."""
    plain = numbers + 0.0
    plain[np.isnan(plain)] = np.nan
    return plain


def _check_sizes(items: Sequence[Any], encode: Callable[[Any], bytes]) -> None:
    for row, item in enumerate(items):
        if len(item) > MAX_VALUE_BYTES // 2:
            _refuse(f"an item of {len(item)} bytes is over the limit of {MAX_VALUE_BYTES // 2}", row, encode)


def _refuse(message: str, row: int, encode: Callable[[Any], bytes]) -> None:
    error = UnencodableKey(message) if encode is encode_key else UnencodableValue(message)
    error.row = row
    raise error


def _encoded(items: Sequence[Any], encode: Callable[[Any], bytes]) -> Column:
    encoded: list[bytes] = []
    try:
        encoded.extend(map(encode, items))
    except (UnencodableKey, UnencodableValue) as error:
        error.row = len(encoded)
        raise
    try:
        data = pa.array(encoded, pa.binary())
    except pa.ArrowCapacityError:
        _check_sizes(encoded, encode)
        raise
    if isinstance(data, pa.ChunkedArray) or data.nbytes > MAX_VALUE_BYTES:
        _check_sizes(encoded, encode)
    return Column(Kind.ENCODED, data)


# --- Arrow data from user code to columns


def arrow_column(data: pa.Array | pa.ChunkedArray, *, keys: bool) -> Column:
    """Make a column of what a `map_batch` returned: cast where that is exact, encoded where not.

    Raises UnencodableKey, UnencodableValue.
    """
    wanted = _castable(data.type)
    if data.null_count or wanted is None:
        return _object_column(data, keys=keys)
    try:
        cast = data if data.type == ARROW_TYPES[wanted] else data.cast(ARROW_TYPES[wanted])
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):  # an unsigned integer beyond int64
        return _object_column(data, keys=keys)
    if cast.null_count:  # a null among the values of a dictionary
        return arrow_column(cast, keys=keys)
    column = Column(wanted, cast)
    if keys and wanted is Kind.FLOAT:
        return Column(wanted, pa.array(normalise(column.numpy())))
    return column


def _object_column(data: pa.Array | pa.ChunkedArray, *, keys: bool) -> Column:
    """Make a column from Arrow data by way of Python objects."""
    try:
        items = data.to_pylist()
    except (ValueError, TypeError, NotImplementedError, OverflowError) as error:  # Arrow's are subclasses
        what, kind = ("key", UnencodableKey) if keys else ("value", UnencodableValue)
        raise kind(f"a {what} of type {data.type} has no Python equivalent: {error}") from error
    return key_column(items) if keys else value_column(items)


def _castable(arrow: pa.DataType) -> Kind | None:
    if pa.types.is_dictionary(arrow):
        arrow = arrow.value_type
    for test, kind in _CASTS:
        if test(arrow):
            return kind
    return None


_CASTS: tuple[tuple[Callable[[pa.DataType], bool], Kind], ...] = (
    (pa.types.is_string, Kind.STR),
    (pa.types.is_large_string, Kind.STR),
    (pa.types.is_string_view, Kind.STR),
    (pa.types.is_binary, Kind.BYTES),
    (pa.types.is_large_binary, Kind.BYTES),
    (pa.types.is_binary_view, Kind.BYTES),
    (pa.types.is_fixed_size_binary, Kind.BYTES),
    (pa.types.is_integer, Kind.INT),
    (pa.types.is_floating, Kind.FLOAT),
    (pa.types.is_boolean, Kind.BOOL),
)


# --- columns to Python objects


def key_list(column: Column) -> list[Any]:
    """The keys as Python objects."""
    items = column.data.to_pylist()
    return list(map(decode_key, items)) if column.kind is Kind.ENCODED else items


def value_list(column: Column) -> list[Any]:
    """The values as Python objects."""
    items = column.data.to_pylist()
    return list(map(decode_value, items)) if column.kind is Kind.ENCODED else items


# --- columns of different kinds to one


def encode_keys(column: Column) -> Column:
    """The same keys, encoded."""
    if column.kind is Kind.ENCODED:
        return column
    data = column.array()
    if column.kind in (Kind.STR, Kind.BYTES):
        tag = bytes((key_codec.STR if column.kind is Kind.STR else key_codec.BYTES,))
        joined = pc.binary_join_element_wise(pa.scalar(tag), data.cast(pa.binary()), pa.scalar(b""))
        return Column(Kind.ENCODED, joined)
    distinct = data.dictionary_encode()
    encoded = pa.array([encode_key(key) for key in distinct.dictionary.to_pylist()], pa.binary())
    return Column(Kind.ENCODED, encoded.take(distinct.indices))


def encode_values(column: Column) -> Column:
    """The same values, encoded."""
    if column.kind is Kind.ENCODED:
        return column
    return Column(Kind.ENCODED, pa.array(list(map(encode_value, column.data.to_pylist())), pa.binary()))


def join(columns: Sequence[Column], *, keys: bool) -> Column:
    """One column after the other; encoded when they are of different kinds. At least one."""
    kinds = {column.kind for column in columns if len(column)} or {columns[0].kind}
    columns = [column for column in columns if len(column)] or list(columns[:1])
    if len(columns) == 1:
        return columns[0]
    if len(kinds) > 1:
        columns = [encode_keys(column) if keys else encode_values(column) for column in columns]
        kinds = {Kind.ENCODED}
    chunks: list[pa.Array] = []
    for column in columns:
        chunks.extend(column.data.chunks if isinstance(column.data, pa.ChunkedArray) else (column.data,))
    kind = kinds.pop()
    return Column(kind, pa.chunked_array(chunks, ARROW_TYPES[kind]))
