"""Text input: lines, offsets, long lines, and files that changed since they were planned."""

from pathlib import Path

import pytest

from mr.errors import BadInput
from mr.protocol.jobs import FileRange, Split
from tests.support.reading import COMPRESSORS, batch_records, chunks, planned_records, records, whole, write


@pytest.mark.parametrize("read_bytes", [1, 2, 7, 1000])
@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", []),
        (b"\n", [(0, "")]),
        (b"a", [(0, "a")]),
        (b"a\nb", [(0, "a"), (2, "b")]),
        (b"a\r\nb\r\n", [(0, "a"), (3, "b")]),
        (b"a\r\r\n\rb\r", [(0, "a\r"), (4, "\rb\r")]),
        (b"\n\r\n\n", [(0, ""), (1, ""), (3, "")]),
        ("a\x0bb\x0cc\x1cd\x85e\u2028f\n".encode(), [(0, "a\x0bb\x0cc\x1cd\x85e\u2028f")]),
        ("äö\n€\n😀".encode(), [(0, "äö"), (5, "€"), (9, "😀")]),
        (b"\xef\xbb\xbfa\nb\n", [(0, "a"), (5, "b")]),
        (b"\xef\xbb\xbf", []),
        (b"\xef\xbb\xbf\n", [(0, "")]),
        (b"x\n\xef\xbb\xbfa\n", [(0, "x"), (2, "\ufeffa")]),
    ],
)
def test_lines_and_offsets(
    tmp_path: Path, data: bytes, expected: list[tuple[int, str]], read_bytes: int
) -> None:
    path = write(tmp_path, data)
    assert records(whole(path), read_bytes=read_bytes) == expected
    assert batch_records(whole(path), read_bytes=read_bytes) == expected


def test_chunks_hold_at_most_chunk_rows_and_end_with_all_bytes_consumed(tmp_path: Path) -> None:
    path = write(tmp_path, b"one line\n" * 10)
    read = chunks(whole(path, 90), read_bytes=1000, chunk_rows=4)
    assert [len(chunk.keys) for chunk in read] == [4, 4, 2]
    assert [chunk.consumed_bytes for chunk in read] == [36, 72, 90]
    assert {chunk.path for chunk in read} == {str(path)}


def test_progress_goes_on_over_the_files_of_a_split(tmp_path: Path) -> None:
    first, second = write(tmp_path, b"a\nb\n", "1"), write(tmp_path, b"c\n", "2")
    split = Split(0, (FileRange(str(first), 0, 4, 4), FileRange(str(second), 0, 2, 2)))
    assert [(chunk.path, chunk.consumed_bytes) for chunk in chunks(split)] == [
        (str(first), 4),
        (str(second), 6),
    ]


def test_a_line_much_longer_than_a_block_and_than_its_split(tmp_path: Path) -> None:
    long = "ä" * 200_000
    path = write(tmp_path, f"a\n{long}\nb\n".encode())
    expected = [(0, "a"), (2, long), (400_003, "b")]
    assert planned_records([str(path)], maps=50, read_bytes=100) == expected


class TestChangedFiles:
    def test_a_file_that_is_gone_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(BadInput, match="gone cannot be read: No such file or directory"):
            records(Split(0, (FileRange(str(tmp_path / "gone"), 0, 5, 5),)))

    @pytest.mark.parametrize("suffix", ["txt", "gz", "zst"])
    def test_a_file_that_shrank_is_refused(self, tmp_path: Path, suffix: str) -> None:
        data = COMPRESSORS.get(suffix, bytes)(b"a\nb\n")
        path = write(tmp_path, data, f"in.{suffix}")
        length = len(data) + 3
        split = Split(0, (FileRange(str(path), 0, length if suffix == "txt" else -1, length),))
        with pytest.raises(BadInput, match="inputs must not change while a job runs"):
            records(split)

    def test_a_file_that_grew_is_read_as_it_was(self, tmp_path: Path) -> None:
        path = write(tmp_path, b"a\nb\nc\nd\n")
        assert records(Split(0, (FileRange(str(path), 0, 3, 3),))) == [(0, "a"), (2, "b")]
