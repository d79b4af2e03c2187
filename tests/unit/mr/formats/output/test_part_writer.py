"""Output parts: the bytes of each format, their count and checksum, and what cannot be written."""

import csv
import errno
import io
import json
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash

from mr.errors import UnencodableKey, UnencodableValue
from mr.formats.output.part_writer import OutputUnwritable, PartWriter
from mr.formats.output.row_groups import ROW_GROUP_ROWS
from mr.protocol.formats import OUTPUT_FORMATS, OutputFormatName
from mr.protocol.part_names import part_name

FORMATS: Any = tuple(OUTPUT_FORMATS)


def written(path: Path, output_format: OutputFormatName, *chunks: Any) -> bytes:
    """Write chunks (pairs of lists, or tables) and check the summary."""
    writer = PartWriter(str(path), output_format)
    rows = 0
    for chunk in chunks:
        if isinstance(chunk, pa.Table | pa.RecordBatch):
            writer.write_table(chunk)
            rows += chunk.num_rows
        else:
            writer.write_pairs(*chunk)
            rows += len(chunk[0])
    summary = writer.close()
    data = path.read_bytes()
    assert (summary.rows, summary.bytes) == (rows, len(data))
    assert summary.checksum == xxhash.xxh3_64(data).hexdigest()
    return data


def table(keys: Sequence[Any], values: Sequence[Any], *types: pa.DataType) -> pa.Table:
    return pa.table([pa.array(keys, *types[:1]), pa.array(values, *types[1:])], ["key", "value"])


def test_parts_are_named_by_number_and_format() -> None:
    assert [part_name(3, output_format) for output_format in FORMATS] == [
        "part-00003",
        "part-00003.jsonl",
        "part-00003.csv",
        "part-00003.parquet",
        "part-00003.avro",
    ]


class Colour(StrEnum):
    RED = "red"

    def __str__(self) -> str:
        return "rouge"


class TestText:
    @pytest.mark.parametrize(
        ("item", "shown"),
        [
            ("wört", "wört".encode()),
            ("a\tb", b"a\tb"),
            (b"\xff\x00a", b"\xff\x00a"),
            (bytearray(b"\xfe"), b"\xfe"),
            ("\udcff", b"\xff"),
            (None, b"None"),
            (True, b"True"),
            (-(10**30), b"-1000000000000000000000000000000"),
            (0.1, b"0.1"),
            (1e16, b"1e+16"),
            (float("nan"), b"nan"),
            ((1, "a", b"b"), b"(1, 'a', b'b')"),
            ([1, [None]], b"[1, [None]]"),
            ({"a": 1}, b"{'a': 1}"),
            ({10, 9, 8}, b"{8, 9, 10}"),
            (set(), b"set()"),
            (frozenset({"b", "a"}), b"frozenset({'a', 'b'})"),
            (frozenset(), b"frozenset()"),
            (({2, 1},), b"({1, 2},)"),
            ({"k": [{"b", "a"}]}, b"{'k': [{'a', 'b'}]}"),
            ({frozenset({2}), frozenset({1})}, b"{frozenset({1}), frozenset({2})}"),
            ({1, "a", None}, b"{None, 1, 'a'}"),
            (Colour.RED, b"rouge"),
        ],
    )
    def test_how_one_object_is_shown(self, tmp_path: Path, item: Any, shown: bytes) -> None:
        assert (
            written(tmp_path / "part", "text", ([item, "x"], [1, item]))
            == shown + b"\t1\nx\t" + shown + b"\n"
        )

    def test_an_empty_part_has_no_bytes(self, tmp_path: Path) -> None:
        assert written(tmp_path / "part", "text", ([], [])) == b""

    @pytest.mark.parametrize(
        ("keys", "values", "types"),
        [
            (["a", "ä", ""], [1, -2, 3], ()),
            ([1, 2, 3], [0.1, 1e16, float("inf")], ()),
            ([b"\xff", b"", b"x"], [True, False, True], ()),
            ([None, "a", "b"], [None, None, None], ()),
            ([0.5, 2.0, -0.0], [[1], [], [2, 3]], ()),
            (["a", "b", "c"], [1, 2, 3], (pa.large_string(), pa.int32())),
            ([b"a", b"b", b"c"], [1, None, 3], (pa.large_binary(), pa.uint8())),
        ],
    )
    @pytest.mark.parametrize("output_format", FORMATS)
    def test_pairs_and_tables_give_the_same_bytes(
        self,
        tmp_path: Path,
        keys: list[Any],
        values: list[Any],
        types: tuple[Any, ...],
        output_format: OutputFormatName,
    ) -> None:
        if output_format == "jsonl" and b"\xff" in keys:
            keys = [b"f", b"", b"x"]
        whole = table(keys, values, *types)
        parts = [
            written(tmp_path / "pairs", output_format, (keys, values)),
            written(tmp_path / "slices", output_format, (keys[:1], values[:1]), (keys[1:], values[1:])),
            written(tmp_path / "table", output_format, whole),
            written(tmp_path / "tables", output_format, whole.slice(0, 2), whole.slice(2)),
            written(tmp_path / "batch", output_format, whole.to_batches()[0]),
        ]
        assert parts == parts[:1] * len(parts)

    def test_a_lone_surrogate_is_named(self, tmp_path: Path) -> None:
        writer = PartWriter(str(tmp_path / "part"), "text")
        with pytest.raises(UnencodableValue, match=r"lone surrogate '\\ud800'.*here"):
            writer.write_pairs(["here\ud800"], [1])
        writer.abort()

    def test_an_integer_of_too_many_digits_is_named(self, tmp_path: Path) -> None:
        for values in ([10**5000], [10**5000, b""]):
            writer = PartWriter(str(tmp_path / "part"), "text")
            with pytest.raises(UnencodableValue, match="cannot be shown as text"):
                writer.write_pairs(["k"] * len(values), values)
            writer.abort()


