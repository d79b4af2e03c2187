"""The versions of the running servers, asked from them: what a fault was seen on."""

import socket
import struct
from urllib.parse import urlsplit

import redis

#: Name and version of each server in use, by its URL.
_in_use: dict[str, str] = {}

_ANSWER_SECONDS = 10.0
_VERSION_KEY = b"\x07versionS"


def note_rabbitmq(url: str) -> None:
    """Remember that this RabbitMQ is in use."""
    _in_use[url] = f"RabbitMQ {_rabbitmq_version(url)}"


def note_redis(url: str) -> None:
    """Remember that this Redis (or Valkey) is in use."""
    with redis.Redis.from_url(url) as client:
        info = client.info("server")
    valkey = info.get("valkey_version")
    _in_use[url] = f"Valkey {valkey}" if valkey else f"Redis {info['redis_version']}"


def forget(url: str) -> None:
    """The server of this URL was stopped."""
    _in_use.pop(url, None)


def in_use() -> tuple[str, ...]:
    """Names and versions of the servers that this process uses now."""
    return tuple(sorted(set(_in_use.values())))


def _rabbitmq_version(url: str) -> str:
    """The version in the server properties of Connection.Start, the first frame that a broker sends."""
    place = urlsplit(url)
    with socket.create_connection((place.hostname, place.port or 5672), timeout=_ANSWER_SECONDS) as peer:
        peer.sendall(b"AMQP\x00\x00\x09\x01")
        stream = peer.makefile("rb")
        _, _, size = struct.unpack(">BHI", stream.read(7))
        properties = stream.read(size)
    _, _, rest = properties.partition(_VERSION_KEY)
    (length,) = struct.unpack(">I", rest[:4])
    return rest[4 : 4 + length].decode()
