"""The bad records of completed jobs as splits."""

import gzip
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
import xxhash

from mr.errors import BadInput
from mr.formats.input.bad_splits import plan_bad_records
from mr.protocol.bad_records import BadRecord
from mr.protocol.codec import as_json
from mr.protocol.failures import FailureKind
from mr.protocol.ids import JobId, TaskKind, task_id
from mr.protocol.jobs import FileRange, Split
from mr.protocol.records import Manifest, ManifestBadRecords


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in"
    path.write_bytes(b"one\ntwo\nthree\nfour\n")
    return path


def bad(path: Path, *positions: int) -> list[BadRecord]:
    status = path.stat()
    return [
        BadRecord(
            path=str(path),
            position=position,
            kind=FailureKind.USER_ERROR,
            message="no",
            file_bytes=status.st_size,
            modified=status.st_mtime,
        )
        for position in positions
    ]


def write_output(output: Path, *lists: Sequence[BadRecord], input_format: str = "text") -> str:
    """The output directory of a job whose maps skipped these records."""
    (output / "_bad_records").mkdir(parents=True)
    listed = []
    for index, records in enumerate(lists):
        data = b"".join(msgspec.json.encode(record) + b"\n" for record in records)
        path = output / "_bad_records" / f"map-{index:05d}.jsonl"
        path.write_bytes(data)
        digest = xxhash.xxh3_64(data).hexdigest()
        name = task_id(TaskKind.MAP, index)
        listed.append(ManifestBadRecords(name, 1, str(path), len(records), len(data), digest))
    read_as = {"input_format": input_format, "encoding": "utf-8", "encoding_errors": "strict"}
    manifest = Manifest(1, JobId("j"), "j", 0.0, 0, 0, (), {}, tuple(listed), read_as)
    (output / "_SUCCESS").write_text(as_json(manifest))
    return str(output)


def plan(*outputs: str, input_format: str = "text", maps: int | None = None) -> tuple[Split, ...]:
    return plan_bad_records(outputs, input_format=input_format, maps=maps, encoding="utf-8")


def test_lines_are_read_alone_in_the_order_of_the_lists(tmp_path: Path, source: Path) -> None:
    output = write_output(tmp_path / "out", bad(source, 0, 4), bad(source, 14))
    path = str(source)
    expected = tuple(FileRange(path, start, 1, 19, (start,)) for start in (0, 4, 14))
    assert plan(output) == (Split(0, expected),)
    assert plan(output, maps=2) == (Split(0, expected[:2]), Split(1, expected[2:]))


def test_other_files_are_read_whole_for_the_records_named(tmp_path: Path) -> None:
    packed = tmp_path / "in.gz"
    packed.write_bytes(gzip.compress(b"a\nb\n"))
    size = packed.stat().st_size
    output = write_output(tmp_path / "out", bad(packed, 0, 2))
    assert plan(output) == (Split(0, (FileRange(str(packed), 0, -1, size, (0, 2)),)),)
    rows = write_output(tmp_path / "rows", bad(packed, 7), input_format="parquet")
    assert plan(rows, input_format="parquet") == (Split(0, (FileRange(str(packed), 0, size, size, (7,)),)),)


def test_several_jobs(tmp_path: Path, source: Path) -> None:
    outputs = [write_output(tmp_path / name, bad(source, at)) for name, at in (("a", 4), ("b", 0))]
    (split,) = plan(*outputs)
    assert [piece.only for piece in split.ranges] == [(4,), (0,)]


def test_an_input_that_changed_is_refused_by_name(tmp_path: Path, source: Path) -> None:
    output = write_output(tmp_path / "out", bad(source, 4))
    os.utime(source, (1.0, 1.0))
    with pytest.raises(BadInput, match=rf"{source} has changed since {output} was written"):
        plan(output)
    source.write_bytes(b"longer than it was before\n")
    with pytest.raises(BadInput, match="has changed"):
        plan(output)
    source.unlink()
    with pytest.raises(BadInput, match=f"{source} is gone"):
        plan(output)


def test_what_holds_no_bad_records_is_refused(tmp_path: Path, source: Path) -> None:
    with pytest.raises(BadInput, match="holds no _SUCCESS"):
        plan(str(tmp_path))
    with pytest.raises(BadInput, match="skipped no bad record"):
        plan(write_output(tmp_path / "none"))
    output = write_output(tmp_path / "out", bad(source, 4))
    with pytest.raises(BadInput, match="--input-format text"):
        plan(output, input_format="csv")
    (listed,) = (tmp_path / "out" / "_bad_records").iterdir()
    listed.write_bytes(listed.read_bytes()[:-3] + b"\n")
    with pytest.raises(BadInput, match="was changed; restore"):
        plan(output)
