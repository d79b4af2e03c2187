"""The ids of jobs whose senders chose none: the same for a message that comes again, another for another."""

import asyncio
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from mr.adapters.memory.broker import MemoryBroker
from mr.adapters.system_clock import SystemClock
from mr.coordinator.core.job_records import submitted_record
from mr.coordinator.intake import Intake
from mr.ports.broker import OutgoingMessage
from mr.protocol.codec import JSON
from mr.protocol.ids import JobId
from mr.protocol.jobs import CodeManifest, JobSpec, RequestReply, ResumeRequest, Split
from mr.protocol.queues import JOBS_QUEUE
from mr.protocol.records import JobRecord, JobState, Refusal
from mr.settings import Settings
from tests.support.job_records import job_record
from tests.support.specs import CODE, CODE_ID, make_manifest


class Crash(BaseException):
    """The coordinator dies."""


@dataclass
class Request:
    """One message on `mr.jobs`, as often as it is delivered."""

    body: bytes
    redelivered: bool = False
    content_type: str = JSON
    type: str | None = None
    routing_key: str = JOBS_QUEUE
    reply_to: str | None = "answers"
    correlation_id: str | None = "1"
    user_id: str | None = None

    async def ack(self) -> None:
        """Nothing waits for it."""


class Desk:
    """An intake whose store knows jobs and one registered code; `crashes` before so many jobs are created."""

    def __init__(self, tmp_path: Path) -> None:
        self.output = tmp_path / "out"
        (tmp_path / "in.txt").write_text("a\n")
        request = {
            "version": 1,
            "job": "count",
            "inputs": [str(tmp_path / "in.txt")],
            "output": str(self.output),
        }
        self.body = json.dumps(request).encode()
        self.jobs: dict[JobId, JobRecord] = {}
        self.crashes = 0
        self.answers: list[dict[str, object]] = []
        broker = MemoryBroker()
        broker.publish = self.publish  # type: ignore[method-assign]
        self.intake = Intake(
            Settings(),
            broker,
            self,  # type: ignore[arg-type]
            SystemClock(),
            self.take,
            self.cancel,
            self.resume,
            lambda sender: None,
            lambda job: None,
        )

    async def server_time(self) -> float:
        return 0.0

    async def put_refusal(self, refusal: Refusal, keep_seconds: float) -> None:
        """What was refused is not asked for here."""

    async def get_job(self, job: JobId) -> JobRecord | None:
        return self.jobs.get(job)

    async def registered(self, name: str) -> CodeManifest:
        return make_manifest(CODE_ID, ("map_fn",))

    async def get_code(self, code: str) -> bytes:
        return CODE

    async def take(self, spec: JobSpec, splits: tuple[Split, ...], bundle: bytes) -> bool:
        if self.crashes:
            self.crashes -= 1
            raise Crash
        self.jobs[spec.job_id] = submitted_record(spec)
        return True

    async def cancel(self, job: JobId, keep: bool) -> bool:
        return False

    async def resume(self, request: ResumeRequest) -> RequestReply:
        raise AssertionError("nothing is resumed here")

    async def publish(self, message: OutgoingMessage) -> None:
        self.answers.append(json.loads(message.body))

    async def ask(self, **fields: object) -> dict[str, object]:
        await self.intake.on_delivery(Request(self.body, **fields))  # type: ignore[arg-type]
        return self.answers[-1]

    def end(self, job_id: object, state: JobState = JobState.COMPLETED) -> None:
        """End a job, and remove its output as its owner may."""
        self.jobs[JobId(str(job_id))] = job_record(str(job_id), state)
        shutil.rmtree(self.output)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


@pytest.mark.parametrize("ended_before", [0, 1])
async def test_a_request_that_comes_again_after_a_crash_owns_the_output_it_made(
    desk: Desk, ended_before: int
) -> None:
    for _ in range(ended_before):
        desk.end((await desk.ask())["job_id"])
    desk.crashes = 1
    with pytest.raises(Crash):
        await desk.ask()
    (owner,) = (desk.output / "_temporary").iterdir()
    answer = await desk.ask(redelivered=True)
    assert answer == {"accepted": True, "job_id": owner.name}


async def test_a_request_that_comes_again_while_its_job_runs_is_that_job(desk: Desk) -> None:
    first = await desk.ask()
    assert await desk.ask(redelivered=True) == {**first, "duplicate": True}


async def test_the_same_request_again_is_another_job(desk: Desk) -> None:
    first = await desk.ask()
    second = await desk.ask()
    assert not second["accepted"] and str(first["job_id"]) in str(second["reason"])
    desk.end(first["job_id"])
    third = await desk.ask()
    assert third["accepted"] and third["job_id"] != first["job_id"] and "duplicate" not in third


async def test_the_same_request_again_that_never_was_planned_is_not_taken_for_a_job_that_ended(
    desk: Desk,
) -> None:
    first = await desk.ask()
    desk.end(first["job_id"])
    second = await desk.ask(redelivered=True)
    assert second["accepted"] and second["job_id"] != first["job_id"]


async def test_two_at_once_are_two_jobs_of_which_one_has_the_output(desk: Desk) -> None:
    await asyncio.gather(desk.ask(), desk.ask())
    assert sorted(bool(answer["accepted"]) for answer in desk.answers) == [False, True]


async def test_another_answer_is_awaited_by_another_job(desk: Desk) -> None:
    first = await desk.ask()
    desk.end(first["job_id"])
    desk.jobs.clear()
    assert (await desk.ask(correlation_id="2"))["job_id"] != first["job_id"]


async def test_after_many_of_the_same_request_ids_are_still_found(desk: Desk) -> None:
    for _ in range(40):
        answer = await desk.ask()
        assert answer["accepted"]
        desk.end(answer["job_id"])
    assert len(desk.jobs) == 40
