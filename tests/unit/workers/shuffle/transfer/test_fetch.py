"""A reducer's fetch over real loopback HTTP: whole, resumed, retried, and lost."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from mr.protocol.failures import Loss
from mr.protocol.ids import JobId
from mr.protocol.locations import pack_outputs
from mr.protocol.records import MapOutput
from mr.workers.messages import RunTask
from mr.workers.shuffle.transfer import host_fetch
from mr.workers.shuffle.transfer.fetch import InputLost, open_sources
from mr.workers.shuffle.transfer.host_fetch import find_corrupt
from mr.workers.shuffle.transfer.served_outputs import ServedOutputs
from mr.workers.shuffle.transfer.server import ShuffleServer
from tests.support.fetching import found_in, lost_in, make_output, make_reduce, segment_of, words_of

JOB = JobId("job-1")
TOKEN = "secret"


@pytest.fixture(autouse=True)
def no_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_fetch, "RETRY_BASE_SECONDS", 0.001)
    monkeypatch.setattr(host_fetch, "BUSY_RETRY_SECONDS", 0.001)


def damage(output: MapOutput, place: int) -> None:
    """Turn one bit of a map output's file."""
    data = bytearray(Path(output.path).read_bytes())
    data[place] ^= 1
    Path(output.path).write_bytes(data)


# --- from a real shuffle server


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[tuple[str, ServedOutputs]]:
    outputs = ServedOutputs()
    server = ShuffleServer(outputs)
    port = await server.start("127.0.0.1", 0)
    yield f"127.0.0.1:{port}", outputs
    await server.close()


async def test_segments_of_several_maps_come_in_map_order(
    tmp_path: Path, served: tuple[str, ServedOutputs]
) -> None:
    address, offered = served
    outputs = [make_output(tmp_path, n, [f"word-{n}"], address) for n in range(3)]
    for output in outputs:
        offered.add(TOKEN, output)
    run_task = make_reduce(tmp_path, outputs)
    sources = await asyncio.to_thread(open_sources, run_task, 0)
    assert [words_of(source) for source in sources] == [["word-0"], ["word-1"], ["word-2"]]
    assert all(source.fetched for source in sources)
    assert {source.segment.path for source in sources} == {Path(run_task.work_dir) / "fetched-0"}


async def test_local_and_fetched_segments_are_mixed_in_map_order(
    tmp_path: Path, served: tuple[str, ServedOutputs]
) -> None:
    address, offered = served
    outputs = [
        make_output(tmp_path, 0, ["far"], address, "far"),
        make_output(tmp_path, 1, ["near"], "127.0.0.1:1", "near"),
        make_output(tmp_path, 2, ["far too"], address, "far"),
    ]
    for output in (outputs[0], outputs[2]):
        offered.add(TOKEN, output)
    run_task = make_reduce(tmp_path, outputs, host="host of near")
    sources = await asyncio.to_thread(open_sources, run_task, 0)
    assert [(words_of(source), source.fetched) for source in sources] == [
        (["far"], True),
        (["near"], False),
        (["far too"], True),
    ]


async def test_local_reads_can_be_switched_off(tmp_path: Path, served: tuple[str, ServedOutputs]) -> None:
    address, offered = served
    output = make_output(tmp_path, 0, ["word"], address)
    offered.add(TOKEN, output)
    run_task = make_reduce(tmp_path, [output], host=output.host, shuffle_local_reads=False)
    (source,) = await asyncio.to_thread(open_sources, run_task, 0)
    assert source.fetched


async def test_missing_outputs_are_lost_and_the_others_are_not(
    tmp_path: Path, served: tuple[str, ServedOutputs]
) -> None:
    address, offered = served
    outputs = [make_output(tmp_path, n, ["word"], address) for n in range(3)]
    offered.add(TOKEN, outputs[1])
    with pytest.raises(InputLost, match="2 map outputs are lost") as caught:
        await asyncio.to_thread(open_sources, make_reduce(tmp_path, outputs), 0)
    assert lost_in(caught.value) == [("map-00000", 1, "w1"), ("map-00002", 1, "w1")]


