"""The end of a job while its output is being finished: `_SUCCESS` decides, and nothing contradicts it."""

import threading
from typing import Any

import pytest

from mr.coordinator import effects
from mr.formats.output import directory
from mr.ports.broker import OutgoingMessage
from mr.protocol.codec import encode
from mr.protocol.ids import AttemptId
from mr.protocol.messages import TaskCommitted
from mr.protocol.queues import REPORTS_QUEUE
from mr.protocol.records import JobState, Manifest
from tests.contract.samples import ANN, FIRST_RUN, MAP_0, part_result
from tests.support.waiting import eventually
from tests.unit.coordinator.test_service import CANCEL, JOB, Site
from tests.unit.coordinator.test_service import site as site

MANIFEST = Manifest(1, JOB, "count", 0.0, 0, 0, (), {})


async def run_to_the_finish(site: Site) -> None:
    """Do the work of the only task; its part is nowhere, and nobody here looks for it."""
    await site.store.claim(JOB, MAP_0, ANN, FIRST_RUN, 60.0)
    await site.store.commit(AttemptId(JOB, MAP_0, 1), part_result(MAP_0, job=JOB))
    report = TaskCommitted(AttemptId(JOB, MAP_0, 1), ANN, FIRST_RUN)
    await site.broker.publish(OutgoingMessage(routing_key=REPORTS_QUEUE, body=encode(report)))


async def ended(site: Site) -> JobState:
    async def state() -> JobState | None:
        record = await site.store.get_job(JOB)
        return record.state if record is not None and record.state.terminal else None

    return await eventually(state)


class Finisher:
    """Finishes outputs when it is let, as if they had no parts, and then fails if that is wanted."""

    def __init__(self) -> None:
        self.began, self.may_go_on = threading.Event(), threading.Event()
        self.writes_success = True
        self.error: OSError | None = None

    def __call__(self, output: str, *_: Any) -> None:
        self.began.set()
        self.may_go_on.wait(30)
        if self.writes_success:
            directory.finish_output(output, JOB, (), "text", MANIFEST)
        if self.error is not None:
            raise self.error


@pytest.fixture
def finisher(monkeypatch: pytest.MonkeyPatch) -> Finisher:
    finisher = Finisher()
    monkeypatch.setattr(effects, "finish_output", finisher)
    return finisher


async def test_a_cancel_that_comes_while_the_output_is_finished_is_too_late(
    site: Site, finisher: Finisher
) -> None:
    async with site.coordinator():
        await site.submit()
        await run_to_the_finish(site)
        await eventually(finisher.began.is_set)
        answer = await site.broker.request(CANCEL, timeout_seconds=30)
        finisher.may_go_on.set()
        assert b"too late" in answer
        assert await ended(site) is JobState.COMPLETED
    assert (site.tmp_path / "out" / "_SUCCESS").exists()


async def test_an_error_after_success_was_written_fails_no_job(site: Site, finisher: Finisher) -> None:
    finisher.may_go_on.set()
    finisher.error = OSError("the directory cannot be synchronised")
    async with site.coordinator():
        await site.submit()
        await run_to_the_finish(site)
        assert await ended(site) is JobState.COMPLETED
    assert (site.tmp_path / "out" / "_SUCCESS").exists()


async def test_a_cancel_between_two_tries_removes_the_output(site: Site, finisher: Finisher) -> None:
    finisher.may_go_on.set()
    finisher.writes_success, finisher.error = False, OSError("the file system is away")
    async with site.coordinator():
        await site.submit()
        await run_to_the_finish(site)
        await eventually(finisher.began.is_set)

        async def cancelled() -> bool:
            return b'"accepted":true' in await site.broker.request(CANCEL, timeout_seconds=30)

        await eventually(cancelled)
        assert await ended(site) is JobState.CANCELLED
        await eventually(lambda: not (site.tmp_path / "out").exists())


async def test_a_job_whose_success_is_there_has_completed_whatever_the_store_says(site: Site) -> None:
    """Its coordinator died before it could say so, or the store forgot it."""
    async with site.coordinator():
        await site.submit()
    directory.finish_output(str(site.tmp_path / "out"), JOB, (), "text", MANIFEST)
    async with site.coordinator():
        assert await ended(site) is JobState.COMPLETED
        assert b"has ended: COMPLETED" in await site.broker.request(CANCEL, timeout_seconds=30)
    assert (site.tmp_path / "out" / "_SUCCESS").exists()


async def test_what_was_left_by_a_coordinator_that_died_after_success_is_removed(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = site.tmp_path / "out"
    async with site.coordinator():
        await site.submit()
    with monkeypatch.context() as patch:
        patch.setattr(directory, "remove_temporary", lambda *_: None)
        directory.finish_output(str(output), JOB, (), "text", MANIFEST)
    assert (output / "_temporary").exists()
    async with site.coordinator():
        assert await ended(site) is JobState.COMPLETED
        assert [path.name for path in output.iterdir()] == ["_SUCCESS"]
