"""A worker's tasks over the memory adapters: verdicts, the order of effects, stops, failures."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mr.protocol.claims import Verdict
from mr.protocol.codec import encode, unpack
from mr.protocol.failures import FailureKind
from mr.protocol.ids import AttemptId, Incarnation, JobId, TaskId, TaskKind, WorkerId
from mr.protocol.messages import EndJob, StopAttempt, TaskMessage
from mr.protocol.records import MapOutput, PartOutput, TaskResult, TaskStats
from tests.support.waiting import appear, eventually, gone
from tests.support.worker import (
    CODE_FILE,
    WORKER,
    Bench,
    bench,
    committed,
    committed_result,
    failed,
    submit,
    worker_settings,
)

JOB = JobId("job-1")
MAP = TaskId("map-00000")


@pytest.fixture
async def worker(tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench(tmp_path) as found:
        yield found


# --- success


async def test_a_map_is_recorded_then_reported_then_acknowledged(worker: Bench) -> None:
    await submit(worker)
    await worker.publish("job-1", "map-00000")
    report = await committed(worker)
    await worker.settled()
    assert worker.effects == ["commit map-00000 1", "report"]
    assert (report.attempt.job, report.attempt.task, report.attempt.number, report.worker) == (
        JOB,
        MAP,
        1,
        WORKER,
    )
    recorded = (await worker.store.get_results(JOB, TaskKind.MAP))[MAP]
    assert (report.attempt.number, report.worker) == (recorded.output.attempt.number, recorded.output.worker)
    assert (await worker.claim("job-1", "map-00000")).winner == 1


async def test_a_map_output_is_kept_and_the_rest_of_its_attempt_is_not(worker: Bench) -> None:
    await submit(worker)
    await worker.publish("job-1", "map-00000")
    output = (await committed_result(worker)).output
    await worker.settled()
    assert isinstance(output, MapOutput)
    path = Path(output.path)
    assert path.read_bytes() == b"onetwo"  # noqa: ASYNC240 - one small file
    index = path.with_suffix(".index").read_bytes()
    assert unpack(index, MapOutput) == output
    assert worker.files() == [
        CODE_FILE,
        "job-1/outputs/map-00000-1.index",
        "job-1/outputs/map-00000-1.segments",
    ]


async def test_a_part_has_its_final_name_when_it_is_reported(worker: Bench) -> None:
    await submit(worker, reduces=0)
    await worker.publish("job-1", "map-00000")
    part = (await committed_result(worker)).output
    assert isinstance(part, PartOutput)
    assert Path(worker.directory, "out", "part-00000").read_bytes() == b"part"  # noqa: ASYNC240 - one small file
    assert worker.files() == [CODE_FILE]


async def test_a_reduce_gets_the_map_outputs_as_they_are_now(worker: Bench) -> None:
    await submit(worker, maps=1)
    await worker.publish("job-1", "map-00000")
    await committed(worker)
    await worker.publish("job-1", "reduce-00001")
    assert (await committed(worker)).attempt.task == "reduce-00001"


async def test_a_reduce_whose_inputs_are_being_made_again_waits_for_its_next_attempt(worker: Bench) -> None:
    await submit(worker, maps=2)
    await worker.publish("job-1", "map-00000")
    await committed(worker)
    await worker.publish("job-1", "reduce-00000")
    failure = (await failed(worker)).failure
    assert (failure.kind, failure.lost) == (FailureKind.INPUT_LOST, ())


async def test_what_an_attempt_printed_is_kept(worker: Bench) -> None:
    await submit(worker, "read_stdin")
    await worker.publish("job-1", "map-00000")
    await committed(worker)
    assert await worker.store.get_logs(JOB) == {"map-00000/1": "''\n"}


# --- verdicts


async def test_a_task_of_a_live_holder_is_dropped(worker: Bench) -> None:
    await submit(worker)
    await worker.store.claim(JOB, MAP, WorkerId("other"), Incarnation("o"), 60.0)
    await worker.publish("job-1", "map-00000")
    await worker.settled()
    assert worker.effects == []


async def test_a_committed_task_is_reported_once_more(worker: Bench) -> None:
    await submit(worker)
    for _ in range(2):
        await worker.publish("job-1", "map-00000")
        last = await committed(worker)
    await worker.settled()
    assert worker.effects == ["commit map-00000 1", "report", "report"]
    assert (last.attempt.number, last.worker) == (1, WORKER)


@pytest.mark.parametrize("task", ["map-00000", "map-00009"])
async def test_a_task_of_no_job_is_dropped(worker: Bench, task: str) -> None:
    await worker.publish("job-9", task)
    await worker.settled()
    assert worker.effects == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not msgpack",
        encode(TaskMessage(99, JOB, MAP)),
        encode(TaskMessage(1, JobId("../x"), MAP)),
        encode(TaskMessage(1, JOB, TaskId("map-../../x"))),
        encode(TaskMessage(1, JOB, TaskId("combine-00001"))),
    ],
)
async def test_what_is_no_task_message_is_buried(worker: Bench, body: bytes) -> None:
    await worker.publish_raw(body)
    assert await worker.buried.get() == body
    await worker.settled()


# --- stops


async def test_the_end_of_a_job_kills_its_attempts_and_deletes_its_files(worker: Bench) -> None:
    await submit(worker, "hang")
    await submit(worker, job="job-2")
    await worker.publish("job-1", "map-00000")
    child = int(await appear(worker.directory / "map-00000.1"))
    await worker.end_job("job-1")
    await worker.tell(EndJob(JOB))
    await gone(child)
    await worker.settled()
    await eventually(lambda: not (worker.files()))
    await worker.publish("job-2", "map-00000")
    assert (await committed(worker)).attempt.job == "job-2"
    assert worker.effects == ["commit map-00000 1", "report"]


async def test_a_superseded_attempt_is_killed_and_the_winner_is_not(worker: Bench) -> None:
    await submit(worker, "hang")
    for task in ("map-00000", "map-00001"):
        await worker.publish("job-1", task)
    pids = [int(await appear(worker.directory / f"map-0000{n}.1")) for n in range(2)]
    await worker.store.speculate(JOB, [MAP], 1)
    other = (WorkerId("other"), Incarnation("o"))
    assert (await worker.store.claim(JOB, MAP, *other, 60.0)).attempt == 2
    output = MapOutput(AttemptId(JOB, MAP, 2), *other, "", "", "/there/x")
    assert await worker.store.commit(AttemptId(JOB, MAP, 2), TaskResult(output, TaskStats()))
    worker.effects.clear()
    await worker.tell(StopAttempt(AttemptId(JOB, TaskId("map-00001"), 1)))
    await worker.tell(StopAttempt(AttemptId(JOB, MAP, 2)))
    await gone(pids[0])
    await eventually(lambda: len(worker.broker.server.queues["mr.tasks"]._ready) == 0)
    await worker.beat_when(lambda beat: [running.task_id for running in beat.running] == ["map-00001"])
    assert worker.effects == []


async def test_an_attempt_that_lost_its_lease_is_stopped_by_the_next_heartbeat(worker: Bench) -> None:
    await submit(worker, "hang")
    await worker.publish("job-1", "map-00000")
    child = int(await appear(worker.directory / "map-00000.1"))
    (holder,) = (await worker.store.claims(JOB))[MAP].running
    await worker.store.release(AttemptId(JOB, MAP, 1), holder.incarnation)
    reply = await worker.store.claim(JOB, MAP, WorkerId("other"), Incarnation("o"), 60.0)
    assert reply.verdict is Verdict.GRANTED
    worker.effects.clear()
    await gone(child)
    await worker.settled()
    assert worker.effects == []


async def test_an_attempt_whose_job_ended_is_stopped_by_the_next_heartbeat(worker: Bench) -> None:
    await submit(worker, "hang")
    await worker.publish("job-1", "map-00000")
    child = int(await appear(worker.directory / "map-00000.1"))
    await worker.end_job("job-1")
    await gone(child)
    await worker.settled()
    assert worker.effects == []


async def test_an_attempt_that_lost_the_race_leaves_nothing(tmp_path: Path) -> None:
    async with bench(tmp_path, worker_settings(heartbeat_seconds=600, lease_seconds=3600)) as worker:
        await submit(worker, "wait_for_go")
        await worker.publish("job-1", "map-00000")
        await appear(tmp_path / "map-00000.1")
        await worker.store.speculate(JOB, [MAP], 1)
        other = await worker.store.claim(JOB, MAP, WorkerId("other"), Incarnation("o"), 60.0)
        output = MapOutput(
            AttemptId(JOB, MAP, other.attempt), WorkerId("other"), Incarnation("o"), "", "", ""
        )
        assert await worker.store.commit(AttemptId(JOB, MAP, other.attempt), TaskResult(output, TaskStats()))
        (tmp_path / "go").touch()
        await worker.settled()
        assert worker.effects == ["commit map-00000 2", "commit map-00000 1"]
        assert worker.files() == [CODE_FILE]


async def test_more_tasks_than_slots_wait_in_the_queue(worker: Bench) -> None:
    await submit(worker, "hang", maps=5)
    for index in range(5):
        await worker.publish("job-1", f"map-{index:05d}")
    await appear(worker.directory / "map-00001.1")
    assert (await worker.broker.depth("mr.tasks")).ready == 3
    assert len((await worker.beat_when(lambda beat: len(beat.running) == 2)).running) == 2


async def test_a_number_that_is_given_again_while_it_commits_counts_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench(tmp_path, worker_settings(heartbeat_seconds=600, lease_seconds=3600)) as worker:
        await submit(worker)
        older = worker.store.server.snapshot()
        commit, again = worker.store.commit, asyncio.Event()

        async def commit_late(*arguments: Any) -> bool:
            worker.store.server.go_back(older)
            await worker.publish("job-1", "map-00000")
            claim = worker.store.server.jobs[JOB].claims
            await eventually(lambda: MAP in claim)
            again.set()
            return await commit(*arguments)

        monkeypatch.setattr(worker.store, "commit", commit_late)
        await worker.publish("job-1", "map-00000")
        await again.wait()
        await committed(worker)
        await worker.settled()
        assert worker.effects == ["commit map-00000 1", "report"]
        assert "job-1/outputs/map-00000-1.segments" in worker.files()


async def test_a_number_that_is_given_twice_runs_one_after_the_other(tmp_path: Path) -> None:
    """The store came back as it was before it gave the number the first time."""
    async with bench(tmp_path, worker_settings(heartbeat_seconds=600, lease_seconds=3600)) as worker:
        await submit(worker, "wait_for_go")
        older = worker.store.server.snapshot()
        await worker.publish("job-1", "map-00000")
        first = int(await appear(tmp_path / "map-00000.1"))
        (tmp_path / "map-00000.1").unlink()
        worker.store.server.go_back(older)
        await worker.publish("job-1", "map-00000")
        await gone(first)
        await appear(tmp_path / "map-00000.1")
        (tmp_path / "go").touch()
        await committed(worker)
        await worker.settled()
        assert worker.effects == ["commit map-00000 1", "report"]
        assert "job-1/outputs/map-00000-1.segments" in worker.files()
