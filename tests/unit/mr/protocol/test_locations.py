"""Locations of map outputs, packed: the same outputs come out, and a large job's are small."""

import msgspec
import pytest

from mr.errors import BadMessage
from mr.protocol.ids import AttemptId, Incarnation, JobId, TaskKind, WorkerId, task_id
from mr.protocol.locations import PackedOutputs, join_fields, location_fields, pack_outputs
from mr.protocol.records import MapOutput

JOB = JobId("nightly-2026-11-23")


def make_output(index: int, worker: int = 1, path: str | None = None) -> MapOutput:
    """As a real worker would commit it."""
    spool = f"/var/lib/mrmq/spool/worker-{worker:04d}/0123456789abcdef/jobs/nightly-2026-11-23/outputs"
    task = task_id(TaskKind.MAP, index)
    return MapOutput(
        attempt=AttemptId(JOB, task, 1),
        worker=WorkerId(f"worker-{worker:04d}"),
        incarnation=Incarnation("0123456789abcdef"),
        address=f"worker-{worker:04d}.example.org:7070",
        host="fedcba9876543210",
        path=f"{spool}/{task}-1-0123456789abcdef.segments" if path is None else path,
    )


def test_outputs_come_out_in_order_of_map() -> None:
    outputs = [make_output(index, index % 3) for index in (7, 100_000, 99_999, 0)]
    packed = pack_outputs(outputs)
    assert packed.count == 4
    assert packed.unpack(JOB) == sorted(outputs, key=lambda output: int(output.attempt.task[4:]))


@pytest.mark.parametrize("path", ["", "name", "/name", "a/b", "/a/b/"])
def test_any_path_comes_out_as_it_went_in(path: str) -> None:
    output = make_output(0, path=path)
    assert pack_outputs([output]).unpack(JOB) == [output]


def test_no_outputs_are_none() -> None:
    assert PackedOutputs().unpack(JOB) == [] == pack_outputs(()).unpack(JOB)


def test_10_000_outputs_on_100_workers_take_less_than_a_mebibyte() -> None:
    packed = pack_outputs(make_output(index, index % 100) for index in range(10_000))
    assert len(packed.packed) <= 1024 * 1024
    assert len(msgspec.msgpack.encode(packed)) <= 1024 * 1024 + 100


def test_what_cannot_be_read_is_refused() -> None:
    fields = location_fields(make_output(0))
    without_place = join_fields((f, v) for f, v in fields.items() if not f.startswith("@"))
    for packed in (
        without_place,
        PackedOutputs(1, b"\xdd\x00\x00\x00\x01\x93\x01\x02\x03"),
        PackedOutputs(1, b""),
    ):
        with pytest.raises(BadMessage):
            packed.unpack(JOB)
