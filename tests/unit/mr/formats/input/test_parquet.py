"""Parquet: rows as dicts, row groups shared out to splits, and what is refused."""

from datetime import date
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mr.errors import BadInput
from mr.protocol.jobs import FileRange, Split
from tests.support.reading import batch_records, chunks, planned_records, records, whole, write


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

    def test_text_that_is_not_utf_8_is_refused_before_a_batch_is_given(self, tmp_path: Path) -> None:
        path = tmp_path / "bad"
        rows = pa.table({"text": ["plain", "words"]})
        pq.write_table(rows, path, compression="none", use_dictionary=False, write_statistics=False)
        path.write_bytes(path.read_bytes().replace(b"words", b"wo\xffds"))
        with pytest.raises(BadInput, match="bad is not a valid Parquet file"):
            batch_records(whole(path, path.stat().st_size), "parquet")

    def test_a_changed_or_missing_file_is_refused(self, path: Path) -> None:
        size = path.stat().st_size
        with pytest.raises(BadInput, match="changed since the job was planned"):
            records(Split(0, (FileRange(str(path), 0, size + 1, size + 1),)), "parquet")
        path.unlink()
        with pytest.raises(BadInput, match="cannot be read: No such file"):
            records(Split(0, (FileRange(str(path), 0, size, size),)), "parquet")
