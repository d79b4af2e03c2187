"""The broker on RabbitMQ: one connection, which is made again when it is lost."""

from mr.adapters.rabbitmq.broker import RabbitBroker

__all__ = ["RabbitBroker"]
