"""The broker on RabbitMQ: one connection, which is opened again when it is lost."""
