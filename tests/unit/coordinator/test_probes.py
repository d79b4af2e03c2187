"""What the coordinator finds out about a worker's process, from its private queue and its port."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from mr.adapters.memory.broker import MemoryBroker
from mr.adapters.system_clock import SystemClock
from mr.coordinator.core.commands import ProbeWorker
from mr.coordinator.core.events import Event, ProbeOutcome, WorkerProbed
from mr.coordinator.probes import Prober, port_answers
from mr.errors import BrokerUnavailable
from mr.ports.broker import Delivery, OutgoingMessage
from mr.protocol.ids import Incarnation
from tests.support.own_process import free_port

LIFE = Incarnation("w1.1")


class Desk:
    """A prober, a worker's port, and what was found."""

    def __init__(self, address: str) -> None:
        self.broker = MemoryBroker()
        self.address = address
        self.events: list[Event] = []
        self.prober = Prober(self.broker, SystemClock(), self._note)

    async def _note(self, event: Event) -> None:
        self.events.append(event)

    async def outcome(
        self,
        queue: str,
        address: str,
        *,
        reachable: bool = False,
        replaced: bool = False,
        silent: bool = False,
    ) -> ProbeOutcome | None:
        """What one probe finds."""
        self.events.clear()
        await self.prober.probe(
            ProbeWorker(LIFE, 7, queue, address, reachable, replaced, silent, cause="test")
        )
        if not self.events:
            return None
        (event,) = self.events
        assert isinstance(event, WorkerProbed)
        assert (event.incarnation, event.number) == (LIFE, 7)
        return event.outcome


async def ack(delivery: Delivery) -> None:
    await delivery.ack()


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    """With a port that answers."""
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    desk = Desk(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
    await desk.broker.connect()
    yield desk
    server.close()
    await server.wait_closed()
    await desk.broker.close()


async def test_a_worker_lives_while_its_queue_is_there(desk: Desk) -> None:
    queue = (await desk.broker.subscribe("", "", ack)).queue_name
    closed = f"127.0.0.1:{free_port()}"
    assert await desk.outcome(queue, desk.address) is ProbeOutcome.REACHED
    assert await desk.outcome(queue, desk.address, reachable=True) is None, "nothing new"
    assert await desk.outcome(queue, closed) is None
    assert await desk.outcome(queue, closed, reachable=True) is None
    assert await desk.outcome(queue, desk.address, replaced=True, reachable=True) is None


async def test_a_worker_without_its_queue_is_gone_if_its_port_is(desk: Desk) -> None:
    closed = f"127.0.0.1:{free_port()}"
    assert await desk.outcome("gone", closed, reachable=True) is ProbeOutcome.GONE
    assert await desk.outcome("gone", desk.address, reachable=True) is None, "its connection broke, it lives"
    assert await desk.outcome("gone", closed) is None, "the port never answered from here"
    assert await desk.outcome("gone", closed, silent=True) is ProbeOutcome.GONE
    assert await desk.outcome("gone", desk.address, silent=True) is None
    assert await desk.outcome("gone", desk.address, replaced=True) is ProbeOutcome.GONE


async def test_a_broker_that_cannot_be_asked_proves_nothing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_: OutgoingMessage) -> None:
        raise BrokerUnavailable

    monkeypatch.setattr(desk.broker, "publish", fail)
    assert await desk.outcome("gone", f"127.0.0.1:{free_port()}", reachable=True) is None


async def test_a_life_is_asked_for_once_at_a_time(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, answer = [], asyncio.Event()

    async def hang(message: OutgoingMessage) -> None:
        asked.append(message)
        await answer.wait()

    monkeypatch.setattr(desk.broker, "publish", hang)
    probe = ProbeWorker(LIFE, 7, "queue", desk.address, True, False, cause="test")
    first = asyncio.create_task(desk.prober.probe(probe))
    await asyncio.sleep(0)
    await desk.prober.probe(probe)
    assert len(asked) == 1
    answer.set()
    await first
    await desk.prober.probe(probe)
    assert len(asked) == 2


@pytest.mark.parametrize("address", ["", "nonsense", "127.0.0.1:none", "no-such-host.invalid:1"])
async def test_an_address_that_leads_nowhere_proves_nothing(address: str) -> None:
    assert await port_answers(address) is None
