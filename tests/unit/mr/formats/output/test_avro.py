"""Avro container files as output."""

import io
import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
import pytest

from mr.coordinator.intake import plan_job
from mr.errors import BadJob, UnencodableKey, UnencodableValue
from mr.protocol.ids import JobId
from mr.protocol.jobs import CodeManifest, JobOptions, JobRequest
from mr.settings import Settings
from tests.support import writing
from tests.support.reading import planned_records


def written(path: Path, *chunks: tuple[Sequence[Any], Sequence[Any]] | pa.Table) -> bytes:
    return writing.written(path, "avro", *chunks)


def rows(data: bytes) -> list[Any]:
    return list(fastavro.reader(io.BytesIO(data)))


def schema(data: bytes) -> Any:
    read: Any = fastavro.reader(io.BytesIO(data)).writer_schema
    return {field["name"]: field["type"] for field in read["fields"]}


@pytest.mark.parametrize(
    ("value", "type_"),
    [
        ("ä", "string"),
        (b"\xff", "bytes"),
        (True, "boolean"),
        (-(2**63), "long"),
        (0.1, "double"),
        (Decimal("-1.50"), {"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 2}),
        (date(1, 2, 3), {"type": "int", "logicalType": "date"}),
        (time(1, 2, 3, 4), {"type": "long", "logicalType": "time-micros"}),
        (datetime(2024, 1, 2, 3, 4, 5, 6), {"type": "long", "logicalType": "local-timestamp-micros"}),
        (datetime(2024, 1, 2, tzinfo=UTC), {"type": "long", "logicalType": "timestamp-micros"}),
        ([[1], None], {"type": "array", "items": ["null", {"type": "array", "items": ["null", "long"]}]}),
    ],
)
def test_types(tmp_path: Path, value: Any, type_: Any) -> None:
    data = written(tmp_path / "part", (["k", "l"], [value, None]))
    assert rows(data) == [{"key": "k", "value": value}, {"key": "l", "value": None}]
    assert schema(data) == {"key": ["null", "string"], "value": ["null", type_]}


def test_dicts_are_records_named_by_where_they_stand(tmp_path: Path) -> None:
    values = [{"a": {"b": 1}, "a_b": {"b": 2}}, {"a": None, "list": [{"b": "x"}]}]
    data = written(tmp_path / "part", ([1, 2], values))
    assert [row["value"] for row in rows(data)] == [
        {"a": {"b": 1}, "a_b": {"b": 2}, "list": None},
        {"a": None, "a_b": None, "list": [{"b": "x"}]},
    ]
    (_, value) = schema(data)["value"]
    names = [value["name"], *(field["type"][1].get("name") for field in value["fields"])]
    assert names == ["pair.value", "pair.value.a", "pair.value.a_b", None]


def test_maps_and_other_types_of_arrow_tables(tmp_path: Path) -> None:
    table = pa.table(
        {
            "key": pa.array([1, 2], pa.int8()),
            "value": pa.array([[("x", 1)], []], pa.map_(pa.string(), pa.int32())),
        }
    )
    data = written(tmp_path / "part", table)
    assert rows(data) == [{"key": 1, "value": {"x": 1}}, {"key": 2, "value": {}}]


def test_a_part_without_pairs_is_a_file_without_records(tmp_path: Path) -> None:
    data = written(tmp_path / "part")
    assert rows(data) == []
    assert schema(data) == {"key": "null", "value": "null"}


def test_nothing_in_a_part_is_random(tmp_path: Path) -> None:
    pairs = ([1, 2], ["a", "b"])
    first = written(tmp_path / "1", pairs)
    assert written(tmp_path / "2", pairs) == first
    assert written(tmp_path / "3", ([1, 2], [1.0, 2.0]))[-16:] != first[-16:]


@pytest.mark.parametrize(
    ("values", "what"),
    [
        ([{"a b": 1}], r"pair\.value has a member 'a b', which is not a name in Avro"),
        ([[{"ä": 1}]], r"pair\.value\.item has a member 'ä', which is not a name in Avro"),
        ([timedelta(1)], r"pair\.value is of type duration\[us\], for which Avro has none"),
        ([1, "a"], "several types"),
        ([2**63], "cannot be written to Avro"),
    ],
)
def test_what_avro_cannot_hold_is_refused(tmp_path: Path, values: list[Any], what: str) -> None:
    with pytest.raises(UnencodableValue, match=f"{what}.*choose another output format"):
        written(tmp_path / "part", (list(range(len(values))), values))
    assert not (tmp_path / "part").exists()


def test_keys_of_several_types_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnencodableKey, match="a column of Avro has one type"):
        written(tmp_path / "part", ([1, "a"], [1, 1]))


@pytest.mark.parametrize("maps", [1, 4])
def test_a_part_is_an_input(tmp_path: Path, maps: int) -> None:
    numbers = list(range(20_000))
    written(tmp_path / "part-00000.avro", (numbers, [str(number) for number in numbers]))
    read = planned_records([str(tmp_path)], "avro", maps=maps, chunk_rows=1000, read_bytes=10_000)
    assert read == [(number, {"key": number, "value": str(number)}) for number in numbers]


def test_without_fastavro_the_job_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fastavro", None)
    manifest = CodeManifest("sha256:" + "a" * 64, "job.py", ("map_fn",), "", "", JobOptions())
    (tmp_path / "in").touch()
    request = JobRequest(
        version=1,
        job=manifest.code_id,
        inputs=[str(tmp_path / "in")],
        output=str(tmp_path / "out"),
        output_format="avro",
    )
    with pytest.raises(BadJob, match=r"^the output format avro .*: pip install 'mrmq\[avro\]'$"):
        plan_job(request, manifest, Settings(), JobId("j"), 0.0)
    assert not (tmp_path / "out").exists()
