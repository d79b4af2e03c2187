"""Publishing and consuming recover from a lost connection, channel or queue."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pika
import pytest

from mr.adapters.rabbitmq.broker import RabbitBroker
from mr.adapters.rabbitmq.connection import Connection, read_url
from mr.errors import BrokerUnavailable
from mr.ports.broker import Broker, Delivery, OutgoingMessage
from mr.protocol.queues import EVENTS_EXCHANGE, JOBS_QUEUE, REPORTS_QUEUE, TASKS_QUEUE
from mr.settings import Settings
from tests.support.proxy import Proxy
from tests.support.waiting import eventually


@pytest.fixture
async def proxy(clean_broker_url: str) -> AsyncIterator[Proxy]:
    async with Proxy(urlsplit(clean_broker_url).port or 5672) as proxy:
        yield proxy


@pytest.fixture
async def broker(clean_broker_url: str, proxy: Proxy) -> AsyncIterator[RabbitBroker]:
    """A client that reaches the server through the proxy only."""
    url = clean_broker_url.replace(f":{urlsplit(clean_broker_url).port}", f":{proxy.port}")
    broker = RabbitBroker(Settings(broker_url=url, reconnect_seconds=20.0))
    await broker.connect()
    yield broker
    await broker.close()


@pytest.fixture
async def other(clean_broker_url: str) -> AsyncIterator[RabbitBroker]:
    """A client with an undisturbed connection."""
    broker = RabbitBroker(Settings(broker_url=clean_broker_url))
    await broker.connect()
    yield broker
    await broker.close()


class Inbox(list[Delivery]):
    async def __call__(self, delivery: Delivery) -> None:
        self.append(delivery)

    async def holds(self, *bodies: bytes) -> None:
        await eventually(lambda: len(self) >= len(bodies), what=f"{bodies} in {[d.body for d in self]}")
        assert [delivery.body for delivery in self] == list(bodies)


def to(queue: str, body: bytes) -> OutgoingMessage:
    return OutgoingMessage(routing_key=queue, body=body)


async def consumers(broker: Broker, queue: str, count: int) -> None:
    async def check() -> bool:
        return (await broker.depth(queue)).consumers == count

    await eventually(check, what=f"{count} consumers of {queue}")


async def test_unsettled_deliveries_are_repeated_and_old_acks_do_nothing(
    broker: RabbitBroker, other: RabbitBroker, proxy: Proxy
) -> None:
    inbox = Inbox()
    await broker.consume(REPORTS_QUEUE, inbox, prefetch=10)
    for body in (b"one", b"two"):
        await other.publish(to(REPORTS_QUEUE, body))
    await inbox.holds(b"one", b"two")
    await proxy.break_connections()
    await inbox.holds(b"one", b"two", b"one", b"two")
    await inbox[0].ack()
    await inbox[1].reject(requeue=True)
    assert [delivery.redelivered for delivery in inbox] == [False, False, True, True]
    await inbox[2].ack()
    await inbox[3].ack()
    await broker.close()
    assert (await other.depth(REPORTS_QUEUE)).ready == 0


async def test_deliveries_from_before_the_loss_count_until_they_are_settled(
    broker: RabbitBroker, other: RabbitBroker, proxy: Proxy
) -> None:
    inbox = Inbox()
    await broker.consume(TASKS_QUEUE, inbox, prefetch=2)
    for body in (b"one", b"two", b"three"):
        await other.publish(to(TASKS_QUEUE, body))
    await inbox.holds(b"one", b"two")
    await proxy.break_connections()
    await broker.depth(TASKS_QUEUE)
    await inbox[0].ack()
    await inbox.holds(b"one", b"two", b"one")
    assert (await other.depth(TASKS_QUEUE)).ready == 2
    await inbox[2].ack()
    await inbox[1].ack()
    await inbox.holds(b"one", b"two", b"one", b"two", b"three")


async def test_what_was_not_confirmed_is_sent_again(
    broker: RabbitBroker, other: RabbitBroker, proxy: Proxy
) -> None:
    proxy.swallows_answers = True
    bodies = [b"%d" % number for number in range(50)]
    publishes = asyncio.gather(*(broker.publish(to(TASKS_QUEUE, body)) for body in bodies))

    async def arrived() -> bool:
        return (await other.depth(TASKS_QUEUE)).ready == 50

    await eventually(arrived)
    assert not publishes.done()
    proxy.swallows_answers = False
    await proxy.break_connections()
    await publishes
    inbox = Inbox()
    await other.consume(TASKS_QUEUE, inbox, prefetch=200)
    await eventually(lambda: len(inbox) == 100)
    assert {delivery.body for delivery in inbox} == set(bodies)


async def test_publishes_wait_while_the_broker_is_away(
    broker: RabbitBroker, other: RabbitBroker, proxy: Proxy
) -> None:
    await proxy.cut()
    publishes = [asyncio.create_task(broker.publish(to(TASKS_QUEUE, b"%d" % n))) for n in range(3)]
    depth = asyncio.create_task(broker.depth(TASKS_QUEUE))
    assert not (await asyncio.wait([*publishes, depth], timeout=0.2))[0]
    await proxy.heal()
    await asyncio.gather(*publishes)
    assert (await depth).ready in range(4)
    inbox = Inbox()
    await other.consume(TASKS_QUEUE, inbox, prefetch=10)
    await inbox.holds(b"0", b"1", b"2")


async def test_publishing_gives_up_when_the_broker_stays_away(clean_broker_url: str, proxy: Proxy) -> None:
    url = clean_broker_url.replace(f":{urlsplit(clean_broker_url).port}", f":{proxy.port}")
    broker = RabbitBroker(Settings(broker_url=url, reconnect_seconds=0.3))
    await broker.connect()
    await proxy.cut()
    with pytest.raises(BrokerUnavailable, match="away"):
        await broker.publish(to(TASKS_QUEUE, b"x"))
    with pytest.raises(BrokerUnavailable, match="away"):
        await broker.depth(TASKS_QUEUE)
    await broker.close()


async def test_subscriptions_are_made_again(broker: RabbitBroker, other: RabbitBroker, proxy: Proxy) -> None:
    events, tasks = Inbox(), Inbox()
    await broker.subscribe(EVENTS_EXCHANGE, "job.#", events)
    await broker.consume(TASKS_QUEUE, tasks, prefetch=1)
    for _ in range(3):
        await consumers(other, TASKS_QUEUE, 1)
        await proxy.break_connections()
    await other.publish(to(TASKS_QUEUE, b"task"))
    await tasks.holds(b"task")
    event = OutgoingMessage(exchange=EVENTS_EXCHANGE, routing_key="job.done.x", body=b"event")

    async def event_arrives() -> bool:
        await other.publish(event)
        return bool(events)

    await eventually(event_arrives)


async def test_a_request_is_asked_again(broker: RabbitBroker, other: RabbitBroker, proxy: Proxy) -> None:
    questions = Inbox()
    await other.consume(JOBS_QUEUE, questions, prefetch=10)
    answer = asyncio.create_task(broker.request(to(JOBS_QUEUE, b"?"), timeout_seconds=20.0))
    await questions.holds(b"?")
    await proxy.break_connections()
    await questions.holds(b"?", b"?")
    first, second = questions
    assert first.correlation_id == second.correlation_id
    assert second.reply_to is not None
    reply = OutgoingMessage(routing_key=second.reply_to, body=b"!", correlation_id=second.correlation_id)
    await other.publish(reply)
    assert await answer == b"!"


async def test_a_channel_that_the_broker_closed_is_opened_again(
    broker: RabbitBroker, other: RabbitBroker, proxy: Proxy
) -> None:
    inbox = Inbox()
    await broker.consume(TASKS_QUEUE, inbox, prefetch=2)
    await other.publish(to(TASKS_QUEUE, b"held"))
    await inbox.holds(b"held")
    inbox[0]._channel.raw.basic_ack(4711)  # type: ignore[attr-defined]  # refused as consumer_timeout is: 406
    await inbox.holds(b"held", b"held")
    assert proxy.accepted == 1
    await inbox[1].ack()
    await other.publish(to(TASKS_QUEUE, b"next"))
    await inbox.holds(b"held", b"held", b"next")


def delete(url: str, *queues: str) -> None:
    """Delete queues, as an operator would."""
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        for queue in queues:
            connection.channel().queue_delete(queue)


async def test_a_deleted_queue_is_declared_and_consumed_again(
    broker: RabbitBroker, other: RabbitBroker, clean_broker_url: str
) -> None:
    inbox = Inbox()
    await broker.consume(TASKS_QUEUE, inbox, prefetch=2)
    delete(clean_broker_url, TASKS_QUEUE, REPORTS_QUEUE)
    await other.publish(to(REPORTS_QUEUE, b"report"))
    assert (await other.depth(REPORTS_QUEUE)).ready == 1
    await other.publish(to(TASKS_QUEUE, b"task"))
    await inbox.holds(b"task")


async def test_a_deleted_queue_that_nobody_consumes_can_be_asked_about(
    broker: RabbitBroker, clean_broker_url: str
) -> None:
    """A coordinator asks at each tick; it may be the first to miss the queue."""
    delete(clean_broker_url, TASKS_QUEUE)
    assert (await broker.depth(TASKS_QUEUE)).ready == 0


async def test_a_deleted_queue_that_nobody_consumes_can_be_consumed(
    broker: RabbitBroker, clean_broker_url: str
) -> None:
    """A standby that takes the lead may have connected long before."""
    inbox = Inbox()
    delete(clean_broker_url, REPORTS_QUEUE)
    await broker.consume(REPORTS_QUEUE, inbox, prefetch=1)
    await broker.publish(to(REPORTS_QUEUE, b"report"))
    await inbox.holds(b"report")


async def test_closing_while_the_broker_is_away_does_not_hang(broker: RabbitBroker, proxy: Proxy) -> None:
    await broker.consume(TASKS_QUEUE, Inbox(), prefetch=1)
    waiting = asyncio.create_task(broker.publish(to(TASKS_QUEUE, b"x")))
    await waiting
    await proxy.cut()
    waiting = asyncio.create_task(broker.publish(to(TASKS_QUEUE, b"y")))
    await asyncio.wait([waiting], timeout=0.1)
    await asyncio.wait_for(broker.close(), 10.0)
    with pytest.raises(BrokerUnavailable, match="closed"):
        await waiting


async def test_closing_a_connection_that_no_longer_answers_does_not_hang(
    broker: RabbitBroker, proxy: Proxy
) -> None:
    proxy.swallows_answers = True
    await asyncio.wait_for(broker.close(), 20.0)


async def test_an_answer_to_a_forged_address_is_sent_once(broker: RabbitBroker, other: RabbitBroker) -> None:
    """RabbitMQ 3.10 closes the connection of a client that publishes to such an address."""
    forged = OutgoingMessage(
        routing_key="amq.rabbitmq.reply-to.g1h2AA==.xx", body=b"answer", persistent=False
    )
    inbox = Inbox()
    await other.consume(TASKS_QUEUE, inbox, prefetch=10)
    await broker.publish(forged)
    await broker.publish(to(TASKS_QUEUE, b"later"))
    await inbox.holds(b"later")


@pytest.mark.parametrize("steps", [0, 2, 4, 8])
async def test_a_connection_can_be_abandoned_at_any_step_of_its_opening(
    clean_broker_url: str, steps: int
) -> None:
    complaints: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    opening = asyncio.create_task(Connection.open(read_url(clean_broker_url, connect_seconds=5.0)))
    for _ in range(steps):
        await asyncio.sleep(0.0005)
    opening.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await (await opening).close()
    assert complaints == []
