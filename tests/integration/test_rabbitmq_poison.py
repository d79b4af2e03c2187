"""Messages with properties that are not text, or cannot be decoded, arrive like others."""

import asyncio
import struct
from typing import Any

import pika
import pytest

from mr.adapters.rabbitmq.broker import RabbitBroker
from mr.errors import BadMessage
from mr.ports.broker import Delivery, OutgoingMessage
from mr.protocol.codec import decode
from mr.protocol.queues import REPORTS_QUEUE
from mr.settings import Settings
from tests.support.waiting import eventually

FAR = "a time far after the year 9999"


def publish(url: str, properties: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Publish a message as another system would."""
    encode_value = pika.data.encode_value

    def encode(pieces: list[bytes], value: Any) -> int:
        if value != FAR:
            return int(encode_value(pieces, value))
        pieces.append(struct.pack(">cQ", b"T", 2**62))
        return 9

    monkeypatch.setattr(pika.data, "encode_value", encode)
    connection = pika.BlockingConnection(pika.URLParameters(url))
    connection.channel().basic_publish("", REPORTS_QUEUE, b"poison", pika.BasicProperties(**properties))
    connection.close()


@pytest.mark.parametrize(
    "properties",
    [
        {"content_type": b"\xff", "type": b"\xfe", "correlation_id": b"\xfd", "reply_to": b"\xfc"},
        {"headers": {"when": FAR}},
        {"headers": {"deep": [{"when": FAR}]}, "content_type": "application/msgpack"},
    ],
)
async def test_undecodable_properties_end_no_connection(
    clean_broker_url: str, monkeypatch: pytest.MonkeyPatch, properties: dict[str, Any]
) -> None:
    broker = RabbitBroker(Settings(broker_url=clean_broker_url))
    await broker.connect()
    taken: list[Delivery] = []

    async def take(delivery: Delivery) -> None:
        taken.append(delivery)
        await delivery.ack()

    try:
        await broker.consume(REPORTS_QUEUE, take, prefetch=5)
        await asyncio.to_thread(publish, clean_broker_url, properties, monkeypatch)
        await broker.publish(OutgoingMessage(routing_key=REPORTS_QUEUE, body=b"good"))
        await eventually(lambda: len(taken) >= 2)
        assert [delivery.body for delivery in taken] == [b"poison", b"good"]
        assert not taken[0].redelivered
        with pytest.raises(BadMessage):
            decode(taken[0].body, int, taken[0].content_type)
        for value in (taken[0].type, taken[0].reply_to, taken[0].correlation_id):
            assert value is None or isinstance(value, str)
    finally:
        await broker.close()
