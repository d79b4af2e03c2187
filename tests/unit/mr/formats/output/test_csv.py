"""CSV parts."""

import csv
import io
from pathlib import Path

from tests.support.writing import written


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
