"""The client over the memory adapters: submit, watch, cancel, and looking by a part of an id."""

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from mr.adapters.memory.broker import MemoryBroker
from mr.adapters.memory.store import MemoryStore
from mr.bundle import Bundle
from mr.client import Client, Unanswered, new_job_id
from mr.errors import BadJob, MrError, NotFound
from mr.ports.broker import Delivery, OutgoingMessage
from mr.protocol import codec, queues
from mr.protocol.ids import AttemptId, CodeId, Incarnation, JobId, TaskId, WorkerId, is_id
from mr.protocol.jobs import CancelRequest, JobRequest, RequestReply
from mr.protocol.records import JobRecord, JobState, Refusal, TaskState
from mr.settings import Settings
from tests.support.job_records import job_record, running_task, task_record, worker_beat
from tests.support.specs import make_manifest, make_spec

MANIFEST = make_manifest()
REQUEST = JobRequest(version=1, job=MANIFEST.code_id, inputs=["/in"], output="/out", job_id="words-1")


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    broker, store = MemoryBroker(), MemoryStore()
    await broker.connect()
    await store.connect()
    yield Client(broker, store, Settings(connect_seconds=0.05, reconnect_seconds=30))
    await broker.close()
    await store.close()


async def put(client: Client, record: JobRecord) -> None:
    assert await client.store.create_job(make_spec(record.job_id), (), record, 1)


async def test_a_task_is_shown_to_run_from_its_claim_on(client: Client) -> None:
    """No heartbeat and no coordinator has said so yet; a lease that ran out says nothing."""
    job, task = JobId("words-1"), TaskId("reduce-00000")
    await put(client, job_record(job, JobState.REDUCING))
    records = [task_record(task, state=TaskState.QUEUED, attempt=0)]
    await client.store.save_job(job_record(job, JobState.REDUCING), records, 1)
    await client.store.claim(job, task, WorkerId("w1"), Incarnation("i1"), 60.0)
    (view,) = await client.tasks(job)
    assert (view.record.state, view.record.attempt, view.record.worker) == (TaskState.RUNNING, 1, "w1")
    await client.store.release(AttemptId(job, task, 1), Incarnation("i1"))
    assert (await client.tasks(job))[0].record == records[0]
    await client.store.claim(job, task, WorkerId("w1"), Incarnation("i1"), 0.0)
    assert (await client.tasks(job))[0].record == records[0]


async def answer_with(client: Client, reply: RequestReply, seen: list[Delivery]) -> None:
    """Stand in for a coordinator that gives every request this answer."""

    async def on_delivery(delivery: Delivery) -> None:
        seen.append(delivery)
        body = codec.encode(reply, codec.JSON)
        await client.broker.publish(
            OutgoingMessage(
                routing_key=delivery.reply_to or "", body=body, correlation_id=delivery.correlation_id
            )
        )
        await delivery.ack()

    await client.broker.consume(queues.JOBS_QUEUE, on_delivery, prefetch=1)


async def test_request_travels_as_json_and_its_answer_comes_back(client: Client) -> None:
    seen: list[Delivery] = []
    await answer_with(client, RequestReply(accepted=True, job_id="words-1"), seen)
    assert (await client.submit(REQUEST)).job_id == "words-1"
    assert seen[0].content_type == "application/json"
    assert msgspec.json.decode(seen[0].body, type=JobRequest) == REQUEST


async def test_refusal_is_raised_with_its_reason(client: Client) -> None:
    await answer_with(client, RequestReply(accepted=False, reason="no such input"), [])
    with pytest.raises(BadJob, match="no such input"):
        await client.submit(REQUEST)


async def test_request_stays_queued_when_nobody_answers(client: Client) -> None:
    with pytest.raises(Unanswered):
        await client.submit(REQUEST)
    assert (await client.broker.depth(queues.JOBS_QUEUE)).ready == 1


async def test_cancel_is_told_apart_by_its_type(client: Client) -> None:
    seen: list[Delivery] = []
    await answer_with(client, RequestReply(accepted=False, reason="the job has ended: FAILED"), seen)
    with pytest.raises(BadJob, match="job words-1 cannot be cancelled: the job has ended: FAILED"):
        await client.cancel(JobId("words-1"))
    assert seen[0].type == "cancel"
    assert msgspec.json.decode(seen[0].body, type=CancelRequest).job_id == "words-1"


async def test_job_is_found_by_the_beginning_of_its_id(client: Client) -> None:
    for job_id in ("words-1", "words-12", "grep-7"):
        await put(client, job_record(job_id))
    assert (await client.find("words-1")).job_id == "words-1"
    assert (await client.find("gr")).job_id == "grep-7"
    with pytest.raises(NotFound, match="any of 2 jobs"):
        await client.find("words")
    for unknown in ("sort", "", "../x"):
        with pytest.raises(NotFound, match="there is no job"):
            await client.find(unknown)


