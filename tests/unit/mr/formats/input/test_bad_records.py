"""Bad records of each format: refused with their place, or skipped and listed; ranges that name records."""

import gzip
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mr.formats.input.bad_records import BadRecords, MalformedRecord, TooManyBadRecords
from mr.protocol.bad_records import BadRecord
from mr.protocol.failures import FailureKind
from mr.protocol.jobs import FileRange, Split
from tests.support.reading import batch_records, records, whole

MALFORMED: dict[str, tuple[str, dict[str, Any], bytes, list[Any], dict[int, str]]] = {
    # name: format, options, data, values that are left, position -> a part of the message
    "text: not UTF-8": (
        "text",
        {},
        b"one\n\xff two\nthree\nf\xe9ur\n",
        ["one", "three"],
        {4: "byte 0xff is not utf-8", 16: "byte 0xe9 is not utf-8"},
    ),
    "text: too long": (
        "text",
        {"max_record_bytes": 5},
        b"one\n" + b"x" * 40 + b"\ntwo\nsixsix\nthree\n" + b"y" * 30,
        ["one", "two", "three"],
        {4: "longer than --max-record-bytes (5 bytes)", 49: "longer", 62: "longer"},
    ),
    "text: too long, UTF-16": (
        "text",
        {"max_record_bytes": 10, "encoding": "utf-16-le"},
        "one\nxxxxxxxxxxxxxxx\ntwo\nyyyyyyyyyyyyyyyyy".encode("utf-16-le"),
        ["one", "two"],
        {8: "longer than --max-record-bytes (10 bytes)", 48: "longer"},
    ),
    "text: a code page": (
        "text",
        {"encoding": "cp1252"},
        b"caf\xe9\nb\x81d\nend",
        ["café", "end"],
        {5: "byte 0x81 is not cp1252"},
    ),
    "jsonl": (
        "jsonl",
        {},
        b'{"a": 1}\n{"a": \n\n\xff\n[2]\n',
        [{"a": 1}, [2]],
        {9: "not a JSON value", 17: "byte 0xff is not utf-8"},
    ),
    "jsonl: Latin-1": (
        "jsonl",
        {"encoding": "latin-1"},
        b'"\xe9"\n{\n1\n',
        ["é", 1],
        {4: "not a JSON value"},
    ),
    "csv: cells": (
        "csv",
        {},
        b"a,b\n1,2\n3\n4,5\n6,7,8\n\n9,10\n",
        [{"a": "1", "b": "2"}, {"a": "4", "b": "5"}, {"a": "9", "b": "10"}],
        {1: "line 3: 1 cells where the header has 2", 3: "line 5: 3 cells"},
    ),
    "csv: quotes": (
        "csv",
        {},
        b'a,b\n1,"2"x\n3,4\n',
        [{"a": "3", "b": "4"}],
        {0: "line 2: not valid CSV"},
    ),
    "csv: not UTF-8": (
        "csv",
        {},
        b"a,b\n1,\xff\n3,4\n\xc3,5\n",
        [{"a": "3", "b": "4"}],
        {0: "byte 0xff is not utf-8", 2: "byte 0xc3 is not utf-8"},
    ),
    "csv: too long": (
        "csv",
        {"max_record_bytes": 12},
        b'a,b\n1,2\n3,"' + b"x" * 50 + b'"\n4,5\n6,"' + b"y" * 20 + b'"',
        [{"a": "1", "b": "2"}, {"a": "4", "b": "5"}],
        {1: "longer than --max-record-bytes", 3: "longer"},
    ),
}


@pytest.fixture(params=MALFORMED, ids=str)
def malformed(request: pytest.FixtureRequest) -> Any:
    return MALFORMED[request.param]


@pytest.mark.parametrize("read", [records, batch_records])
@pytest.mark.parametrize("read_bytes", [1, 4, 1000])
def test_malformed_records_are_skipped_and_listed(
    tmp_path: Path, malformed: Any, read: Callable[..., Any], read_bytes: int
) -> None:
    input_format, options, data, left, expected = malformed
    if read is batch_records and input_format == "jsonl":
        left, data = left[:1], data.replace(b"[2]", b"").replace(b"\n1\n", b"\n")
    path = tmp_path / "in"
    path.write_bytes(data)
    bad = BadRecords(skip=True)
    found = read(whole(path, length=len(data)), input_format, read_bytes=read_bytes, bad=bad, **options)
    assert [value for _, value in found] == left
    listed = sorted(bad.found, key=lambda record: record.position)
    assert [record.position for record in listed] == list(expected)
    for record, message in zip(listed, expected.values(), strict=True):
        assert message in record.message
        assert (record.path, record.file_bytes, record.kind) == (str(path), len(data), FailureKind.BAD_INPUT)
        assert record.modified == path.stat().st_mtime


def test_without_the_option_the_first_is_refused_with_file_and_place(tmp_path: Path, malformed: Any) -> None:
    input_format, options, data, _, expected = malformed
    path = tmp_path / "in"
    path.write_bytes(data)
    with pytest.raises(MalformedRecord) as refused:
        records(whole(path, length=len(data)), input_format, **options)
    assert str(path) in str(refused.value)
    place, message = next(iter(expected.items()))
    if input_format != "csv":  # of a byte that is no text, its own offset is named
        offset = int(str(refused.value).removeprefix(f"{path}:").partition(":")[0])
        assert place <= offset < place + 5
    assert message in str(refused.value)


