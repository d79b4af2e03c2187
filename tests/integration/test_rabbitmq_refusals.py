"""Why RabbitMQ cannot be used is said in one line, without the password."""

import asyncio
from urllib.parse import urlsplit

import pika
import pytest

from mr.adapters.rabbitmq.broker import RabbitBroker
from mr.adapters.rabbitmq.connection import Channel, Connection
from mr.errors import BadSetting, BrokerUnavailable
from mr.ports.broker import Delivery
from mr.protocol.queues import TASKS_QUEUE
from mr.settings import Settings
from tests.support.own_process import free_port

PASSWORD = "open-sesame"


async def refusal(url: str) -> str:
    """The message of the error that connecting to `url` ends with."""
    broker = RabbitBroker(Settings(broker_url=url, connect_seconds=0.5))
    with pytest.raises(BrokerUnavailable) as caught:
        await broker.connect()
    await broker.close()
    message = str(caught.value)
    assert "\n" not in message
    assert PASSWORD not in message
    return message


async def test_refused_connection() -> None:
    port = free_port()
    message = await refusal(f"amqp://guest:{PASSWORD}@127.0.0.1:{port}/%2F")
    assert message == (
        f"RabbitMQ at 127.0.0.1:{port}/ refused the connection; check MR_BROKER_URL and that the server runs"
    )


async def test_name_that_does_not_resolve() -> None:
    message = await refusal(f"amqp://guest:{PASSWORD}@no-such-host.invalid/%2F")
    assert "the name no-such-host.invalid does not resolve" in message


async def test_wrong_password(scratch_broker_url: str) -> None:
    message = await refusal(scratch_broker_url.replace("guest:guest", f"guest:{PASSWORD}"))
    assert "refused the credentials; check user and password in MR_BROKER_URL" in message


async def test_unknown_virtual_host(scratch_broker_url: str) -> None:
    message = await refusal(scratch_broker_url.replace("/scratch", "/nowhere"))
    assert "denies the virtual host" in message
    assert "nowhere" in message


async def test_a_server_of_another_kind(scratch_redis_url: str) -> None:
    message = await refusal(f"amqp://guest:{PASSWORD}@127.0.0.1:{urlsplit(scratch_redis_url).port}/%2F")
    assert message.startswith("RabbitMQ at 127.0.0.1:")


async def test_a_queue_of_mrmq_with_other_arguments(clean_broker_url: str) -> None:
    connection = pika.BlockingConnection(pika.URLParameters(clean_broker_url))
    connection.channel().queue_declare(TASKS_QUEUE, durable=True)
    message = await refusal(clean_broker_url)
    connection.channel().queue_delete(TASKS_QUEUE)
    connection.close()
    assert "x-max-priority" in message
    assert "delete it, start again" in message


@pytest.mark.parametrize("url", ["http://host/", "amqp://host:port/", "amqp://h/?heartbeat=soon", "nonsense"])
def test_a_malformed_url(url: str) -> None:
    with pytest.raises(BadSetting, match="MR_BROKER_URL"):
        RabbitBroker(Settings(broker_url=url))


@pytest.mark.parametrize("path", ["", "/", "/%2F"])
async def test_the_default_virtual_host_however_it_is_written(rabbitmq_url: str, path: str) -> None:
    broker = RabbitBroker(Settings(broker_url=rabbitmq_url.removesuffix("/%2F") + path))
    await broker.connect()
    assert (await broker.depth(TASKS_QUEUE)).ready >= 0
    await broker.close()


async def test_only_what_cannot_be_policy_is_declared(clean_broker_url: str) -> None:
    broker = RabbitBroker(Settings(broker_url=clean_broker_url))
    await broker.connect()
    connection = pika.BlockingConnection(pika.URLParameters(clean_broker_url))
    channel = connection.channel()
    for queue, arguments in {
        "mr.tasks": {"x-max-priority": 9},
        "mr.jobs": {"x-single-active-consumer": True},
        "mr.reports": {"x-single-active-consumer": True},
        "mr.dead": {},
    }.items():
        channel.queue_declare(queue, durable=True, arguments=arguments)
    channel.exchange_declare("mr.events", "topic", durable=True)
    channel.exchange_declare("mr.control", "fanout", durable=True)
    connection.close()
    await broker.close()


async def test_concurrent_queries_share_one_new_channel(
    clean_broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = RabbitBroker(Settings(broker_url=clean_broker_url))
    await broker.connect()
    with pytest.raises(BrokerUnavailable, match="no queue 'nowhere'"):
        await broker.depth("nowhere")  # the server closes the channel that asked
    opened: list[Connection] = []
    open_channel = Connection.channel

    async def count(connection: Connection) -> Channel:
        opened.append(connection)
        return await open_channel(connection)

    monkeypatch.setattr(Connection, "channel", count)
    await asyncio.gather(*(broker.depth(TASKS_QUEUE) for _ in range(5)))
    assert len(opened) == 1
    await broker.close()


async def test_the_sender_of_a_message_is_verified_by_the_server(clean_broker_url: str) -> None:
    """The server refuses a `user_id` other than the connection's own, so nobody can pose as another user."""
    broker = RabbitBroker(Settings(broker_url=clean_broker_url))
    await broker.connect()
    senders: asyncio.Queue[str | None] = asyncio.Queue()

    async def take(delivery: Delivery) -> None:
        await senders.put(delivery.user_id)
        await delivery.ack()

    await broker.consume(TASKS_QUEUE, take, prefetch=1)
    connection = pika.BlockingConnection(pika.URLParameters(clean_broker_url))
    channel = connection.channel()
    for user in ("guest", None):
        channel.basic_publish("", TASKS_QUEUE, b"", pika.BasicProperties(user_id=user))
        assert await senders.get() == user
    channel.basic_publish("", TASKS_QUEUE, b"", pika.BasicProperties(user_id="somebody"))
    with pytest.raises(pika.exceptions.ChannelClosedByBroker):
        channel.queue_declare(TASKS_QUEUE, passive=True)
    connection.close()
    await broker.close()
