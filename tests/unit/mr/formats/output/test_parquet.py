"""Parquet parts: types of columns, row groups, and what does not fit."""

import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mr.errors import UnencodableKey, UnencodableValue
from mr.formats.output.part_writer import PartWriter
from mr.formats.output.row_groups import ROW_GROUP_ROWS
from tests.support.writing import table, written


class TestParquet:
    def read(self, data: bytes) -> pa.Table:
        return pq.read_table(io.BytesIO(data))

    def test_columns_keep_their_types(self, tmp_path: Path) -> None:
        data = written(tmp_path / "part", "parquet", (["a", None], [None, None]), (["b"], [(1, 2)]))
        read = self.read(data)
        assert read.schema.types == [pa.string(), pa.list_(pa.int64())]
        assert read.to_pylist() == [
            {"key": "a", "value": None},
            {"key": None, "value": None},
            {"key": "b", "value": [1, 2]},
        ]

    def test_an_empty_part_is_valid(self, tmp_path: Path) -> None:
        read = self.read(written(tmp_path / "part", "parquet"))
        assert (read.num_rows, read.column_names) == (0, ["key", "value"])

    def test_sets_are_lists_in_order(self, tmp_path: Path) -> None:
        data = written(tmp_path / "part", "parquet", ([1], [{"b", "c", "a"}]))
        assert self.read(data).to_pylist() == [{"key": 1, "value": ["a", "b", "c"]}]

    def test_row_groups_are_cut_at_counted_rows_however_pairs_arrive(self, tmp_path: Path) -> None:
        rows = ROW_GROUP_ROWS + 1000
        keys, values = list(range(rows)), ["v"] * rows
        step = 9999
        pieces = [
            (keys[start : start + step], values[start : start + step]) for start in range(0, rows, step)
        ]
        parts = [
            written(tmp_path / "1", "parquet", (keys, values)),
            written(tmp_path / "2", "parquet", *pieces),
            written(tmp_path / "3", "parquet", table(keys, values)),
        ]
        assert parts == parts[:1] * 3
        metadata = pq.ParquetFile(io.BytesIO(parts[0])).metadata
        assert [metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)] == [
            ROW_GROUP_ROWS,
            1000,
        ]

    @pytest.mark.parametrize(
        ("chunks", "error", "message"),
        [
            ([([1, 2.5], [1, 1])], UnencodableKey, r"keys are of several types \(float, int\)"),
            (
                [([1], [1]), ([2], [2.5])],
                UnencodableValue,
                "a value of type double follows values of type int64",
            ),
            (
                [([1], ["a"]), ([2], [b"a"])],
                UnencodableValue,
                "a value of type binary follows values of type string",
            ),
            ([([True, 1], [1, 1])], UnencodableKey, r"keys are of several types \(bool, int\)"),
            ([([1], [2**70])], UnencodableValue, "cannot be written to Parquet"),
            ([([1], ["\ud800"])], UnencodableValue, "cannot be written to Parquet"),
            ([([1], [object()])], UnencodableValue, "cannot be written to Parquet"),
        ],
    )
    def test_mixed_types_are_refused_the_same_in_one_chunk_or_two(
        self, tmp_path: Path, chunks: list[Any], error: type[Exception], message: str
    ) -> None:
        writer = PartWriter(str(tmp_path / "part"), "parquet")
        with pytest.raises(error, match=message):
            for chunk in chunks:
                writer.write_pairs(*chunk)
        writer.abort()
