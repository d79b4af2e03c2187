"""`max_record_bytes`: which lines are refused, where they are said to be, and what that takes."""

import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from mr.errors import BadInput
from mr.formats.input.reader import read_batches, read_records
from mr.protocol.failures import FailureKind
from tests.support.attempts import Workbench
from tests.support.reading import batch_records, planned_records, read_options, records, whole

MIB = 1 << 20


@pytest.mark.parametrize("read_bytes", [1, 3, 1000])
@pytest.mark.parametrize("read", [records, batch_records])
@pytest.mark.parametrize(
    ("lines", "encoding", "limit", "offset"),
    [
        ("ab\nabcd\nabc\n", "utf-8", 4, None),
        ("ab\nabcd\nabc\n", "utf-8", 3, 3),
        ("ab\nabc\nabcd", "utf-8", 3, 7),
        ("abcd\n", "utf-8", 3, 0),
        ("ab\r\nabc\r\n", "utf-8", 3, 4),
        ("ab\näö\n", "utf-8", 3, 3),
        ("ab\näö\n", "latin-1", 3, None),
        ("ab\nabcd\n", "utf-16-le", 7, 6),
        ("ab\nabcd\n", "utf-16", 7, 8),
        ("ab\nabcd\n", "utf-16", 8, None),
        ("ab\nabc\nabcd", "utf-16-be", 7, 14),
    ],
)
def test_a_longer_line_is_refused_with_its_offset(
    tmp_path: Path, read: Any, lines: str, encoding: str, limit: int, offset: int | None, read_bytes: int
) -> None:
    path = tmp_path / "in.txt"
    path.write_bytes(lines.encode(encoding))
    options = {"read_bytes": read_bytes, "encoding": encoding, "max_record_bytes": limit}
    if offset is None:
        assert [value for _, value in read(whole(path), **options)] == lines.splitlines()
        return
    with pytest.raises(BadInput) as refused:
        read(whole(path), **options)
    assert str(refused.value) == (
        f"{path}:{offset}: the record is longer than --max-record-bytes ({limit} bytes)"
    )


@pytest.mark.parametrize("split_bytes", [1, 4, 100])
def test_the_same_line_is_refused_whatever_the_splits(tmp_path: Path, split_bytes: int) -> None:
    path = tmp_path / "in.txt"
    path.write_bytes(b"ab\nabcdefgh\nabc\n")
    with pytest.raises(BadInput, match=r"in\.txt:3: .* \(7 bytes\)"):
        planned_records([str(path)], split_bytes=split_bytes, max_record_bytes=7)


@pytest.mark.parametrize("input_format", ["jsonl", "csv"])
def test_other_formats_of_lines_have_the_limit_too(tmp_path: Path, input_format: str) -> None:
    path = tmp_path / "in"
    path.write_bytes(b'"a"\n"b"\n"cccc"\n')
    assert len(records(whole(path), input_format, max_record_bytes=6)) == (
        3 if input_format == "jsonl" else 2
    )
    with pytest.raises(BadInput, match=r"in:8: the record is longer than --max-record-bytes \(5 bytes\)"):
        records(whole(path), input_format, max_record_bytes=5)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le"])
@pytest.mark.parametrize("read", [read_records, read_batches])
@pytest.mark.parametrize("length", [-1, 64 * MIB])
def test_a_line_without_end_is_not_read_to_its_end(
    tmp_path: Path, read: Any, encoding: str, length: int
) -> None:
    path = tmp_path / "in.txt"
    with path.open("wb") as file:
        file.truncate(64 * MIB)
    options = read_options(read_bytes=MIB, encoding=encoding, max_record_bytes=MIB)
    tracemalloc.start()
    try:
        with pytest.raises(BadInput, match=rf"in\.txt:0: .*\({MIB} bytes\)"):
            list(read(whole(path, length), options))
        assert tracemalloc.get_traced_memory()[1] < 16 * MIB
    finally:
        tracemalloc.stop()


def test_the_task_fails_by_its_input(tmp_path: Path) -> None:
    bench = Workbench(tmp_path, "def map_fn(k, v):\n    yield k, v\n", reduces=0, max_record_bytes=3)
    path = bench.write_input("in.txt", "ab\nabcd\n")
    (split,) = bench.plan([path])
    failure = bench.map_failure(split)
    assert failure.kind is FailureKind.BAD_INPUT
    assert f"{path}:3: the record is longer than --max-record-bytes (3 bytes)" in failure.message
