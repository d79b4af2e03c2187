"""`mr drain` over memory adapters, with a stand-in for the worker."""

import asyncio
from collections.abc import Callable, Sequence

import msgspec
import pytest

from mr.adapters.memory.broker import MemoryBroker
from mr.adapters.memory.exchange import MemoryBrokerServer
from mr.adapters.memory.state import MemoryStoreServer
from mr.adapters.memory.store import MemoryStore
from mr.cli import drain, invoke
from mr.ports.broker import Delivery
from mr.protocol.codec import decode
from mr.protocol.messages import Control, DrainWorker
from mr.protocol.queues import CONTROL_EXCHANGE
from mr.protocol.records import WorkerBeat, WorkerView
from mr.settings import Settings
from tests.support.job_records import running_task, worker_beat


class Worker:
    """Runs one task. The message number `hears` makes it drain, and then it does as `end` says."""

    def __init__(self) -> None:
        self.store_server = MemoryStoreServer()
        self.broker_server = MemoryBrokerServer()
        self.beat = worker_beat("alpha-1", running_task())
        self.hears = 1
        self.end = "runs"
        self.asked = 0

    def open_store(self, settings: Settings) -> MemoryStore:
        return LookedAt(self)

    def open_broker(self, settings: Settings) -> MemoryBroker:
        return WorkersBroker(self)

    async def on_control(self, delivery: Delivery) -> None:
        message: Control = decode(delivery.body, Control)  # type: ignore[arg-type]
        await delivery.ack()
        self.asked += 1
        store = await self.connected()
        if (
            isinstance(message, DrainWorker)
            and self.asked == self.hears
            and await store.is_to_drain(message.worker, self.beat.incarnation)
        ):
            self.beat = msgspec.structs.replace(self.beat, draining=True)
            await store.heartbeat(self.beat, 60.0)

    async def connected(self) -> MemoryStore:
        store = MemoryStore(server=self.store_server)
        await store.connect()
        return store

    async def finish(self) -> None:
        """End after a look at the draining worker."""
        store = await self.connected()
        if self.end == "leaves":
            await store.forget_worker(self.beat.worker, self.beat.incarnation)
        elif self.end == "is replaced":
            await store.forget_worker(self.beat.worker, self.beat.incarnation)
            await store.heartbeat(worker_beat("alpha-1", incarnation="another"), 60.0)
        elif self.end == "dies":
            self.store_server.workers[self.beat.worker].lease_seconds = 0.0

    def lives(self, *others: WorkerBeat) -> None:
        """Have it, and others, be known to the store."""

        async def beat() -> None:
            store = await self.connected()
            for each in (self.beat, *others):
                await store.heartbeat(each, 60.0)

        asyncio.run(beat())


class LookedAt(MemoryStore):
    """The command's connection to the store: each look at a draining worker lets it go on."""

    def __init__(self, worker: Worker) -> None:
        super().__init__(server=worker.store_server)
        self._worker = worker

    async def workers(self) -> Sequence[WorkerView]:
        views = await super().workers()
        if any(view.beat.draining for view in views):
            await self._worker.finish()
        return views


class WorkersBroker(MemoryBroker):
    """A connection that brings the worker's control queue along."""

    def __init__(self, worker: Worker) -> None:
        super().__init__(worker.broker_server)
        self._worker = worker

    async def connect(self) -> None:
        await super().connect()
        await self.subscribe(CONTROL_EXCHANGE, "", self._worker.on_control)


Drain = Callable[..., tuple[int, str]]


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Worker:
    worker = Worker()
    monkeypatch.setattr("mr.cli.connect.open_store", worker.open_store)
    monkeypatch.setattr("mr.cli.connect.open_broker", worker.open_broker)
    monkeypatch.setattr(drain, "WATCH_SECONDS", 0.01)
    return worker


@pytest.fixture
def run(worker: Worker, capsys: pytest.CaptureFixture[str]) -> Drain:
    """Runs `mr drain`; returns its exit code and what it printed."""

    def call(*arguments: str) -> tuple[int, str]:
        code = invoke(["drain", *arguments])
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return call


@pytest.mark.parametrize("name", ["alpha-1", "al"])
def test_a_worker_is_asked_until_it_drains(worker: Worker, run: Drain, name: str) -> None:
    worker.lives(worker_beat("beta-1"))
    worker.hears = 3
    assert run(name) == (0, "worker alpha-1 is draining; tasks still running: 1\n")
    assert worker.asked == 3


def test_a_worker_that_drains_already_is_not_asked(worker: Worker, run: Drain) -> None:
    worker.beat = msgspec.structs.replace(worker.beat, draining=True)
    worker.lives()
    assert run("alpha-1")[0] == 0
    assert worker.asked == 0


@pytest.mark.parametrize("end", ["leaves", "is replaced"])
def test_wait_returns_when_the_worker_has_left(worker: Worker, run: Drain, end: str) -> None:
    worker.lives()
    worker.end = end
    assert run("--wait", "alpha-1") == (0, "worker alpha-1 has left\n")


def test_a_worker_that_dies_while_it_drains_is_told_as_such(worker: Worker, run: Drain) -> None:
    worker.lives()
    worker.end = "dies"
    code, text = run("--wait", "alpha-1")
    assert code == 1
    assert text.startswith("mr: worker alpha-1 died while it was draining: it has been silent for")


def test_a_worker_that_does_not_answer_has_been_asked(
    worker: Worker, run: Drain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain, "_ANSWER_SECONDS", 0.0)
    worker.lives()
    worker.hears = 0
    code, text = run("alpha-1")
    assert code == 0
    assert text.startswith("worker alpha-1 has been asked to drain, but has not answered yet")
    assert worker.store_server.drains == {"alpha-1": worker.beat.incarnation}


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("gamma", "there is no live worker 'gamma'; `mr workers` lists those there are"),
        ("", "there is no live worker ''; `mr workers` lists those there are"),
        ("alpha", "'alpha' may be any of 2 live workers; write more of the id"),
        ("gone", "worker gone is gone: it has been silent for 0 s"),
        ("gon", "there is no live worker 'gon'; `mr workers` lists those there are"),
    ],
)
def test_a_name_that_is_no_live_worker_is_refused(worker: Worker, run: Drain, name: str, told: str) -> None:
    worker.lives(worker_beat("alpha-2"), worker_beat("gone"))
    worker.store_server.workers["gone"].lease_seconds = 0.0  # type: ignore[index]
    assert run(name) == (2, f"mr: {told}\n")
    assert worker.asked == 0
