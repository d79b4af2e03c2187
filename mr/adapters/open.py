"""Opens the adapters on real servers. pika and redis are imported at the first call, not with this module."""

from mr.ports.broker import Broker
from mr.ports.store import StateStore
from mr.settings import Settings


def open_broker(settings: Settings) -> Broker:
    """Make the RabbitMQ adapter, not yet connected. Raises BadSetting for a malformed URL."""
    from mr.adapters.rabbitmq.broker import RabbitBroker

    return RabbitBroker(settings)


def open_store(settings: Settings) -> StateStore:
    """Make the Redis adapter, not yet connected. Raises BadSetting for a malformed URL."""
    from mr.adapters.redis.store import RedisStore

    return RedisStore(settings)
