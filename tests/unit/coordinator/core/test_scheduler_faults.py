"""A failure of the engine over one job or message ends that job or message, and nothing else."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from mr.adapters.memory.broker import MemoryBroker
from mr.adapters.memory.store import MemoryStore
from mr.adapters.system_clock import SystemClock
from mr.coordinator.core import commands as c
from mr.coordinator.core import events as e
from mr.coordinator.core import scheduler as scheduler_module
from mr.coordinator.core.job_records import submitted_record
from mr.coordinator.core.scheduler import Scheduler
from mr.coordinator.core.state import ActiveJob
from mr.coordinator.core.transitions import JobCause
from mr.coordinator.effects import Effects
from mr.dead_letters import guarded
from mr.errors import BadMessage, IllegalTransition, StoreUnavailable
from mr.ports.broker import Delivery, OutgoingMessage
from mr.protocol.codec import JSON, decode, encode, pack, unpack
from mr.protocol.ids import AttemptId, JobId, TaskId
from mr.protocol.jobs import RequestReply
from mr.protocol.messages import PauseWorker, TaskCommitted
from mr.protocol.queues import DEAD_QUEUE, JOBS_QUEUE
from mr.protocol.records import JobRecord, JobState, RestoredJob, TaskStats
from mr.settings import Settings
from tests.contract import samples
from tests.support.specs import make_spec, make_splits
from tests.support.waiting import eventually


def accepted(job: str) -> e.JobAccepted:
    return e.JobAccepted(0.0, make_spec(job, 1, 0), make_splits(1))


def ends(commands: Sequence[c.Command]) -> list[c.CloseJob]:
    return [command for command in commands if isinstance(command, c.CloseJob)]


def failing_for(job: str, method: Any) -> Any:
    """`method`, which raises for one job."""

    def call(*arguments: Any, **options: Any) -> Any:
        if any(getattr(value, "job_id", None) == job for value in arguments):
            raise RuntimeError("no such state")
        return method(*arguments, **options)

    return call


def broken(commands: Sequence[c.Command]) -> None:
    """Job one failed with the cause, all of its files are cleared, the log has its last events."""
    (end,) = ends(commands)
    assert (end.record.job_id, end.record.state) == ("one", JobState.FAILED)
    assert end.record.cause == "RuntimeError: no such state"
    assert end.record.history[-1].cause == "it cannot be handled: RuntimeError: no such state"
    assert unpack(pack(end.record), JobRecord) == end.record
    assert c.AbandonOutput(JobId("one"), "/out/one", cause=JobCause.BROKEN) in commands
    (fault,) = [command.text for command in commands if isinstance(command, c.LogFault)]
    assert "Traceback" in fault and "job one cannot be handled" in fault


@pytest.mark.parametrize(
    ("owner", "step"),
    [(scheduler_module, "advance"), (scheduler_module, "note_waiting"), (ActiveJob, "current_record")],
)
def test_what_fails_over_one_job_on_a_tick_fails_that_job(
    monkeypatch: pytest.MonkeyPatch, owner: Any, step: str
) -> None:
    scheduler = Scheduler(Settings(), seed=1)
    scheduler.handle_all((accepted("one"), accepted("two")))
    monkeypatch.setattr(owner, step, failing_for("one", getattr(owner, step)))
    broken(scheduler.handle(e.WorkersObserved(100.0, ())))
    assert scheduler.active_jobs() == ("two",)
    assert not ends(scheduler.handle(e.WorkersObserved(101.0, ())))


def test_an_illegal_transition_fails_its_job_and_is_logged_with_its_last_events(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def illegal(*_: Any) -> None:
        raise IllegalTransition("a task in state X takes no step")

    scheduler = Scheduler(Settings(), seed=1)
    scheduler.handle_all((accepted("one"), accepted("two")))
    monkeypatch.setattr(scheduler_module, "record_outcome", illegal)
    report = TaskCommitted(AttemptId(JobId("one"), TaskId("map-00000"), 3), samples.ANN, samples.FIRST_RUN)
    commands = scheduler.handle(e.ReportReceived(5.0, report))
    (end,) = ends(commands)
    assert end.record.cause == "a task in state X takes no step"
    (fault,) = [command.text for command in commands if isinstance(command, c.LogFault)]
    assert "5.000 TaskCommitted map-00000/3" in fault
    assert scheduler.active_jobs() == ("two",)


def test_a_stored_job_that_makes_no_sense_fails_at_the_takeover(monkeypatch: pytest.MonkeyPatch) -> None:
    def confused(*_: Any) -> None:
        raise RuntimeError("no such state")

    spec = make_spec("one", 1, 0)
    stored = RestoredJob(submitted_record(spec), spec, accepted("one").splits, {}, {}, {})
    scheduler = Scheduler(Settings(), seed=1)
    monkeypatch.setattr(scheduler_module, "restored_job", confused)
    broken(scheduler.handle(e.JobRestored(1.0, stored)))
    assert scheduler.active_jobs() == ()


async def test_a_record_that_cannot_be_stored_fails_its_job_with_bare_facts() -> None:
    store = MemoryStore(lambda: 0.0)
    await store.connect()
    events: list[e.Event] = []
    spawned: list[Any] = []

    async def take(event: e.Event) -> None:
        events.append(event)

    effects = Effects(Settings(), MemoryBroker(), store, SystemClock(), take, spawned.append)
    record = msgspec.structs.replace(samples.record(), stats=TaskStats(counters={"huge": 2**70}))
    await effects.perform([c.SaveJob(record, (), cause="test")])
    for work in spawned:
        await work
    (event,) = events
    assert isinstance(event, e.JobBroken) and "cannot be encoded" in event.cause
    failed = msgspec.structs.replace(record, state=JobState.FAILED, cause="it is broken")
    await effects.perform([c.CloseJob(failed, (), cause="test")])
    kept = await store.get_job(record.job_id)
    assert kept is not None and (kept.state, kept.cause) == (JobState.FAILED, "it is broken")


# --- messages


class Queue:
    """A guarded consumer of one queue, and what was buried."""

    def __init__(self) -> None:
        self.broker = MemoryBroker()
        self.seen: list[bool] = []
        self.error: Exception = RuntimeError("no such state")

    async def open(self) -> "Queue":
        await self.broker.connect()
        await self.broker.consume(JOBS_QUEUE, guarded(self.broker, self._take), prefetch=1)
        return self

    async def _take(self, delivery: Delivery) -> None:
        self.seen.append(delivery.redelivered)
        if delivery.body == b"poison":
            raise self.error
        await delivery.ack()

    async def send(self, body: bytes) -> None:
        await self.broker.publish(OutgoingMessage(routing_key=JOBS_QUEUE, body=body))


async def test_a_message_that_fails_twice_is_buried_and_the_next_one_is_taken() -> None:
    queue = await Queue().open()
    await queue.send(b"poison")
    await queue.send(b"good")
    await eventually(lambda: len(queue.seen) == 3)
    assert queue.seen == [False, True, False]
    dead = queue.broker.server.queues[DEAD_QUEUE]
    await eventually(lambda: dead.ready == 1)


async def test_a_server_that_is_away_ends_the_consumer_all_the_same() -> None:
    queue = await Queue().open()
    queue.error = StoreUnavailable()
    await queue.send(b"poison")
    assert await queue.broker.failed() is queue.error


# --- texts and numbers that no message holds


def test_half_characters_are_spelt_out() -> None:
    reply = RequestReply(accepted=False, reason="no file a\udcff")
    assert b"a\\\\udcff" in encode(reply, JSON)
    record = msgspec.structs.replace(samples.record(), cause="a\udcff")
    assert unpack(pack(record), JobRecord).cause == "a\\udcff"


def test_what_cannot_be_encoded_or_is_missing_is_a_bad_message() -> None:
    with pytest.raises(BadMessage, match="a PauseWorker cannot be encoded"):
        encode(PauseWorker(samples.ANN, 10**400, ""))
    with pytest.raises(BadMessage, match="a stored JobRecord is missing"):
        unpack(None, JobRecord)


@pytest.mark.parametrize("content_type", ["application/x", "\udcff", ""])
def test_a_content_type_of_any_kind_is_bad_or_json(content_type: str) -> None:
    try:
        decode(b"1", int, content_type)
    except BadMessage:
        return
    assert content_type == ""
