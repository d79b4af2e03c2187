"""The contract of the broker: requests and their answers, failures, the end."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from mr.errors import BrokerUnavailable
from mr.ports.broker import Broker, Delivery, QueueDepth
from mr.protocol.queues import JOBS_QUEUE, TASKS_QUEUE
from tests.contract.conftest import OpenBroker
from tests.contract.inbox import Inbox, depth_is, to

# --- requests


def answering(broker: Broker, made: Callable[[bytes], bytes]) -> Callable[[Delivery], Awaitable[None]]:
    async def answer(delivery: Delivery) -> None:
        assert delivery.reply_to is not None
        reply = to(delivery.reply_to, made(delivery.body), correlation_id=delivery.correlation_id)
        await broker.publish(reply)
        await delivery.ack()

    return answer


async def test_a_request_is_answered(new_broker: OpenBroker) -> None:
    client, server = await new_broker(), await new_broker()
    await server.consume(JOBS_QUEUE, answering(server, bytes.upper), prefetch=5)
    questions = [b"%c" % letter for letter in b"abcdefgh"]
    answers = await asyncio.gather(
        *(client.request(to(JOBS_QUEUE, question), timeout_seconds=10.0) for question in questions)
    )
    assert answers == [question.upper() for question in questions]


async def test_a_request_without_an_answer_says_so(broker: Broker) -> None:
    with pytest.raises(BrokerUnavailable, match="coordinator"):
        await broker.request(to(JOBS_QUEUE), timeout_seconds=0.05)
    assert (await broker.depth(JOBS_QUEUE)).ready == 1


async def test_a_late_answer_disturbs_nothing(new_broker: OpenBroker) -> None:
    client, server, inbox = await new_broker(), await new_broker(), Inbox()
    await server.consume(JOBS_QUEUE, inbox, prefetch=1)
    with pytest.raises(BrokerUnavailable):
        await client.request(to(JOBS_QUEUE, b"slow"), timeout_seconds=0.05)
    (late,) = await inbox.take(1)
    await answering(server, bytes.upper)(late)
    waiting = asyncio.create_task(client.request(to(JOBS_QUEUE, b"next"), timeout_seconds=10.0))
    _, prompt = await inbox.take(2)
    await answering(server, bytes.upper)(prompt)
    assert await waiting == b"NEXT"


# --- failures and the end


async def test_an_error_of_the_consumer_ends_its_subscription_and_is_reported(broker: Broker) -> None:
    async def fail(delivery: Delivery) -> None:
        raise ValueError(delivery.body.decode())

    await broker.consume(TASKS_QUEUE, fail, prefetch=1)
    await broker.publish(to(TASKS_QUEUE, b"wrong"))
    error = await asyncio.wait_for(broker.failed(), 10.0)
    assert isinstance(error, ValueError)
    assert str(error) == "wrong"
    await broker.publish(to(TASKS_QUEUE, b"more"))
    assert (await broker.depth(TASKS_QUEUE)).consumers == 0


async def test_closing_stops_the_running_consumers(new_broker: OpenBroker) -> None:
    broker, other, started, stopped = await new_broker(), await new_broker(), asyncio.Event(), asyncio.Event()

    async def hang(_delivery: Delivery) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    await broker.consume(TASKS_QUEUE, hang, prefetch=1)
    await broker.publish(to(TASKS_QUEUE))
    await asyncio.wait_for(started.wait(), 10.0)
    await broker.close()
    assert stopped.is_set()
    await depth_is(other, TASKS_QUEUE, 1)


async def test_a_consumer_may_close_the_broker(new_broker: OpenBroker) -> None:
    broker, other, closed = await new_broker(), await new_broker(), asyncio.Event()

    async def leave(_delivery: Delivery) -> None:
        await broker.close()
        closed.set()

    await broker.consume(TASKS_QUEUE, leave, prefetch=1)
    await other.publish(to(TASKS_QUEUE))
    await asyncio.wait_for(closed.wait(), 10.0)
    await depth_is(other, TASKS_QUEUE, 1)


async def test_a_closed_broker_is_unavailable(broker: Broker) -> None:
    await broker.close()
    await broker.close()
    with pytest.raises(BrokerUnavailable):
        await broker.publish(to(TASKS_QUEUE))
    with pytest.raises(BrokerUnavailable):
        await broker.consume(TASKS_QUEUE, Inbox(), prefetch=1)
    with pytest.raises(BrokerUnavailable):
        await broker.depth(TASKS_QUEUE)


async def test_a_queue_that_is_not_there_is_named(broker: Broker) -> None:
    with pytest.raises(BrokerUnavailable, match=r"mr\.nothing"):
        await broker.depth("mr.nothing")
    with pytest.raises(BrokerUnavailable, match=r"mr\.nothing"):
        await broker.consume("mr.nothing", Inbox(), prefetch=1)
    assert await broker.depth(TASKS_QUEUE) == QueueDepth(0, 0)
