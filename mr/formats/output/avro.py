"""Format `avro`: a container file of records with the fields key and value, each of one type in the file.

Every type is a union with null. Strings, bytes, booleans, integers and floats are Avro's string, bytes,
boolean, long and double. Decimals, dates, times and datetimes are its logical types, in microseconds; a
datetime without a time zone is a local timestamp. Lists are arrays; dicts are records, named by where they
stand (`pair.value.address`). Nothing in the file is random: the sync marker follows from the schema.
"""

import re
from typing import Any, Final

import pyarrow as pa
import pyarrow.types as kind
import xxhash
from fastavro.write import Writer as AvroWriter

from mr.formats.output.row_groups import RowGroupWriter

_PLAIN: Final = {
    pa.string(): "string",
    pa.binary(): "bytes",
    pa.bool_(): "boolean",
    pa.int64(): "long",
    pa.float64(): "double",
}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
#: Rows of a group made Python objects at a time.
_ROWS = 4096


class Writer(RowGroupWriter):
    """Writes the rows of row groups one by one, in blocks of about 16 KB before they are compressed."""

    name = "Avro"

    def open(self, file: Any, schema: pa.Schema) -> None:
        """Write the header."""
        avro = _record(schema, "pair")
        marker = xxhash.xxh3_128_digest(repr(avro).encode())
        self._avro = AvroWriter(file, avro, codec="deflate", sync_marker=marker)

    def write_group(self, group: pa.Table) -> None:
        """Write the rows of a group."""
        for batch in group.to_batches(max_chunksize=_ROWS):
            for row in batch.to_pylist(maps_as_pydicts="strict"):
                self._avro.write(row)

    def close(self) -> None:
        """Write the last block."""
        self._avro.flush()


def _record(fields: Any, path: str) -> dict[str, Any]:
    """Make the type of a record out of Arrow fields; `path` is its full name. Raises ValueError."""
    for field in fields:
        if _NAME.fullmatch(field.name) is None:
            raise ValueError(f"{path} has a member {field.name!r}, which is not a name in Avro")
    members = [
        {"name": field.name, "type": _optional(field.type, f"{path}.{field.name}")} for field in fields
    ]
    return {"type": "record", "name": path, "fields": members}


def _optional(type_: pa.DataType, path: str) -> Any:
    return "null" if kind.is_null(type_) else ["null", _type(type_, path)]


def _type(type_: pa.DataType, path: str) -> Any:
    """Find Avro's type for an Arrow type. Raises ValueError when there is none."""
    if type_ in _PLAIN:
        return _PLAIN[type_]
    if kind.is_decimal(type_):
        digits = {"precision": type_.precision, "scale": type_.scale}
        return {"type": "bytes", "logicalType": "decimal", **digits}
    if kind.is_date(type_):
        return {"type": "int", "logicalType": "date"}
    if kind.is_time(type_):
        return {"type": "long", "logicalType": "time-micros"}
    if kind.is_timestamp(type_):
        local = "local-" if type_.tz is None else ""
        return {"type": "long", "logicalType": f"{local}timestamp-micros"}
    if kind.is_list(type_):
        return {"type": "array", "items": _optional(type_.value_type, f"{path}.item")}
    if kind.is_map(type_) and kind.is_string(type_.key_type):
        return {"type": "map", "values": _optional(type_.item_type, f"{path}.item")}
    if kind.is_struct(type_):
        return _record(type_, path)
    raise ValueError(f"{path} is of type {type_}, for which Avro has none")
