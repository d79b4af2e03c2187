"""Binary: a whole file as one record."""

import gzip
from pathlib import Path

from tests.support.reading import batch_records, chunks, planned_records, whole, write


class TestBinary:
    def test_a_file_is_one_record_as_stored(self, tmp_path: Path) -> None:
        packed = gzip.compress(b"a" * 100)
        first, second = write(tmp_path, packed, "1.gz"), write(tmp_path, b"", "2")
        expected = [(str(first), packed), (str(second), b"")]
        for maps in (1, 5):
            assert planned_records([str(tmp_path)], "binary", maps=maps) == expected
        assert batch_records(whole(first), "binary") == expected[:1]
        assert chunks(whole(first), "binary")[0].consumed_bytes == len(packed)