async def test_a_worker_that_knows_nothing_of_the_job_has_lost_all_of_its_outputs(
    tmp_path: Path, served: tuple[str, ServedOutputs]
) -> None:
    outputs = [make_output(tmp_path, n, ["word"], served[0]) for n in range(2)]
    with pytest.raises(InputLost) as caught:
        await asyncio.to_thread(open_sources, make_reduce(tmp_path, outputs), 0)
    assert len(caught.value.lost) == 2


async def test_a_damaged_segment_is_lost_and_named(tmp_path: Path, served: tuple[str, ServedOutputs]) -> None:
    address, offered = served
    outputs = [make_output(tmp_path, n, ["word"] * 50, address) for n in range(2)]
    for output in outputs:
        offered.add(TOKEN, output)
    damage(outputs[1], len(segment_of(outputs[1])) - 30)
    with pytest.raises(InputLost, match="fail their checksum") as caught:
        await asyncio.to_thread(open_sources, make_reduce(tmp_path, outputs), 0)
    assert lost_in(caught.value) == [("map-00001", 1, "w1")]
    assert found_in(caught.value) == [Loss.DAMAGED]


# --- without a server


async def test_a_partition_without_records_has_no_sources(
    tmp_path: Path, served: tuple[str, ServedOutputs]
) -> None:
    outputs = [make_output(tmp_path, 0, ["word"], served[0]), make_output(tmp_path, 1, ["word"], "", "w2")]
    served[1].add(TOKEN, outputs[0])
    assert await asyncio.to_thread(open_sources, make_reduce(tmp_path, outputs), 1) == []


async def test_the_lengths_are_told_as_soon_as_they_are_known(
    tmp_path: Path, served: tuple[str, ServedOutputs]
) -> None:
    outputs = [make_output(tmp_path, 0, ["far"], served[0]), make_output(tmp_path, 1, ["near"], "", "w2")]
    served[1].add(TOKEN, outputs[0])
    told: list[int] = []
    await asyncio.to_thread(open_sources, make_reduce(tmp_path, outputs), 0, told.append)
    far, near = (len(segment_of(output)) for output in outputs)
    assert told == [near, far, 0]


def test_a_worker_that_is_gone_has_lost_its_outputs(tmp_path: Path) -> None:
    outputs = [make_output(tmp_path, 0, ["word"], "127.0.0.1:1")]
    with pytest.raises(InputLost, match=r"w1 at 127.0.0.1:1: .*refused.* \(tried for 0.0 s\)"):
        open_sources(make_reduce(tmp_path, outputs, fetch_patience_seconds=0.0), 0)


def test_a_local_file_that_is_gone_and_that_nobody_serves_is_lost(tmp_path: Path) -> None:
    output = make_output(tmp_path, 0, ["word"], "")
    assert len(open_sources(make_reduce(tmp_path, [output]), 0)) == 1
    Path(output.path).unlink()
    run_task = msgspec.structs.replace(make_reduce_again(tmp_path), map_outputs=pack_outputs([output]))
    with pytest.raises(InputLost, match="serves none and their files are gone"):
        open_sources(run_task, 0)


def make_reduce_again(directory: Path) -> RunTask:
    other = directory / "again"
    other.mkdir()
    return make_reduce(other, [])


def test_the_damaged_among_local_segments_are_found(tmp_path: Path) -> None:
    outputs = [make_output(tmp_path, n, ["word"] * 50, "") for n in range(3)]
    sources = open_sources(make_reduce(tmp_path, outputs), 0)
    assert find_corrupt(sources) == []
    damage(outputs[0], len(segment_of(outputs[0])) - 30)
    Path(outputs[2].path).unlink()
    assert [source.output.attempt.task for source in find_corrupt(sources)] == ["map-00000", "map-00002"]
