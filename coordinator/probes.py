"""Finds out whether a worker's process runs: by its private queue at the broker, and by its port."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from mr.coordinator.core.commands import ProbeWorker
from mr.coordinator.core.events import Event, ProbeOutcome, WorkerProbed
from mr.errors import BadMessage, BrokerUnavailable, Unroutable
from mr.ports.broker import Broker, OutgoingMessage
from mr.ports.clock import Clock
from mr.protocol.codec import encode
from mr.protocol.ids import Incarnation
from mr.protocol.messages import Ping

#: An answer that takes longer proves nothing.
ANSWER_SECONDS = 1.0


async def queue_exists(broker: Broker, queue: str) -> bool:
    """Whether a private queue exists; also True if the broker does not answer in time.

    The kernel closes a dead process's connection, and its private queues go with that. A name that does not
    fit into a message, as a spoilt record may have it, is that of no queue.
    """
    ping = OutgoingMessage(
        routing_key=queue, body=encode(Ping()), type="control", persistent=False, mandatory=True
    )
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            await broker.publish(ping)
    except (Unroutable, BadMessage):
        return False
    except (TimeoutError, BrokerUnavailable):
        return True
    return True


class Prober:
    """Carries out ProbeWorker, one probe of an incarnation at a time."""

    def __init__(self, broker: Broker, clock: Clock, on_event: Callable[[Event], Awaitable[None]]) -> None:
        self._broker = broker
        self._clock = clock
        self._on_event = on_event
        self._asking: set[Incarnation] = set()

    async def probe(self, command: ProbeWorker) -> None:
        """Probe, and send WorkerProbed if anything is proven."""
        if command.incarnation in self._asking:
            return
        self._asking.add(command.incarnation)
        try:
            outcome = await self._ask(command)
        finally:
            self._asking.discard(command.incarnation)
        if outcome is not None:
            await self._on_event(
                WorkerProbed(self._clock.now(), command.incarnation, command.number, outcome)
            )

    async def _ask(self, command: ProbeWorker) -> ProbeOutcome | None:
        if await queue_exists(self._broker, command.control_queue):
            if command.reachable or await port_answers(command.address) is not True:
                return None
            return ProbeOutcome.REACHED
        if command.replaced:
            return ProbeOutcome.GONE
        if (command.reachable or command.silent) and await port_answers(command.address) is False:
            return ProbeOutcome.GONE
        return None


async def port_answers(address: str) -> bool | None:
    """Whether a process listens at `host:port`. None if that is unknown: the host may be cut off."""
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    except ConnectionRefusedError:
        return False
    except (OSError, TimeoutError, ValueError):
        return None
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True
