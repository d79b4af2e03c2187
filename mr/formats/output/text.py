"""Format `text`: a line `key<TAB>value` for each pair; nothing is escaped."""

from collections.abc import Sequence
from typing import Any

from mr.formats.output.lines import PLAIN, LineWriter, encode_text, showable, small_batches, texts


class Writer(LineWriter):
    """`key<TAB>value` and a newline for each pair."""

    def lines(self, keys: Sequence[Any], values: Sequence[Any]) -> bytes:
        """Make lines of pairs."""
        if not set(map(type, keys)) | set(map(type, values)) <= PLAIN:
            keys, values = texts(keys), texts(values)
        with showable():
            lines = [f"{key}\t{value}\n" for key, value in zip(keys, values, strict=True)]
        return encode_text("".join(lines))

    def table(self, table: Any) -> None:
        """Write a table without making Python objects of strings, bytes and integers."""
        import pyarrow as pa
        import pyarrow.compute as pc

        tab, newline, nothing = (pa.scalar(mark, pa.large_binary()) for mark in (b"\t", b"\n", b""))
        for batch in small_batches(table):
            keys, values = (_arrow_text(batch.column(name)) for name in ("key", "value"))
            lines = pc.binary_join_element_wise(keys, tab, values, newline, nothing)
            self._file.write(_string_bytes(lines))


def _arrow_text(column: Any) -> Any:
    """Show a column as a large_binary one, as `show` would each of its elements."""
    import pyarrow as pa
    import pyarrow.types as kind

    plain = column.null_count == 0
    if plain and (kind.is_string(column.type) or kind.is_large_string(column.type)):
        return column.cast(pa.large_string()).cast(pa.large_binary())
    if plain and (kind.is_binary(column.type) or kind.is_large_binary(column.type)):
        return column.cast(pa.large_binary())
    if plain and kind.is_integer(column.type):
        return column.cast(pa.string()).cast(pa.large_string()).cast(pa.large_binary())
    shown = texts(column.to_pylist())
    return pa.array([text.encode("utf-8", "surrogateescape") for text in shown], pa.large_binary())


def _string_bytes(lines: Any) -> Any:
    """Give the characters of a large_binary column without nulls as one buffer."""
    import numpy as np

    _, offsets, data = lines.buffers()
    edges = np.frombuffer(offsets, dtype=np.int64)[lines.offset : lines.offset + len(lines) + 1]
    return memoryview(data)[int(edges[0]) : int(edges[-1])]
