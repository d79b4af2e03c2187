"""The order of effects: persist, publish, ask; what is saved twice is saved once."""

from collections.abc import Coroutine
from typing import Any

import msgspec
import pytest

from mr.adapters.memory.broker import MemoryBroker
from mr.adapters.memory.store import MemoryStore
from mr.adapters.system_clock import SystemClock
from mr.coordinator.core import commands as c
from mr.coordinator.core import events as e
from mr.coordinator.core.commands import (
    CloseJob,
    Command,
    EmitEvent,
    InspectClaims,
    Publication,
    PublishTasks,
    Reopen,
    SaveJob,
    SendControl,
)
from mr.coordinator.core.events import ClaimsObserved, Event, JobBroken
from mr.coordinator.effects import Effects
from mr.coordinator.outputs import Outputs
from mr.errors import BadMessage, StoreUnavailable
from mr.ports.broker import OutgoingMessage
from mr.protocol import messages
from mr.protocol.ids import AttemptId, JobId, TaskId
from mr.protocol.messages import LifecycleEvent, TaskMessage
from mr.protocol.queues import CONTROL_EXCHANGE, EVENTS_EXCHANGE, TASKS_QUEUE
from mr.protocol.records import JobRecord, JobState, TaskRecord, TaskState, TaskStats
from mr.settings import Settings
from tests.contract import samples

JOB = JobId("j")
MAP = TaskId("map-00000")


def record(state: JobState, committed: int = 0) -> JobRecord:
    return JobRecord(
        job_id=JOB,
        name="n",
        state=state,
        output="/out",
        priority=2,
        maps=1,
        reduces=0,
        history=(),
        maps_committed=committed,
    )


class RecordingStore(MemoryStore):
    """Notes the writes it is asked for, in order."""

    def __init__(self, calls: list[tuple[str, Any]]) -> None:
        super().__init__(lambda: 0.0)
        self.calls = calls

    async def save_job(self, record: JobRecord, tasks: Any, epoch: int) -> None:
        self.calls.append(("save", (record.maps_committed, [t.state for t in tasks], epoch)))

    async def end_job(self, record: JobRecord, tasks: Any, epoch: int, *seconds: float) -> None:
        self.calls.append(("end", (record.state, [t.state for t in tasks])))

    async def reopen(self, job: JobId, lost: Any, epoch: int) -> None:
        self.calls.append(("reopen", dict(lost)))

    async def claims(self, job: JobId) -> Any:
        self.calls.append(("claims", job))
        return {}


class RecordingBroker(MemoryBroker):
    """Notes what is published, in order."""

    def __init__(self, calls: list[tuple[str, Any]]) -> None:
        super().__init__()
        self.calls = calls

    async def publish(self, message: OutgoingMessage) -> None:
        self.calls.append(("publish", message.exchange or message.routing_key))


class Shell:
    """Effects over recording ports."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.events: list[Event] = []
        self.asked: list[Coroutine[Any, Any, None]] = []
        self.store = RecordingStore(self.calls)
        self.effects = Effects(
            Settings(),
            RecordingBroker(self.calls),
            self.store,
            SystemClock(),
            self._take,
            self.asked.append,
            Outputs(self.store, lambda job: False),
        )
        self.effects.epoch = 7

    async def _take(self, event: Event) -> None:
        self.events.append(event)

    async def perform(self, *commands: Command) -> None:
        await self.effects.perform(commands)
        while self.asked:
            await self.asked.pop()


def task(state: TaskState) -> TaskRecord:
    return TaskRecord(task_id=MAP, state=state)


async def test_persist_comes_before_publish_before_ask() -> None:
    shell = Shell()
    await shell.perform(
        InspectClaims(JOB, (MAP,), cause="test"),
        EmitEvent(LifecycleEvent(1, JOB, "MAPPING", 0.0), cause="test"),
        SendControl(messages.StopAttempt(AttemptId(JOB, MAP, 1)), cause="test"),
        PublishTasks((Publication(TaskMessage(1, JOB, MAP), 4),), cause="test"),
        SaveJob(record(JobState.MAPPING), (task(TaskState.QUEUED),), cause="test"),
        Reopen(JOB, {MAP: 1}, cause="test"),
    )
    assert [name for name, _ in shell.calls] == ["reopen", "save", "publish", "publish", "publish", "claims"]
    published = [what for name, what in shell.calls if name == "publish"]
    assert published == [TASKS_QUEUE, CONTROL_EXCHANGE, EVENTS_EXCHANGE]
    assert [type(event) for event in shell.events] == [ClaimsObserved]


async def test_the_last_value_of_a_batch_is_saved_once() -> None:
    shell = Shell()
    await shell.perform(
        SaveJob(record(JobState.MAPPING, 0), (task(TaskState.QUEUED),), cause="test"),
        SaveJob(record(JobState.MAPPING, 1), (task(TaskState.COMMITTED),), cause="test"),
    )
    assert shell.calls == [("save", (1, [TaskState.COMMITTED], 7))]


async def test_an_end_takes_the_saves_before_it_along() -> None:
    shell = Shell()
    await shell.perform(
        SaveJob(record(JobState.MAPPING), (task(TaskState.COMMITTED),), cause="test"),
        CloseJob(record(JobState.COMPLETED), (), cause="test"),
    )
    assert shell.calls == [("end", (JobState.COMPLETED, [TaskState.COMMITTED]))]


async def test_nothing_is_published_when_the_store_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    shell = Shell()

    async def away(*_: object, **__: object) -> None:
        raise StoreUnavailable("away")

    monkeypatch.setattr(shell.store, "save_job", away)
    with pytest.raises(StoreUnavailable):
        await shell.perform(
            PublishTasks((Publication(TaskMessage(1, JOB, MAP), 4),), cause="test"),
            SaveJob(record(JobState.MAPPING), (), cause="test"),
        )
    assert shell.calls == []


async def test_a_job_whose_claims_cannot_be_read_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    shell = Shell()

    async def unreadable(*_: object) -> None:
        raise BadMessage("another version wrote it")

    monkeypatch.setattr(shell.store, "claims", unreadable)
    await shell.perform(InspectClaims(JOB, (MAP,), cause="test"))
    (event,) = shell.events
    assert isinstance(event, JobBroken)
    assert (event.job_id, event.cause) == (JOB, "another version wrote it")


async def test_a_record_that_cannot_be_stored_fails_its_job_with_bare_facts() -> None:
    store = MemoryStore(lambda: 0.0)
    await store.connect()
    events: list[e.Event] = []
    spawned: list[Any] = []

    async def take(event: e.Event) -> None:
        events.append(event)

    effects = Effects(
        Settings(),
        MemoryBroker(),
        store,
        SystemClock(),
        take,
        spawned.append,
        Outputs(store, lambda job: False),
    )
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