class TestCsv:
    def test_cells_are_quoted_where_needed_and_read_back(self, tmp_path: Path) -> None:
        keys = ["a", "b,c", 'd"e', "f\ng", "h\r", " i ", b"\xff"]
        values = [1, None, 2.5, "", True, (1, 2), "ä"]
        data = written(tmp_path / "part", "csv", (keys, values))
        assert data.startswith(
            b'key,value\na,1\n"b,c",\n"d""e",2.5\n"f\ng",\n"h\r",True\n i ,"(1, 2)"\n\xff,'
        )
        rows = list(csv.reader(io.StringIO(data.decode("utf-8", "surrogateescape"), newline="")))
        assert [row[0] for row in rows] == ["key", "a", "b,c", 'd"e', "f\ng", "h\r", " i ", "\udcff"]
        assert [row[1] for row in rows] == ["value", "1", "", "2.5", "", "True", "(1, 2)", "ä"]

    def test_an_empty_part_has_its_header(self, tmp_path: Path) -> None:
        assert written(tmp_path / "part", "csv") == b"key,value\n"


class TestJsonLines:
    def test_pairs_are_objects(self, tmp_path: Path) -> None:
        keys = ["ä", b"b", (1, "x"), None, 1.5]
        values = [[1, (2, b"c")], {"a": {3, 1, 2}, 5: None, (1,): 2, None: 3}, 2**70, float("nan"), True]
        data = written(tmp_path / "part", "jsonl", (keys, values))
        assert [json.loads(line) for line in data.splitlines()] == [
            {"key": "ä", "value": [1, [2, "c"]]},
            {"key": "b", "value": {"a": [1, 2, 3], "5": None, "[1]": 2, "null": 3}},
            {"key": [1, "x"], "value": 2**70},
            {"key": None, "value": None},
            {"key": 1.5, "value": True},
        ]
        assert data.startswith('{"key":"ä","value":[1,[2,"c"]]}\n'.encode())

    @pytest.mark.parametrize("bad", [b"\xff", [b"\xff"], {"a": (b"\xff",)}, "\udcff", object()])
    def test_what_json_cannot_hold_is_named(self, tmp_path: Path, bad: Any) -> None:
        writer = PartWriter(str(tmp_path / "part"), "jsonl")
        with pytest.raises(UnencodableValue, match="JSON"):
            writer.write_pairs(["a", "b"], [1, bad])
        with pytest.raises(UnencodableKey, match="JSON"):
            writer.write_pairs(["a", bad], [1, 2])
        writer.abort()


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


class TestFiles:
    @pytest.mark.parametrize("output_format", FORMATS)
    def test_a_url_gets_the_same_bytes(self, tmp_path: Path, output_format: OutputFormatName) -> None:
        pairs = (["a", "b"], [1, 2])
        local = written(tmp_path / "part", output_format, pairs)
        writer = PartWriter("memory://formats/part", output_format)
        writer.write_pairs(*pairs)
        summary = writer.close()
        assert fsspec.filesystem("memory").cat_file("/formats/part") == local
        assert summary.checksum == xxhash.xxh3_64(local).hexdigest()

    def test_large_parts_are_written_as_they_come(self, tmp_path: Path) -> None:
        path = tmp_path / "part"
        writer = PartWriter(str(path), "text")
        writer.write_pairs(["x" * 3_000_000], [1])
        assert path.stat().st_size == 3_000_003
        writer.close()

    @pytest.mark.parametrize("target", ["local", "memory"])
    @pytest.mark.parametrize("output_format", FORMATS)
    def test_abort_removes_the_file_and_may_be_repeated(
        self, tmp_path: Path, target: str, output_format: OutputFormatName
    ) -> None:
        path = str(tmp_path / "part") if target == "local" else "memory://formats/aborted"
        writer = PartWriter(path, output_format)
        writer.write_pairs(["x"], [1])
        writer.abort()
        writer.abort()
        assert not (tmp_path / "part").exists()
        assert not fsspec.filesystem("memory").exists("/formats/aborted")

    def test_a_directory_that_is_not_there_is_not_made(self, tmp_path: Path) -> None:
        with pytest.raises(
            OutputUnwritable, match=r"gone/part cannot be written: No such file or directory; .*every worker"
        ):
            PartWriter(str(tmp_path / "gone/part"), "text")
        assert list(tmp_path.iterdir()) == []

    def test_a_full_disk_is_an_os_error(self, tmp_path: Path) -> None:
        (tmp_path / "full").symlink_to("/dev/full")
        writer = PartWriter(str(tmp_path / "full"), "text")
        with pytest.raises(OSError) as caught:
            writer.write_pairs(["x" * 3_000_000], [1])
        assert caught.value.errno == errno.ENOSPC
        writer.abort()
        assert list(tmp_path.iterdir()) == []

    def test_lists_of_different_lengths_are_refused(self, tmp_path: Path) -> None:
        writer = PartWriter(str(tmp_path / "part"), "text")
        with pytest.raises(ValueError, match="2 keys for 1 values"):
            writer.write_pairs(["a", "b"], [1])
        writer.abort()