async def test_watch_yields_until_the_job_has_ended(client: Client) -> None:
    await put(client, job_record())
    states = []
    async for snapshot in client.watch(JobId("words-1"), interval_seconds=30):
        states.append(snapshot.record.state)
        if len(states) == 1:
            await client.store.save_job(job_record(state=JobState.REDUCING), (), 1)
        elif len(states) == 2:
            await client.store.end_job(job_record(state=JobState.COMPLETED), (), 1, 60)
        event = OutgoingMessage(
            exchange=queues.EVENTS_EXCHANGE,
            routing_key=queues.job_event_key("any", JobId("words-1")),
            body=b"",
        )
        await client.broker.publish(event)
    assert states == [JobState.MAPPING, JobState.REDUCING, JobState.COMPLETED]


async def test_watch_waits_for_a_job_that_is_not_there_yet(client: Client) -> None:
    async def first() -> JobState:
        async for snapshot in client.watch(JobId("words-1"), interval_seconds=0.01):
            return snapshot.record.state
        raise AssertionError("the watch ended by itself")

    watching = asyncio.create_task(first())
    await asyncio.sleep(0)
    await put(client, job_record())
    assert await watching is JobState.MAPPING


async def test_watch_gives_up_on_a_record_that_vanished(client: Client) -> None:
    client.settings = Settings(reconnect_seconds=0.0)
    await put(client, job_record(state=JobState.MAPPING))
    with pytest.raises(NotFound, match="vanished"):
        async for _ in client.watch(JobId("words-1"), interval_seconds=0.01):
            client.store.server.jobs.clear()  # type: ignore[attr-defined]


async def test_tasks_are_joined_with_their_newest_running_attempt(client: Client) -> None:
    await put(client, job_record())
    await client.store.save_job(job_record(), [task_record("map-00000"), task_record("map-00001")], 1)
    await client.store.heartbeat(
        worker_beat("w1", running_task(attempt=1), running_task("map-00001", job_id="other-1")), 10
    )
    await client.store.heartbeat(worker_beat("w2", running_task(attempt=2)), 10)
    views = await client.tasks(JobId("words-1"))
    assert [(view.record.task_id, view.running and view.running.attempt) for view in views] == [
        ("map-00000", 2),
        ("map-00001", None),
    ]


async def test_logs_are_in_order_and_by_task(client: Client) -> None:
    await put(client, job_record())
    await client.store.save_job(job_record(), [task_record("map-00000"), task_record("map-00001")], 1)
    last = (("map-100000", 1), ("map-99999", 1))
    for task, attempt in (*last, ("map-00001", 1), ("map-00000", 10), ("map-00000", 2)):
        await client.store.put_log(AttemptId(JobId("words-1"), TaskId(task), attempt), "said", 1000)
    in_order = ["map-00000/2", "map-00000/10", "map-00001/1", "map-99999/1", "map-100000/1"]
    assert list(await client.logs(JobId("words-1"))) == in_order
    assert list(await client.logs(JobId("words-1"), "map-00001")) == ["map-00001/1"]
    with pytest.raises(NotFound, match="has no task 'map-00009'"):
        await client.logs(JobId("words-1"), "map-00009")


async def test_only_a_completed_job_has_results(client: Client) -> None:
    with pytest.raises(MrError, match="MAPPING"):
        await client.results(job_record())


async def test_impossible_name_is_not_registered(client: Client) -> None:
    with pytest.raises(BadJob, match="cannot be a name"):
        await client.register("a/b", MANIFEST)
    await client.upload(Bundle(b"", CodeId(MANIFEST.code_id), "job.py"), MANIFEST)
    await client.register("words", MANIFEST)
    assert await client.store.registered("words") == MANIFEST


@pytest.mark.parametrize("name", ["wordcount", "zählen, bitte!", "", "-" * 100, "x" * 200])
def test_made_ids_are_valid_and_differ(name: str) -> None:
    assert is_id(new_job_id(name))
    assert not is_id(new_job_id(name) + "\n")
    assert new_job_id(name) != new_job_id(name)


async def test_watching_a_queued_request_ends_when_it_is_refused(client: Client) -> None:
    before = Refusal(job_id=JobId("words-1"), at=10.0, reason="an earlier one")
    await client.store.put_refusal(before, 60)
    watched = asyncio.create_task(anext(client.watch(JobId("words-1"), 0.01, queued_since=20.0)))
    await client.store.put_refusal(msgspec.structs.replace(before, at=20.0, reason="no such input"), 60)
    with pytest.raises(BadJob, match="no such input"):
        await watched


async def test_a_queued_request_that_was_refused_once_is_waited_for(client: Client) -> None:
    await client.store.put_refusal(Refusal(job_id=JobId("words-1"), at=10.0, reason="an earlier one"), 60)
    await put(client, job_record("words-1"))
    snapshot = await anext(client.watch(JobId("words-1"), 0.01, queued_since=20.0))
    assert snapshot.record.job_id == "words-1"
