"""The one Arrow type of many objects; it does not depend on which of them came in one batch.

The type of a column is folded from its objects one by one: str, bytes, int (64 bits), float, bool, decimals,
dates and times stand for themselves; lists, tuples and sets are lists of what their members have in common;
dicts are structs of all their members, in order of first appearance. None fits every type. Decimals of
different precision are one type that holds them all. Nothing else is widened: an int beside a float, also
inside a list, has no common type.
"""

from collections.abc import Iterable, Sequence
from decimal import Decimal
from itertools import chain
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as kind

from mr.error_text import safe_repr
from mr.formats.output.lines import ordered

_PLAIN: Final[dict[type, pa.DataType]] = {
    str: pa.string(),
    bytes: pa.binary(),
    bytearray: pa.binary(),
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
}
_LISTS: Final = frozenset({list, tuple, set, frozenset})
#: Digits that a decimal of 128 and one of 256 bits hold.
_DECIMAL_DIGITS: Final = 38, 76


class NoCommonType(ValueError):
    """Objects that cannot be in one column together."""


def type_of(items: Iterable[Any]) -> pa.DataType:
    """Fold the type of objects. Raises NoCommonType, and ArrowInvalid for what Arrow has no type for."""
    items = [item for item in items if item is not None]
    kinds = set(map(type, items))
    types = {_PLAIN.get(each) for each in kinds}
    if not kinds:
        return pa.null()
    if len(types) == 1 and None not in types:
        return types.pop()
    if kinds <= _LISTS:
        return pa.list_(type_of(chain.from_iterable(items)))
    if len(kinds) > 1:
        raise NoCommonType(f"of several types ({', '.join(sorted(each.__name__ for each in kinds))})")
    if kinds == {dict}:
        return _struct_of(items)
    if kinds == {Decimal}:
        return _decimal_of(items)
    found = {pa.infer_type([item]) for item in items}
    if len(found) > 1:
        raise NoCommonType(f"of several types ({', '.join(sorted(map(str, found)))})")
    return found.pop()


def _struct_of(items: Iterable[dict[Any, Any]]) -> pa.DataType:
    members: dict[str, list[Any]] = {}
    for item in items:
        for name, member in item.items():
            if type(name) is not str:
                raise NoCommonType(
                    f"dicts with a key of type {type(name).__name__}, where columns have names"
                )
            members.setdefault(name, []).append(member)
    return pa.struct([(name, type_of(found)) for name, found in members.items()])


def _decimal_of(items: Iterable[Decimal]) -> pa.DataType:
    whole = scale = 0
    for item in items:
        _, digits, exponent = item.as_tuple()
        if isinstance(exponent, str):
            raise NoCommonType(f"no finite decimals ({safe_repr(item)})")
        scale = max(scale, -exponent)
        whole = max(whole, len(digits) + exponent)
    found = _decimal(whole, scale)
    if found is None:
        raise NoCommonType(f"decimals of more than {_DECIMAL_DIGITS[1]} digits")
    return found


def _decimal(whole: int, scale: int) -> pa.DataType | None:
    """Return the type for decimals of this many digits before and after the point; None for too many."""
    digits = max(whole + scale, 1)
    if digits > _DECIMAL_DIGITS[1]:
        return None
    return (pa.decimal128 if digits <= _DECIMAL_DIGITS[0] else pa.decimal256)(digits, scale)


