"""Avro container files as input."""

import io
import sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import fastavro
import fsspec
import pytest

from mr.coordinator.intake import plan_job
from mr.errors import BadInput
from mr.formats.input import avro
from mr.protocol.ids import JobId
from mr.protocol.jobs import CodeManifest, FileRange, JobRequest, Split
from mr.protocol.options import JobOptions
from mr.settings import Settings
from tests.support.reading import batch_records, chunks, planned_records, records, whole

SCHEMA = {
    "type": "record",
    "name": "Order",
    "fields": [
        {"name": "id", "type": ["null", "long"]},
        {"name": "tags", "type": {"type": "array", "items": "string"}},
        {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 6, "scale": 2}},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
    ],
}
ORDERS: list[dict[str, Any]] = [
    {
        "id": number if number % 3 else None,
        "tags": ["tag"] * (number % 4),
        "price": Decimal(number) / 4,
        "at": datetime(2024, 1, 1, minute=number, tzinfo=UTC),
    }
    for number in range(60)
]
EXPECTED = list(enumerate(ORDERS))


def container(values: list[Any], schema: Any = SCHEMA, codec: str = "null", block_bytes: int = 100) -> bytes:
    file = io.BytesIO()
    fastavro.writer(file, schema, values, codec=codec, sync_interval=block_bytes)
    return file.getvalue()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "orders.avro"
    path.write_bytes(container(ORDERS))
    return path


def block_offsets(path: Path) -> list[int]:
    with path.open("rb") as file:
        return [block.offset for block in fastavro.block_reader(file)]


@pytest.mark.parametrize("codec", ["null", "deflate", "bzip2", "xz"])
def test_records_are_dicts_by_index(tmp_path: Path, codec: str) -> None:
    path = tmp_path / "in.avro"
    path.write_bytes(container(ORDERS, codec=codec))
    assert records(whole(path), "avro") == EXPECTED
    assert batch_records(whole(path), "avro") == EXPECTED


@pytest.mark.parametrize("maps", [1, 2, 3, 7, 1000])
def test_blocks_are_shared_out_whole(path: Path, maps: int) -> None:
    assert planned_records([str(path)], "avro", maps=maps) == EXPECTED


def test_what_is_not_a_record_is_a_value_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "longs.avro"
    path.write_bytes(container([3, -1, 2**40], "long"))
    assert records(whole(path), "avro") == [(0, 3), (1, -1), (2, 2**40)]


def test_a_file_without_records(tmp_path: Path) -> None:
    path = tmp_path / "none.avro"
    path.write_bytes(container([]))
    assert records(whole(path), "avro") == []
    assert planned_records([str(path)], "avro", maps=5) == []


def test_chunks_span_blocks_and_are_bounded(path: Path) -> None:
    assert len(block_offsets(path)) > 8
    read = chunks(whole(path), "avro", chunk_rows=25, read_bytes=1_000_000)
    assert [len(chunk.keys) for chunk in read] == [25, 25, 10]
    assert read[-1].consumed_bytes == path.stat().st_size
    read = chunks(whole(path), "avro", chunk_rows=1000, read_bytes=250)
    sizes = [len(chunk.keys) for chunk in read]
    assert len(sizes) > 4 and sum(sizes) == 60
    assert [key for chunk in read for key in chunk.keys] == list(range(60))
    consumed = [chunk.consumed_bytes for chunk in read]
    assert consumed == sorted(consumed)


def test_a_url_is_read_too(path: Path) -> None:
    data = path.read_bytes()
    fsspec.filesystem("memory").pipe_file("/formats/in.avro", data)
    cut = len(data) // 2
    edges = [(0, cut), (cut, len(data) - cut)]
    pieces = [FileRange("memory://formats/in.avro", *edge, len(data)) for edge in edges]
    read = [pair for piece in pieces for pair in records(Split(0, (piece,)), "avro")]
    assert read == EXPECTED


