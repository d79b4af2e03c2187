"""Faults of the RabbitMQ server: it dies, it times consumers out, it runs short of memory."""

import asyncio
from collections.abc import Iterator

import pika
import pytest

from mr.adapters.rabbitmq.broker import RabbitBroker
from mr.adapters.topology import QUEUES
from mr.errors import BrokerUnavailable
from mr.ports.broker import Delivery, OutgoingMessage
from mr.protocol.queues import EVENTS_EXCHANGE, JOBS_QUEUE, TASKS_QUEUE
from mr.settings import Settings
from tests.conftest import need
from tests.support.servers import NoServer, PrivateRabbitMQ
from tests.support.waiting import eventually


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateRabbitMQ]:
    """A node with a consumer time-out of one second, checked every second."""
    need(PrivateRabbitMQ.available(), NoServer("rabbitmq-server is not installed"))
    server = PrivateRabbitMQ(
        tmp_path_factory.mktemp("rabbitmq"),
        config="consumer_timeout = 1000",
        advanced="[{rabbit,[{channel_tick_interval,1000}]}].",
    )
    try:
        server.start()
        yield server
    finally:
        server.stop()


async def ignore(delivery: Delivery) -> None:
    await delivery.ack()


def task(body: bytes) -> OutgoingMessage:
    return OutgoingMessage(routing_key=TASKS_QUEUE, body=body)


@pytest.mark.fault(
    fault="RabbitMQ times consumers out",
    phase="while a delivery is held",
    outcome="the consumer subscribes again, and takes what comes next",
)
async def test_a_consumer_that_was_timed_out_goes_on(server: PrivateRabbitMQ) -> None:
    """3.10 closes the channel. 4.3 sends basic.cancel, and times out consumers of quorum queues alone."""
    with pika.BlockingConnection(pika.URLParameters(server.url)) as connection:
        connection.channel().queue_declare("slow", durable=True, arguments={"x-queue-type": "quorum"})
    broker = RabbitBroker(Settings(broker_url=server.url))
    await broker.connect()
    deliveries: list[Delivery] = []

    async def take(delivery: Delivery) -> None:
        deliveries.append(delivery)
        if delivery.redelivered:
            await delivery.ack()

    await broker.consume("slow", take, prefetch=2)
    await broker.publish(OutgoingMessage(routing_key="slow", body=b"first"))
    await eventually(lambda: len(deliveries) == 2, "the delivery that was taken back")
    await deliveries[0].ack()
    await broker.publish(OutgoingMessage(routing_key="slow", body=b"next"))
    await eventually(lambda: deliveries[-1].body == b"next")
    await deliveries[-1].ack()
    await broker.close()


async def test_queues_are_classic_where_the_default_is_another_type(server: PrivateRabbitMQ) -> None:
    await asyncio.to_thread(server.control, "add_vhost", "other", "--default-queue-type", "quorum")
    await asyncio.to_thread(server.control, "set_permissions", "-p", "other", "guest", ".*", ".*", ".*")
    broker = RabbitBroker(Settings(broker_url=server.url.removesuffix("%2F") + "other"))
    await broker.connect()
    await broker.close()
    listed = await asyncio.to_thread(server.control, "-q", "list_queues", "-p", "other", "name", "type")
    types = dict(line.split("\t") for line in listed.splitlines()[1:])
    assert types == dict.fromkeys((queue.name for queue in QUEUES), "classic")


async def test_confirmed_messages_survive_the_death_of_the_server(server: PrivateRabbitMQ) -> None:
    broker = RabbitBroker(Settings(broker_url=server.url, reconnect_seconds=60.0))
    await broker.connect()
    before = [b"%d" % number for number in range(100)]
    await asyncio.gather(*(broker.publish(task(body)) for body in before))
    await asyncio.to_thread(server.kill)
    after = asyncio.gather(*(broker.publish(task(b"after %d" % number)) for number in range(10)))
    await asyncio.to_thread(server.start)
    await after
    bodies: list[bytes] = []

    async def take(delivery: Delivery) -> None:
        bodies.append(delivery.body)
        await delivery.ack()

    await broker.consume(TASKS_QUEUE, take, prefetch=50)
    expected = {*before, *(b"after %d" % number for number in range(10))}
    await eventually(lambda: set(bodies) >= expected, 20.0)
    await broker.close()


@pytest.mark.fault(
    fault="RabbitMQ out of memory",
    phase="for longer than reconnect_seconds",
    outcome="what publishes or asks gives up, and says why",
)
async def test_publishers_wait_while_the_server_is_short_of_memory(
    server: PrivateRabbitMQ, caplog: pytest.LogCaptureFixture
) -> None:
    """A connection that has published gets no answer to anything then, and nothing may wait for ever."""
    caplog.set_level("INFO")
    patient = RabbitBroker(Settings(broker_url=server.url, reconnect_seconds=60.0))
    hasty = RabbitBroker(Settings(broker_url=server.url, reconnect_seconds=0.5))
    await patient.connect()
    await hasty.connect()
    await asyncio.to_thread(server.control, "set_vm_memory_high_watermark", "0.000001")
    try:
        waiting = asyncio.create_task(patient.publish(task(b"patient")))
        with pytest.raises(BrokerUnavailable, match="memory"):
            await hasty.publish(task(b"hasty"))
        with pytest.raises(BrokerUnavailable, match="memory"):
            await hasty.depth(TASKS_QUEUE)
        with pytest.raises(BrokerUnavailable, match="memory"):
            await hasty.subscribe(EVENTS_EXCHANGE, "#", ignore)
        with pytest.raises(BrokerUnavailable, match="memory"):
            await hasty.request(OutgoingMessage(routing_key=JOBS_QUEUE, body=b"?"), timeout_seconds=0.5)
        assert not waiting.done()
        assert caplog.text.count("takes no messages") == 2
    finally:
        await asyncio.to_thread(server.control, "set_vm_memory_high_watermark", "0.9")
    await waiting
    assert "takes messages again" in caplog.text
    await patient.close()
    await hasty.close()
