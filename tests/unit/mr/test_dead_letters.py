"""What cannot be processed is kept on `mr.dead`, and nobody dies of it, however large it is."""

import asyncio
import json
from pathlib import Path

import pytest

from mr.adapters.memory.broker import MemoryBroker
from mr.dead_letters import DEAD_BODY_BYTES, MAX_DEAD_LETTERS, dead_letter
from mr.errors import StoreUnavailable
from mr.guards import guarded
from mr.ports.broker import Delivery, OutgoingMessage
from mr.protocol.codec import JSON, MAX_MESSAGE_BYTES
from mr.protocol.queues import DEAD_QUEUE, JOBS_QUEUE, REPORTS_QUEUE, TASKS_QUEUE
from tests.support.waiting import eventually
from tests.unit.coordinator.test_intake import Desk

TOO_LARGE = b"x" * (MAX_MESSAGE_BYTES + 1)


async def kept(broker: MemoryBroker) -> asyncio.Queue[Delivery]:
    queue: asyncio.Queue[Delivery] = asyncio.Queue()
    await broker.consume(DEAD_QUEUE, queue.put, prefetch=1)
    return queue


@pytest.mark.parametrize("queue", [JOBS_QUEUE, TASKS_QUEUE, REPORTS_QUEUE])
async def test_of_a_message_over_the_limit_the_beginning_is_kept(queue: str) -> None:
    broker = MemoryBroker()
    await broker.connect()
    dead = await kept(broker)

    async def on_delivery(delivery: Delivery) -> None:
        await dead_letter(broker, delivery, "r" * 5000)
        await delivery.ack()

    await broker.consume(queue, on_delivery, prefetch=1)
    # As others send it: not through our client, which refuses it.
    broker.server.route(OutgoingMessage(routing_key=queue, body=TOO_LARGE))
    letter = await dead.get()
    assert letter.body == TOO_LARGE[:DEAD_BODY_BYTES]


async def test_the_dead_are_bounded_and_what_comes_after_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    desk = Desk(tmp_path)
    await desk.open()
    for number in range(MAX_DEAD_LETTERS):
        desk.broker.server.route(OutgoingMessage(routing_key=DEAD_QUEUE, body=b"%d" % number))
    answer = await desk.ask(b"{not json")
    assert not answer["accepted"], "it is answered all the same"
    assert (await desk.broker.depth(DEAD_QUEUE)).ready == MAX_DEAD_LETTERS
    assert "mr.dead is full; dropped a message of mr.jobs" in caplog.text


async def test_a_request_over_the_limit_is_answered(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    await desk.open()
    dead, answers = await kept(desk.broker), asyncio.Queue[OutgoingMessage]()
    desk.broker.server.add_reply("answers", answers.put_nowait)
    desk.broker.server.route(
        OutgoingMessage(routing_key=JOBS_QUEUE, body=TOO_LARGE, content_type=JSON, reply_to="answers")
    )
    assert "over the limit" in json.loads((await answers.get()).body)["reason"]
    assert len((await dead.get()).body) == DEAD_BODY_BYTES


async def test_a_reason_that_quotes_a_huge_request_fits_into_the_answer(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    await desk.open()
    path = "\\" * 400_000  # two characters each in the request, four in the answer
    answer = await asyncio.wait_for(desk.ask(desk.request(inputs=[path])), 5)
    assert not answer["accepted"] and answer["reason"].startswith("'" + path[:1000])


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
