"""Write output parts as the engine does, and check their summary."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import xxhash

from mr.formats.output.part_writer import PartWriter
from mr.protocol.formats import OUTPUT_FORMATS, OutputFormatName

FORMATS: Any = tuple(OUTPUT_FORMATS)


def written(path: Path, output_format: OutputFormatName, *chunks: Any) -> bytes:
    """Write chunks (pairs of lists, or tables) and check the summary."""
    writer = PartWriter(str(path), output_format)
    rows = 0
    try:
        for chunk in chunks:
            if isinstance(chunk, pa.Table | pa.RecordBatch):
                writer.write_table(chunk)
                rows += chunk.num_rows
            else:
                writer.write_pairs(*chunk)
                rows += len(chunk[0])
        summary = writer.close()
    except BaseException:
        writer.abort()
        raise
    data = path.read_bytes()
    assert (summary.rows, summary.bytes) == (rows, len(data))
    assert summary.checksum == xxhash.xxh3_64(data).hexdigest()
    return data


def table(keys: Sequence[Any], values: Sequence[Any], *types: pa.DataType) -> pa.Table:
    """A table of a key and a value column; `types` as far as Arrow is not to infer them."""
    return pa.table([pa.array(keys, *types[:1]), pa.array(values, *types[1:])], ["key", "value"])