def common(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """Find the type that holds both; None when there is none. Members of `one` stand first."""
    if one == other or kind.is_null(other):
        return one
    if kind.is_null(one):
        return other
    if kind.is_decimal(one) and kind.is_decimal(other):
        whole = max(one.precision - one.scale, other.precision - other.scale)
        return _decimal(whole, max(one.scale, other.scale))
    if kind.is_list(one) and kind.is_list(other):
        inside = common(one.value_type, other.value_type)
        return None if inside is None else pa.list_(inside)
    if kind.is_map(one) and kind.is_map(other):
        names, values = common(one.key_type, other.key_type), common(one.item_type, other.item_type)
        return None if names is None or values is None else pa.map_(names, values)
    if kind.is_struct(one) and kind.is_struct(other):
        members = {field.name: field.type for field in one}
        for field in other:
            inside = common(members.get(field.name, pa.null()), field.type)
            if inside is None:
                return None
            members[field.name] = inside
        return pa.struct(list(members.items()))
    return None


def settled(type_: pa.DataType) -> pa.DataType:
    """Return the type to write: decimals get the most digits that fit their size."""
    if kind.is_decimal(type_):
        make = pa.decimal128 if type_.precision <= _DECIMAL_DIGITS[0] else pa.decimal256
        return make(_DECIMAL_DIGITS[make is pa.decimal256], type_.scale)
    return _rebuilt(type_, settled)


def normal(type_: pa.DataType) -> pa.DataType:
    """Return the type that the same values have as Python objects."""
    if kind.is_large_string(type_) or kind.is_string_view(type_):
        return pa.string()
    if kind.is_large_binary(type_) or kind.is_binary_view(type_):
        return pa.binary()
    if kind.is_integer(type_) and type_ != pa.uint64():
        return pa.int64()
    if kind.is_floating(type_):
        return pa.float64()
    if kind.is_dictionary(type_):
        return normal(type_.value_type)
    return _rebuilt(type_, normal)


def _rebuilt(type_: pa.DataType, change: Any) -> pa.DataType:
    """Return a nested type with its inner types changed; every kind of list becomes the plain one."""
    if kind.is_list(type_) or kind.is_large_list(type_) or kind.is_fixed_size_list(type_):
        return pa.list_(change(type_.value_type))
    if kind.is_map(type_):
        return pa.map_(change(type_.key_type), change(type_.item_type))
    if kind.is_struct(type_):
        return pa.struct([(field.name, change(field.type)) for field in type_])
    return type_


def without_sets(item: Any) -> Any:
    """Return an object with its sets as sorted lists: the order of a set changes from run to run."""
    if isinstance(item, set | frozenset):
        return [without_sets(member) for member in ordered(item)]
    if isinstance(item, list | tuple):
        return [without_sets(member) for member in item]
    if isinstance(item, dict):
        return {name: without_sets(member) for name, member in item.items()}
    return item


def to_column(items: Sequence[Any], type_: pa.DataType) -> pa.Array:
    """Make a column of objects of a known type. Raises ArrowInvalid, OverflowError, UnicodeEncodeError."""
    if kind.is_nested(type_):
        items = [without_sets(item) for item in items]
    return pa.array(items, type_)


def cast_column(column: pa.ChunkedArray | pa.Array, wanted: pa.DataType) -> Any:
    """Bring an Arrow column to a type that holds it. Raises ArrowInvalid, ArrowNotImplementedError."""
    if column.type == wanted:
        return column
    if isinstance(column, pa.ChunkedArray):
        return pa.chunked_array([cast_column(chunk, wanted) for chunk in column.chunks], wanted)
    if kind.is_null(column.type):
        return pa.nulls(len(column), wanted)
    if kind.is_struct(wanted):  # Arrow's own cast wants the members in the same order
        found = dict(zip([field.name for field in column.type], column.flatten(), strict=True))
        none = pa.nulls(len(column))
        members = [cast_column(found.get(field.name, none), field.type) for field in wanted]
        return pa.StructArray.from_arrays(members, fields=list(wanted), mask=column.is_null())
    if kind.is_list(wanted):
        lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
        offsets = pa.array(np.concatenate(([0], np.cumsum(lengths))), pa.int32())
        items = cast_column(column.flatten(), wanted.value_type)
        return pa.ListArray.from_arrays(offsets, items, type=wanted, mask=column.is_null())
    return column.cast(wanted)
