"""CSV: rows as dicts, and what is refused."""

import gzip
from pathlib import Path

import pytest

from mr.errors import BadInput
from tests.support.reading import batch_records, chunks, planned_records, records, whole, write


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
