"""Format `parquet`: a file with the columns key and value; each of one type in the file."""

from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mr.formats.output.row_groups import RowGroupWriter


class Writer(RowGroupWriter):
    """Writes row groups as they come; a file without rows has columns of type null."""

    name = "Parquet"

    def open(self, file: Any, schema: pa.Schema) -> None:
        """Begin the file."""
        self._parquet = pq.ParquetWriter(file, schema, compression="zstd")

    def write_group(self, group: pa.Table) -> None:
        """Write a row group."""
        self._parquet.write_table(group, row_group_size=group.num_rows)

    def close(self) -> None:
        """Write the footer."""
        self._parquet.close()
