"""The broker on RabbitMQ: one connection, which is made again when it is lost."""
