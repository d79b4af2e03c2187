"""Inputs other than text: jsonl, csv, parquet, binary."""

import gzip
from datetime import date
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mr.errors import BadInput
from mr.protocol.jobs import FileRange, Split
from tests.support.reading import batch_records, chunks, planned_records, records, whole


def write(tmp_path: Path, data: bytes, name: str = "in") -> Path:
    path = tmp_path / name
    path.write_bytes(data)
    return path


class TestJsonLines:
    def test_objects_come_with_their_offsets_and_blank_lines_are_skipped(self, tmp_path: Path) -> None:
        path = write(
            tmp_path, '\ufeff{"a": [1, 2.5, null]}\r\n\n  \n"ä"\n12345678901234567890123\ntrue'.encode()
        )
        expected = [(0, {"a": [1, 2.5, None]}), (30, "ä"), (35, 12345678901234567890123), (59, True)]
        assert records(whole(path), "jsonl") == expected
        assert planned_records([str(path)], "jsonl", maps=5) == expected

    def test_a_file_of_a_byte_order_mark_has_no_records(self, tmp_path: Path) -> None:
        assert records(whole(write(tmp_path, b"\xef\xbb\xbf")), "jsonl") == []

    @pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
    @pytest.mark.parametrize("line", [b"{'a': 1}", b"[1", b"[" * 100_000, b"1 2"])
    def test_what_is_not_json_is_named_by_file_and_offset(
        self, tmp_path: Path, line: bytes, encoding: str
    ) -> None:
        path = write(tmp_path, b'{"a": 1}\n\n' + line + b"\n2\n")
        with pytest.raises(BadInput, match=r"in:10: not a JSON value: ."):
            records(whole(path), "jsonl", read_bytes=1_000_000, encoding=encoding)

    @pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
    def test_half_a_surrogate_pair_is_a_string_as_pythons_own_parser_has_it(
        self, tmp_path: Path, encoding: str
    ) -> None:
        lines = [r'{"a": "\ud800"}', r'"\uDC00x"', r'["\ud83d\ude00", "\ud800\u0041"]', r'"\\ud800"']
        path = write(tmp_path, "\n".join(lines).encode())
        values = [value for _, value in records(whole(path), "jsonl", encoding=encoding)]
        assert values == [{"a": "\ud800"}, "\udc00x", ["\U0001f600", "\ud800A"], r"\ud800"]

    @pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
    @pytest.mark.parametrize("line", [r'"\ud800', r'["\ud800" 1]', r'["\ud800", 1e999]', "NaN", "1e999"])
    def test_what_python_alone_takes_is_refused(self, tmp_path: Path, line: str, encoding: str) -> None:
        path = write(tmp_path, f'"a"\n{line}\n'.encode())
        with pytest.raises(BadInput, match=r"in:4: not a JSON value: ."):
            records(whole(path), "jsonl", encoding=encoding)

    def test_bytes_that_are_no_text_follow_the_encoding_flags(self, tmp_path: Path) -> None:
        path = write(tmp_path, b'"a"\n"\xff"\n')
        with pytest.raises(BadInput, match=r"in:5: byte 0xff is not utf-8"):
            records(whole(path), "jsonl")
        assert records(whole(path), "jsonl", encoding_errors="replace") == [(0, "a"), (4, "\ufffd")]
        assert records(whole(path), "jsonl", encoding_errors="surrogateescape") == [(0, "a"), (4, "\udcff")]
        assert records(whole(path), "jsonl", encoding="latin-1") == [(0, "a"), (4, "ÿ")]

    def test_batches_hold_structs(self, tmp_path: Path) -> None:
        path = write(tmp_path, b'{"a": 1, "b": "x"}\n{"a": 2, "b": null}\n')
        expected = [(0, {"a": 1, "b": "x"}), (19, {"a": 2, "b": None})]
        assert batch_records(whole(path), "jsonl") == expected

    def test_batches_refuse_what_is_no_column(self, tmp_path: Path) -> None:
        path = write(tmp_path, b'1\n"a"\n')
        with pytest.raises(BadInput, match=r"in:0: no Arrow column holds these records .*use map_fn"):
            batch_records(whole(path), "jsonl", read_bytes=100)


