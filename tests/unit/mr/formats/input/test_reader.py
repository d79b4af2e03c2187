"""Reading by URL, whatever the format."""

import gzip

import fsspec
import pytest

from mr.errors import BadInput
from mr.protocol.jobs import FileRange, Split
from tests.support.reading import planned_records, records


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
