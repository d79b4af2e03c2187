"""RabbitMQ, Redis and their likes in memory. The only importers of pika and redis."""