class TestCsv:
    def test_rows_are_dicts_numbered_from_zero(self, tmp_path: Path) -> None:
        data = '\ufeffname,"two\nlines"\r\nä,"x, ""y"""\r\n\r\n"a\r\nb",\nlast,1'.encode()
        path = write(tmp_path, data, "in.csv")
        expected = [
            (0, {"name": "ä", "two\nlines": 'x, "y"'}),
            (1, {"name": "a\r\nb", "two\nlines": ""}),
            (2, {"name": "last", "two\nlines": "1"}),
        ]
        for read_bytes in (1, 3, 1000):
            assert records(whole(path), "csv", read_bytes=read_bytes, chunk_rows=2) == expected
        assert planned_records([str(path)], "csv", maps=4) == expected
        assert batch_records(whole(path), "csv", chunk_rows=2) == expected

    def test_a_compressed_file_in_another_encoding(self, tmp_path: Path) -> None:
        path = write(tmp_path, gzip.compress("größe\n1\n".encode("utf-16")), "in.csv.gz")
        assert records(whole(path), "csv", encoding="utf-16") == [(0, {"größe": "1"})]
        assert chunks(whole(path), "csv", encoding="utf-16")[-1].consumed_bytes == path.stat().st_size

    @pytest.mark.parametrize("data", [b"", b"a,b\n", b"a,b", b"\n\n"])
    def test_no_rows(self, tmp_path: Path, data: bytes) -> None:
        assert records(whole(write(tmp_path, data)), "csv") == []

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (b"a,b\n1,2\n\n1,2,3\n", "in, line 4: 3 cells where the header has 2"),
            (b"a,b\n1\n", "in, line 2: 1 cells where the header has 2"),
            (b"a,b,a\n", "in, line 1: the header names 'a' twice"),
            (b'a\n"x\ny\n', "in, line 3: not valid CSV: unexpected end of data"),
            (b'a\n"x"y\n', "in, line 2: not valid CSV"),
            (b"a\nx\n\xff\n", "in:4: byte 0xff is not utf-8"),
        ],
    )
    def test_what_is_not_csv_is_named_by_file_and_line(
        self, tmp_path: Path, data: bytes, message: str
    ) -> None:
        with pytest.raises(BadInput) as caught:
            records(whole(write(tmp_path, data)), "csv")
        assert f"{tmp_path}/{message}" in str(caught.value)

    def test_a_cell_may_be_large(self, tmp_path: Path) -> None:
        path = write(tmp_path, b"a\n" + b"x" * 1_000_000)
        assert records(whole(path), "csv", read_bytes=100_000) == [(0, {"a": "x" * 1_000_000})]


