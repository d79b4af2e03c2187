"""The embedded cluster, with stand-ins for the coordinator and the worker: who ends it, and how."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from mr import local
from mr.bundle import Bundle
from mr.errors import BadJob, Interrupted, MrError
from mr.local import LocalJob, embedded_settings, run_embedded
from mr.ports.broker import Broker, Delivery, OutgoingMessage
from mr.ports.store import StateStore
from mr.protocol import codec, queues
from mr.protocol.ids import AttemptId, CodeId, JobId, TaskId
from mr.protocol.jobs import JobRequest, RequestReply
from mr.protocol.records import JobState
from mr.settings import Settings
from tests.support.job_records import job_record, worker_beat
from tests.support.specs import make_manifest, make_spec

CODE = CodeId("sha256:" + "a" * 64)
MANIFEST = make_manifest(CODE, ("map_fn",))
REQUEST = JobRequest(version=1, job=CODE, inputs=["/in"], output="/out", job_id="words-1")
JOB = LocalJob(Bundle(b"zip", CODE, "job.py"), MANIFEST, REQUEST)

Answer = Callable[[StateStore, Delivery], Awaitable[RequestReply]]


class Parts:
    """What the stand-ins do, and what became of them."""

    def __init__(self) -> None:
        self.answer: Answer = completes
        self.worker_error: Exception | None = None
        self.coordinator_error: Exception | None = None
        self.log: list[str] = []

    async def run_coordinator(
        self, settings: Settings, broker: Broker, store: StateStore, *, stop: asyncio.Event
    ) -> None:
        if self.coordinator_error is not None:
            raise self.coordinator_error

        async def on_request(delivery: Delivery) -> None:
            reply = await self.answer(store, delivery)
            message = OutgoingMessage(
                routing_key=delivery.reply_to or "",
                body=codec.encode(reply, codec.JSON),
                correlation_id=delivery.correlation_id,
            )
            await broker.publish(message)
            await delivery.ack()

        await broker.consume(queues.JOBS_QUEUE, on_request, prefetch=1)
        await stop.wait()
        self.log.append("coordinator stopped")

    async def run_worker(self, settings: Settings, broker: Broker, store: StateStore, **options: Any) -> None:
        self.log.append(f"worker of {options['slots']} slots, listening at {options['listen']}")
        await store.heartbeat(worker_beat("local"), 60)
        if self.worker_error is not None:
            raise self.worker_error
        await options["stop"].wait()
        self.log.append("worker killed" if options["kill"].is_set() else "worker drained")


async def accept(store: StateStore, state: JobState) -> RequestReply:
    spec = make_spec("words-1", 1, code=MANIFEST)
    await store.create_job(spec, (), job_record(), 1)
    if state.terminal:
        await store.end_job(job_record(state=state), (), 1, 60)
    return RequestReply(accepted=True, job_id="words-1")


async def completes(store: StateStore, delivery: Delivery) -> RequestReply:
    return await accept(store, JobState.COMPLETED)


async def refuses(store: StateStore, delivery: Delivery) -> RequestReply:
    return RequestReply(accepted=False, reason="no such input")


async def never_ends(store: StateStore, delivery: Delivery) -> RequestReply:
    if delivery.type == "cancel":
        await store.end_job(job_record(state=JobState.CANCELLED), (), 1, 60)
        return RequestReply(accepted=True, job_id="words-1")
    return await accept(store, JobState.MAPPING)


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> Parts:
    parts = Parts()
    monkeypatch.setattr(local, "run_coordinator", parts.run_coordinator)
    monkeypatch.setattr(local, "run_worker", parts.run_worker)
    return parts


async def run(
    tmp_path: Path,
    seen: list[JobState],
    interrupt: asyncio.Event | None = None,
    on_printed: Callable[[str, str], None] = lambda attempt, text: None,
) -> JobState:
    interrupt = interrupt or asyncio.Event()

    def on_snapshot(snapshot: Any) -> None:
        seen.append(snapshot.record.state)
        if not snapshot.record.state.terminal:
            interrupt.set()

    record = await run_embedded(
        Settings(),
        JOB,
        slots=3,
        spool_dir=tmp_path,
        on_snapshot=on_snapshot,
        on_printed=on_printed,
        interrupt=interrupt,
    )
    return record.state


async def test_job_runs_and_everything_is_taken_down_in_order(parts: Parts, tmp_path: Path) -> None:
    seen: list[JobState] = []
    assert await run(tmp_path, seen) is JobState.COMPLETED
    assert seen == [JobState.COMPLETED]
    assert parts.log == ["worker of 3 slots, listening at None", "worker drained", "coordinator stopped"]


async def test_what_attempts_printed_is_given_before_the_run_ends(parts: Parts, tmp_path: Path) -> None:
    async def prints(store: StateStore, delivery: Delivery) -> RequestReply:
        await accept(store, JobState.MAPPING)
        await store.put_log(AttemptId(JobId("words-1"), TaskId("map-00000"), 2), "hello\n", 1000)
        await store.end_job(job_record(state=JobState.COMPLETED), (), 1, 60)
        return RequestReply(accepted=True, job_id="words-1")

    parts.answer = prints
    printed: list[tuple[str, str]] = []
    await run(tmp_path, [], on_printed=lambda attempt, text: printed.append((attempt, text)))
    assert printed == [("map-00000/2", "hello\n")]


async def test_refused_request_is_raised(parts: Parts, tmp_path: Path) -> None:
    parts.answer = refuses
    with pytest.raises(BadJob, match="no such input"):
        await run(tmp_path, [])
    assert parts.log[1:] == ["worker killed", "coordinator stopped"]


async def test_interrupt_cancels_the_job_before_it_leaves(parts: Parts, tmp_path: Path) -> None:
    parts.answer = never_ends
    seen: list[JobState] = []
    with pytest.raises(Interrupted):
        await run(tmp_path, seen)
    assert seen[-1] is JobState.CANCELLED
    assert parts.log[1:] == ["worker killed", "coordinator stopped"]


async def test_worker_that_cannot_start_ends_the_run(parts: Parts, tmp_path: Path) -> None:
    parts.answer = never_ends
    parts.worker_error = MrError("the spool is full")
    with pytest.raises(MrError, match="the spool is full"):
        await run(tmp_path, [])
    assert parts.log[-1] == "coordinator stopped"


async def test_coordinator_that_cannot_start_ends_the_run(parts: Parts, tmp_path: Path) -> None:
    parts.coordinator_error = MrError("no lead")
    with pytest.raises(MrError, match="no lead"):
        await run(tmp_path, [])
    assert parts.log[-1] == "worker killed"


def test_intervals_are_those_of_one_process_and_never_longer_than_asked() -> None:
    assert embedded_settings(Settings()).tick_seconds < Settings().tick_seconds
    assert embedded_settings(Settings(tick_seconds=0.01)).tick_seconds == 0.01


def test_what_is_wrong_with_the_only_machine_is_told_soon() -> None:
    settings = embedded_settings(Settings())
    delays = [
        min(settings.retry_base_seconds * 2**n, settings.retry_max_seconds)
        for n in range(settings.max_uncounted_attempts)
    ]
    assert sum(delays) < 15
    assert embedded_settings(Settings(max_uncounted_attempts=2)).max_uncounted_attempts == 2


def test_a_small_disk_does_not_keep_the_only_worker_from_its_tasks() -> None:
    assert embedded_settings(Settings()).spool_reserve_bytes == 0
