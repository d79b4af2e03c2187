"""How a worker's tasks fail over the memory adapters: what is reported, and who may try again."""

import io
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mr.bundle import content_id
from mr.errors import BadMessage
from mr.ports.claims import ClaimReply
from mr.protocol.failures import FailureKind
from mr.protocol.ids import CodeId, JobId, TaskId, TaskKind
from mr.protocol.messages import TaskFailed
from tests.support.specs import CODE_ID, make_manifest, make_spec
from tests.support.worker import CODE_FILE, Bench, bench, committed, failed, submit
from tests.support.zips import POISON

JOB = JobId("job-1")
MAP = TaskId("map-00000")


@pytest.fixture
async def worker(tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench(tmp_path) as found:
        yield found


# --- failure


async def test_a_failure_is_released_then_reported(worker: Bench) -> None:
    await submit(worker, "raise")
    await worker.publish("job-1", "map-00000")
    report = await failed(worker)
    await worker.settled()
    assert worker.effects == ["log map-00000 1", "release map-00000 1", "report"]
    assert (report.attempt.number, report.failure.message) == (1, "ValueError: no")
    assert (await worker.claim("job-1", "map-00000")).running == ()
    assert worker.files() == [CODE_FILE]


async def test_a_crash_is_reported_and_the_next_attempt_runs(worker: Bench) -> None:
    await submit(worker, "segfault")
    for attempt in (1, 2):
        await worker.publish("job-1", "map-00000")
        report = await failed(worker)
        assert (report.attempt.number, report.failure.kind) == (attempt, FailureKind.KILLED)


@pytest.mark.parametrize("read", ["get_spec", "map_outputs"])
async def test_what_another_version_wrote_fails_the_attempt_alone(
    worker: Bench, monkeypatch: pytest.MonkeyPatch, read: str
) -> None:
    async def unreadable(job: JobId) -> None:
        raise BadMessage("a stored record cannot be read")

    await submit(worker)
    monkeypatch.setattr(worker.store, read, unreadable)
    await worker.publish("job-1", "reduce-00000")
    failure = (await failed(worker)).failure
    assert (failure.kind, failure.message) == (FailureKind.INFRASTRUCTURE, "a stored record cannot be read")
    monkeypatch.undo()
    await submit(worker, job="job-2")
    await worker.publish("job-2", "map-00000")
    assert (await committed(worker)).attempt.job == "job-2"


async def test_an_input_that_another_version_wrote_fails_the_attempt(
    worker: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = worker.store.claim

    async def granted_unreadably(*arguments: Any) -> ClaimReply:
        return msgspec.structs.replace(await claim(*arguments), split=None, unreadable="a Split is not read")

    await submit(worker)
    monkeypatch.setattr(worker.store, "claim", granted_unreadably)
    await worker.publish("job-1", "map-00000")
    failure = (await failed(worker)).failure
    assert (failure.kind, failure.message) == (FailureKind.INFRASTRUCTURE, "a Split is not read")
    await worker.settled()
    assert worker.effects == ["release map-00000 1", "report"]


async def test_a_result_that_another_version_wrote_is_reported_to_who_may_read_it(worker: Bench) -> None:
    await submit(worker)
    await worker.publish("job-1", "map-00000")
    await committed(worker)
    worker.store.server.jobs[JOB].results[TaskKind.MAP][MAP] = b"\xc1"
    await worker.publish("job-1", "map-00000")
    await worker.settled()
    assert worker.effects == ["commit map-00000 1", "report", "report"]


async def test_code_that_the_store_does_not_have_fails_the_job(worker: Bench) -> None:
    await submit(worker)
    worker.store.server.code.clear()
    await worker.publish("job-1", "map-00000")
    failure = (await failed(worker)).failure
    assert failure.kind is FailureKind.BAD_JOB
    assert "submit the job again" in failure.message


@pytest.mark.parametrize("read", ["get_spec", "get_code"])
@pytest.mark.parametrize("refilled", [False, True])
async def test_a_store_that_is_emptied_while_a_task_is_prepared_does_not_fail_the_job(
    worker: Bench, monkeypatch: pytest.MonkeyPatch, read: str, refilled: bool
) -> None:
    """The store loses everything just before one of the reads, and may have it back right after it."""
    await submit(worker)
    server = worker.store.server
    jobs, code = dict(server.jobs), dict(server.code)
    real = getattr(worker.store, read)

    async def emptied(name: str) -> Any:
        monkeypatch.undo()
        server.flush()
        found = await real(name)
        if refilled:
            server.code.update(code)
            server.jobs.update(jobs)
        return found

    monkeypatch.setattr(worker.store, read, emptied)
    await worker.publish("job-1", "map-00000")
    report = await worker.reports.get()
    if isinstance(report, TaskFailed):
        assert report.failure.kind is FailureKind.INFRASTRUCTURE
    else:
        assert refilled
    await worker.settled()
    server.code.update(code)
    server.jobs.update(jobs)


async def test_code_that_is_damaged_fails_the_job(worker: Bench) -> None:
    await submit(worker)
    await worker.store.put_code(CodeId(CODE_ID), b"no zip", make_spec("job-1").code, 3600.0)
    await worker.publish("job-1", "map-00000")
    assert (await failed(worker)).failure.kind is FailureKind.BAD_JOB


async def test_code_that_is_not_what_its_id_says_is_not_run(worker: Bench) -> None:
    await submit(worker)
    other = io.BytesIO()
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("job.py", "def map_fn(key, line): print('another')")
    await worker.store.put_code(CodeId(CODE_ID), other.getvalue(), make_spec("job-1").code, 3600.0)
    await worker.publish("job-1", "map-00000")
    failure = (await failed(worker)).failure
    assert failure.kind is FailureKind.BAD_JOB
    assert "other bytes" in failure.message


async def test_a_result_too_large_for_a_message_fails_before_it_is_recorded(worker: Bench) -> None:
    await submit(worker, params={"counters": "100000"})
    await worker.publish("job-1", "map-00000")
    failure = (await failed(worker)).failure
    assert failure.kind is FailureKind.BAD_JOB
    assert "too many counters" in failure.message
    assert worker.effects == ["release map-00000 1", "report"]
    assert worker.files() == [CODE_FILE]


@pytest.mark.parametrize("name", ["unnamed", "bomb", "outside", "another entry", "no zip"])
async def test_a_poisonous_bundle_fails_its_job_and_the_worker_goes_on(worker: Bench, name: str) -> None:
    """Its id is right, so it is the store's word for the job's code; whoever wrote it there."""
    data = POISON[name]()
    code = make_manifest(content_id(data), ("map_fn",))
    await submit(worker, job="bad", code=code)
    await worker.store.put_code(CodeId(code.code_id), data, code, 3600.0)
    await worker.publish("bad", "map-00000")
    assert (await failed(worker)).failure.kind is FailureKind.BAD_JOB
    await submit(worker, job="good")
    await worker.publish("good", "map-00000")
    assert (await committed(worker)).attempt.job == "good"