class TestParquet:
    ROWS = 100

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        columns = {
            "n": list(range(self.ROWS)),
            "s": [None if n % 7 == 0 else f"text {n}" for n in range(self.ROWS)],
            "d": [date(2020, 1, 1 + n % 30) for n in range(self.ROWS)],
            "l": [[n, n + 1] for n in range(self.ROWS)],
        }
        pq.write_table(pa.table(columns), tmp_path / "in.parquet", row_group_size=10)
        return tmp_path / "in.parquet"

    def expected(self) -> list[tuple[int, dict[str, object]]]:
        return [
            (
                n,
                {
                    "n": n,
                    "s": None if n % 7 == 0 else f"text {n}",
                    "d": date(2020, 1, 1 + n % 30),
                    "l": [n, n + 1],
                },
            )
            for n in range(self.ROWS)
        ]

    def test_rows_are_dicts_by_index(self, path: Path) -> None:
        assert records(whole(path, path.stat().st_size), "parquet") == self.expected()
        assert batch_records(whole(path, path.stat().st_size), "parquet") == self.expected()

    @pytest.mark.parametrize("maps", [2, 7, 60])
    def test_row_groups_are_shared_out_whole(self, path: Path, maps: int) -> None:
        assert planned_records([str(path)], "parquet", maps=maps) == self.expected()

    def test_chunks_and_progress_are_bounded(self, path: Path) -> None:
        size = path.stat().st_size
        read = chunks(whole(path, size), "parquet", chunk_rows=7, read_bytes=100_000)
        assert max(len(chunk.keys) for chunk in read) == 7
        consumed = [chunk.consumed_bytes for chunk in read]
        assert consumed == sorted(consumed)
        assert size // 2 < consumed[-1] <= size

    def test_a_url_is_read_too(self, path: Path) -> None:
        data = path.read_bytes()
        fsspec.filesystem("memory").pipe_file("/formats/in.parquet", data)
        split = Split(0, (FileRange("memory://formats/in.parquet", 0, len(data), len(data)),))
        assert records(split, "parquet") == self.expected()

    @pytest.mark.parametrize("data", [b"", b"PAR1", b"no parquet file at all", b"PAR1" * 20])
    def test_what_is_not_parquet_is_named(self, tmp_path: Path, data: bytes) -> None:
        with pytest.raises(BadInput, match=r"bad is not a valid Parquet file"):
            records(whole(write(tmp_path, data, "bad"), len(data)), "parquet")

    def test_a_damaged_page_is_named(self, tmp_path: Path) -> None:
        path = tmp_path / "bad"
        pq.write_table(pa.table({"n": list(range(1000))}), path, write_page_checksum=True, compression="none")
        data = bytearray(path.read_bytes())
        data[1000] ^= 255
        path.write_bytes(data)
        with pytest.raises(BadInput, match=r"bad (is not a valid Parquet file|cannot be read)"):
            records(whole(path, len(data)), "parquet")

    def test_a_changed_or_missing_file_is_refused(self, path: Path) -> None:
        size = path.stat().st_size
        with pytest.raises(BadInput, match="changed since the job was planned"):
            records(Split(0, (FileRange(str(path), 0, size + 1, size + 1),)), "parquet")
        path.unlink()
        with pytest.raises(BadInput, match="cannot be read: No such file"):
            records(Split(0, (FileRange(str(path), 0, size, size),)), "parquet")


class TestBinary:
    def test_a_file_is_one_record_as_stored(self, tmp_path: Path) -> None:
        packed = gzip.compress(b"a" * 100)
        first, second = write(tmp_path, packed, "1.gz"), write(tmp_path, b"", "2")
        expected = [(str(first), packed), (str(second), b"")]
        for maps in (1, 5):
            assert planned_records([str(tmp_path)], "binary", maps=maps) == expected
        assert batch_records(whole(first), "binary") == expected[:1]
        assert chunks(whole(first), "binary")[0].consumed_bytes == len(packed)


class TestUrls:
    def test_ranges_of_a_url(self) -> None:
        data = b"".join(b"line %d\r\n" % n for n in range(50))
        fsspec.filesystem("memory").pipe_file("/formats/lines", data)
        fsspec.filesystem("memory").pipe_file("/formats/lines.gz", gzip.compress(data))
        values = [f"line {n}" for n in range(50)]
        for name in ("lines", "lines.gz"):
            read = planned_records([f"memory://formats/{name}"], maps=7)
            assert [value for _, value in read] == values
            assert [key for key, _ in read[:3]] == [0, 8, 16]

    def test_a_missing_url_is_named(self) -> None:
        with pytest.raises(BadInput, match="memory://formats/gone cannot be read"):
            records(Split(0, (FileRange("memory://formats/gone", 0, 3, 3),)))
