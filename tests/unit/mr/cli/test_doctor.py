"""What the doctor finds, over memory adapters."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mr.adapters.memory.broker import MemoryBroker
from mr.adapters.memory.state import MemoryStoreServer
from mr.adapters.memory.store import MemoryStore
from mr.cli import invoke
from mr.cli.doctor import disk
from mr.errors import BrokerUnavailable, StoreUnavailable
from mr.ports.broker import Delivery, OutgoingMessage
from mr.protocol import queues
from mr.protocol.codec import JSON, encode
from mr.protocol.jobs import RequestReply
from mr.settings import Settings
from tests.support.job_records import worker_beat

Examine = Callable[..., dict[str, dict[str, str]]]


class Patient:
    """The cluster that the doctor examines."""

    def __init__(self) -> None:
        self.ahead_seconds = 0.0
        self.beats: list[Any] = []
        self.warnings: tuple[str, ...] = ()
        self.coordinators = 0
        self.dead = 0
        self.broker_error: BrokerUnavailable | None = None
        #: What a write to the store ends with.
        self.store_error: StoreUnavailable | None = None
        self.deaf = False
        self.store_server = MemoryStoreServer()
        #: What the coordinator says of its store; None: the identity of the store itself.
        self.coordinators_store: str | None = None
        #: Consumers on `mr.tasks`.
        self.takers = 1

    def open_store(self, settings: Settings) -> MemoryStore:
        return StoreOf(self)

    def open_broker(self, settings: Settings) -> MemoryBroker:
        return BrokerOf(self)


class StoreOf(MemoryStore):
    def __init__(self, patient: Patient) -> None:
        super().__init__(server=patient.store_server)
        self._patient = patient

    async def connect(self) -> None:
        await super().connect()
        for beat in self._patient.beats:
            await self.heartbeat(beat, 60)

    async def warnings(self) -> tuple[str, ...]:
        return self._patient.warnings

    async def identity(self) -> str:
        if self._patient.store_error is not None:
            raise self._patient.store_error
        return await super().identity()

    async def server_time(self) -> float:
        return await super().server_time() - self._patient.ahead_seconds


class BrokerOf(MemoryBroker):
    def __init__(self, patient: Patient) -> None:
        super().__init__()
        self._patient = patient

    async def connect(self) -> None:
        if self._patient.broker_error is not None:
            raise self._patient.broker_error
        await super().connect()

        for _ in range(self._patient.coordinators):
            await self.consume(queues.JOBS_QUEUE, self._answer, prefetch=1)
        for _ in range(self._patient.takers):
            await self.consume(queues.TASKS_QUEUE, self._answer, prefetch=1)
        for _ in range(self._patient.dead):
            await self.publish(OutgoingMessage(routing_key=queues.DEAD_QUEUE, body=b""))

    async def _answer(self, delivery: Delivery) -> None:
        assert delivery.type == "ping"
        theirs = self._patient.coordinators_store
        if theirs is None:
            store = self._patient.open_store(Settings())
            await store.connect()
            theirs = await store.identity()
        reply = RequestReply(accepted=True, store=theirs or None)
        await self.publish(
            OutgoingMessage(
                routing_key=delivery.reply_to or "",
                body=encode(reply, JSON),
                correlation_id=delivery.correlation_id,
            )
        )
        await delivery.ack()

    async def publish(self, message: OutgoingMessage) -> None:
        if not (self._patient.deaf and message.exchange):
            await super().publish(message)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> Patient:
    """A healthy cluster of a coordinator and a worker."""
    patient = Patient()
    patient.coordinators = 1
    patient.beats = [worker_beat("w1")]
    for module in ("mr.adapters.open", "mr.cli.connect"):
        monkeypatch.setattr(f"{module}.open_store", patient.open_store)
        monkeypatch.setattr(f"{module}.open_broker", patient.open_broker)
    monkeypatch.setenv("MR_CONNECT_SECONDS", "0.05")
    return patient


@pytest.fixture
def examine(patient: Patient, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Examine:
    """Runs the doctor; returns the findings by what they are of."""

    def run(code: int) -> dict[str, dict[str, str]]:
        assert invoke(["doctor", "--spool", str(tmp_path), "--json"]) == code
        return {finding["what"]: finding for finding in json.loads(capsys.readouterr().out)}

    return run


def test_healthy_cluster(examine: Examine) -> None:
    findings = examine(0)
    assert {finding["level"] for finding in findings.values()} == {"ok"}
    assert list(findings) == [
        *("versions", "disk", "broker", "permissions", "coordinator", "dead letters"),
        *("store", "clocks", "workers", "same store"),
    ]


def test_lines_for_people(patient: Patient, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    patient.warnings = ("Redis runs without appendonly",)
    assert invoke(["doctor", "--spool", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "ok    store         connected; takes writes" in lines
    assert "warn  store         Redis runs without appendonly" in lines


def test_unreachable_broker_fails_and_the_store_is_looked_at_all_the_same(
    patient: Patient, examine: Examine
) -> None:
    patient.broker_error = BrokerUnavailable("RabbitMQ refused the credentials")
    findings = examine(3)
    assert findings["broker"] == {
        "level": "FAIL",
        "what": "broker",
        "message": "RabbitMQ refused the credentials",
    }
    assert "permissions" not in findings
    assert findings["store"]["level"] == "ok"


def test_a_store_that_takes_no_writes_fails(patient: Patient, examine: Examine) -> None:
    """A replica, or a server that is out of memory, answers everything else."""
    patient.store_error = StoreUnavailable("Redis is a read-only replica")
    found = examine(3)["store"]
    assert (found["level"], found["message"]) == ("FAIL", "Redis is a read-only replica")


def test_message_that_does_not_come_back(patient: Patient, examine: Examine) -> None:
    patient.deaf = True
    assert "check the user's permissions" in examine(3)["permissions"]["message"]


def test_nobody_at_work(patient: Patient, examine: Examine) -> None:
    patient.coordinators, patient.takers, patient.beats, patient.dead = 0, 0, [], 2
    findings = examine(0)
    assert "`mr coordinator`" in findings["coordinator"]["message"]
    assert "`mr worker`" in findings["workers"]["message"]
    assert findings["dead letters"]["message"].startswith("2 message(s) in mr.dead")


@pytest.mark.parametrize(("ahead", "side"), [(5.0, "ahead of"), (-5.0, "behind")])
def test_clocks_apart(patient: Patient, examine: Examine, ahead: float, side: str) -> None:
    patient.ahead_seconds = ahead
    finding = examine(0)["clocks"]
    assert finding["level"] == "warn"
    assert f"5.0 s {side} Redis" in finding["message"]


def test_workers_of_two_versions_or_held_back(patient: Patient, examine: Examine) -> None:
    patient.beats = [worker_beat("w1"), worker_beat("w2", limited_by="disk full")]
    assert "w2: disk full" in examine(0)["workers"]["message"]
    patient.beats = [worker_beat("w1"), worker_beat("w2", version="0.0.9")]
    assert "0.0.9, 0.1.0" in examine(0)["workers"]["message"]


def test_full_disk_is_told_with_the_way_out(tmp_path: Path) -> None:
    finding = disk(tmp_path / "not" / "made" / "yet", reserve_bytes=2**62)
    assert finding.level == "warn"
    assert "--spool" in finding.message


def test_a_coordinator_on_another_database_is_found(patient: Patient, examine: Examine) -> None:
    patient.coordinators_store = "another"
    finding = examine(3)["same store"]
    assert finding["level"] == "FAIL" and "MR_REDIS_URL" in finding["message"]


def test_a_coordinator_that_does_not_say_is_a_warning(patient: Patient, examine: Examine) -> None:
    patient.coordinators_store = ""
    assert examine(0)["same store"]["level"] == "warn"


def test_workers_on_another_database_are_found(patient: Patient, examine: Examine) -> None:
    patient.beats = []
    finding = examine(3)["same store"]
    assert finding["level"] == "FAIL" and "1 worker(s) take tasks" in finding["message"]