@pytest.mark.parametrize("data", [b"", b"Obj", b"no Avro\n" * 20])
def test_what_is_not_avro_is_named(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "in.avro"
    path.write_bytes(data)
    with pytest.raises(BadInput, match=r"in\.avro cannot be read as Avro at byte 0: "):
        records(whole(path), "avro")


@pytest.mark.parametrize("codec", ["null", "deflate", "bzip2", "xz"])
def test_a_damaged_block_is_named_by_its_offset(tmp_path: Path, codec: str) -> None:
    path = tmp_path / "in.avro"
    whole_file = container(ORDERS, codec=codec)
    path.write_bytes(whole_file)
    offsets = block_offsets(path)
    sync = whole_file[-16:]
    broken = {
        "marker": whole_file[:-1] + bytes([whole_file[-1] ^ 1]),
        "size": whole_file[: offsets[-1] + 1] + b"\xfe\xff\x03" + whole_file[offsets[-1] + 4 :],
        "cut off": whole_file[:-20],
        "something behind": whole_file + b"more",
    }
    for what, data in broken.items():
        path.write_bytes(data)
        place = len(whole_file) if what == "something behind" else offsets[-1]
        with pytest.raises(BadInput, match=rf"in\.avro cannot be read as Avro at byte {place}: "):
            records(whole(path), "avro")
    assert whole_file.count(sync) == len(offsets) + 1


def test_the_reason_of_damage_is_never_empty(tmp_path: Path) -> None:
    path = tmp_path / "in.avro"
    good = container(ORDERS, codec="null")
    path.write_bytes(good + b"\xfe\xff\xff\xff\x7f\x00" + good[-16:])  # 2**34 - 1 records in 0 bytes
    with pytest.raises(BadInput, match=rf"at byte {len(good)}: EOFError$"):
        records(whole(path), "avro")


@pytest.mark.parametrize("codec", ["deflate", "bzip2", "xz"])
def test_damaged_compressed_data_is_named_by_the_blocks_offset(tmp_path: Path, codec: str) -> None:
    path = tmp_path / "in.avro"
    path.write_bytes(container(ORDERS, codec=codec))
    offset = block_offsets(path)[2]
    data = bytearray(path.read_bytes())
    data[offset + 6 : offset + 14] = bytes(8)
    path.write_bytes(data)
    with pytest.raises(BadInput, match=rf"in\.avro cannot be read as Avro at byte {offset}: "):
        records(whole(path), "avro")


def test_a_range_behind_a_damaged_block_does_not_read_on_from_it(path: Path) -> None:
    """The index of a record depends on all blocks before it."""
    data = bytearray(path.read_bytes())
    first, second = block_offsets(path)[:2]
    data[second - 1] ^= 1
    path.write_bytes(data)
    last = Split(0, (FileRange(str(path), second, len(data) - second, len(data)),))
    with pytest.raises(BadInput, match=rf"at byte {first}: the sync marker"):
        records(last, "avro")


def test_a_codec_whose_package_is_not_installed_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: Any) -> None:
        raise ValueError("snappy codec is supported but you need to install cramjam")

    monkeypatch.setattr(avro.fastavro, "block_reader", missing)
    with pytest.raises(BadInput, match=r"orders\.avro .*you need to install cramjam"):
        records(whole(path), "avro")


def test_a_changed_or_missing_file_is_refused(path: Path) -> None:
    split = whole(path)
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(BadInput, match="changed since the job was planned"):
        records(split, "avro")
    path.unlink()
    with pytest.raises(BadInput, match=r"orders\.avro cannot be read: No such file"):
        records(split, "avro")


def test_without_fastavro_the_job_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fastavro", None)
    manifest = CodeManifest("sha256:" + "a" * 64, "job.py", ("map_fn",), "", "", JobOptions())
    request = JobRequest(
        version=1,
        job=manifest.code_id,
        inputs=[str(path)],
        output=str(path.parent / "out"),
        input_format="avro",
    )
    with pytest.raises(BadInput, match=r"^the input format avro .*: pip install 'mrmq\[avro\]'$"):
        plan_job(request, manifest, Settings(), JobId("j"), 0.0)


@pytest.mark.parametrize("at", range(4))
def test_a_file_with_another_mark_is_refused(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    with pytest.raises(BadInput, match="mark of an Avro file"):
        records(whole(path), "avro")