@pytest.mark.parametrize("split_bytes", [1, 3, 7, 50])
def test_each_is_found_once_wherever_the_file_is_cut(tmp_path: Path, split_bytes: int) -> None:
    data = b"one\n\xff\xff\xff\xff\xff\xff\n" + b"x" * 25 + b"\nlast\n"
    path = tmp_path / "in"
    path.write_bytes(data)
    left, places = [], []
    for start in range(0, len(data), split_bytes):
        piece = FileRange(str(path), start, min(split_bytes, len(data) - start), len(data))
        bad = BadRecords(skip=True)
        left += records(Split(0, (piece,)), bad=bad, max_record_bytes=10)
        places += [record.position for record in bad.found]
    assert left == [(0, "one"), (37, "last")]
    assert places == [4, 11]


def test_a_compressed_file(tmp_path: Path) -> None:
    path = tmp_path / "in.gz"
    path.write_bytes(gzip.compress(b"one\n\xff\ntwo\n"))
    bad = BadRecords(skip=True)
    assert records(whole(path), bad=bad) == [(0, "one"), (6, "two")]
    assert [(record.position, record.record) for record in bad.found] == [(4, "\\xff")]


def test_a_header_is_no_record(tmp_path: Path) -> None:
    for data in (b"a,a\n1,2\n", b'a,"b"x\n1,2\n', b"\xff,b\n1,2\n"):
        path = tmp_path / "in"
        path.write_bytes(data)
        with pytest.raises(MalformedRecord, match="line 1: "):
            records(whole(path), "csv", bad=BadRecords(skip=True))


def test_more_than_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "in"
    path.write_bytes(b"\xff\nok\n\xfe\n\xfd\n")
    with pytest.raises(TooManyBadRecords, match=rf"more than 2 bad records; the first: {path}:0: "):
        records(whole(path), bad=BadRecords(skip=True, most=2))


def _avro() -> bytes:
    file = io.BytesIO()
    schema = {"type": "record", "name": "r", "fields": [{"name": "a", "type": "long"}]}
    fastavro.writer(file, schema, [{"a": number} for number in range(4)])
    return file.getvalue()


FILES: dict[str, Callable[[Path], object]] = {
    "text": lambda path: path.write_bytes(b"r0\nr1\nr2\nr3\n"),
    "jsonl": lambda path: path.write_bytes(b"10\n11\n12\n13\n"),
    "csv": lambda path: path.write_bytes(b"a\n0\n1\n2\n3\n"),
    "parquet": lambda path: pq.write_table(pa.table({"a": [0, 1, 2, 3]}), path, row_group_size=2),
    "avro": lambda path: path.write_bytes(_avro()),
}


@pytest.mark.parametrize("read", [records, batch_records])
@pytest.mark.parametrize("name", FILES)
def test_known_bad_records_are_left_out_and_listed_with_what_they_hold(
    tmp_path: Path, name: str, read: Callable[..., Any]
) -> None:
    path = tmp_path / "in"
    FILES[name](path)
    size = path.stat().st_size
    every = read(whole(path, length=size), name)
    known = [
        BadRecord(path=str(path), position=every[row][0], kind=FailureKind.KILLED, message="gone")
        for row in (1, 3)
    ]
    bad = BadRecords(skip=True, known=known)
    assert read(whole(path, length=size), name, bad=bad) == [every[0], every[2]]
    assert [record.position for record in bad.found] == [every[1][0], every[3][0]]
    for record, row in zip(bad.found, (1, 3), strict=True):
        assert (record.kind, record.message, record.file_bytes) == (FailureKind.KILLED, "gone", size)
        assert str(every[row][1]) in record.record


@pytest.mark.parametrize("read", [records, batch_records])
@pytest.mark.parametrize("name", FILES)
def test_a_range_that_names_records_gives_no_others(
    tmp_path: Path, name: str, read: Callable[..., Any]
) -> None:
    path = tmp_path / "in"
    FILES[name](path)
    size = path.stat().st_size
    every = read(whole(path, length=size), name)
    named = FileRange(str(path), 0, size, size, (every[2][0], every[1][0]))
    assert read(Split(0, (named,)), name) == every[1:3]


def test_what_is_malformed_elsewhere_does_not_matter_to_a_named_record(tmp_path: Path) -> None:
    path = tmp_path / "in"
    path.write_bytes(b"a,b\n1\n2,3\n\xff,\n4,5\n")
    named = FileRange(str(path), 0, -1, path.stat().st_size, (1, 3))
    assert [key for key, _ in records(Split(0, (named,)), "csv")] == [1, 3]
    with pytest.raises(MalformedRecord, match="line 2: 1 cells"):
        records(Split(0, (FileRange(str(path), 0, -1, path.stat().st_size, (0,)),)), "csv")


def test_a_file_that_is_one_record_is_not_copied(tmp_path: Path) -> None:
    path = tmp_path / "in"
    path.write_bytes(b"\x00\x01secret")
    bad = BadRecords(
        skip=True,
        known=[BadRecord(path=str(path), position=0, kind=FailureKind.USER_ERROR, message="no")],
    )
    assert records(whole(path), "binary", bad=bad) == []
    assert [(record.position, record.record) for record in bad.found] == [(0, "")]
