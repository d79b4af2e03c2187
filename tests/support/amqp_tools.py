"""Debian's `amqp-tools`: a client that is neither ours nor Python, for injection tests."""

import contextlib
import json
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pika

from tests.support.waiting import until

#: What `amqp-consume` runs for each message: prints it and a newline. It would take any option for its own.
EACH_ON_A_LINE = ("awk", "1")


class AmqpTools:
    """Publishes and consumes with `amqp-publish`, `amqp-declare-queue` and `amqp-consume`."""

    def __init__(self, url: str) -> None:
        self.url = url
        # the tools read an empty path as the virtual host "", ours as "/"
        self.tool_url = url.rstrip("/")

    def declare(self) -> str:
        """Declare a durable queue; returns its name."""
        name = f"test.{uuid.uuid4().hex}"
        self._run("amqp-declare-queue", "-d", "-q", name)
        return name

    def delete(self, queue: str) -> None:
        """Delete a queue."""
        self._run("amqp-delete-queue", "-q", queue)

    def publish(
        self, queue: str, body: str, reply_to: str | None = None, content_type: str = "application/json"
    ) -> None:
        """Publish one message to a queue."""
        answer = ("-t", reply_to) if reply_to else ()
        self._run("amqp-publish", "-r", queue, "-C", content_type, "-p", *answer, "-b", body)

    def take(self, queue: str, count: int = 1) -> list[Any]:
        """Wait for so many messages of a queue; returns their JSON."""
        lines = self._run("amqp-consume", "-q", queue, "-c", str(count), *EACH_ON_A_LINE)
        return [json.loads(line) for line in lines.splitlines()]

    @contextlib.contextmanager
    def listening(self, exchange: str, key: str, file: Path) -> Iterator[None]:
        """While inside: every message of `exchange` with this routing key ends up as a line of `file`."""
        queue = f"test.{uuid.uuid4().hex}"  # declared, bound and at its end deleted by amqp-consume
        command = ("amqp-consume", "-u", self.tool_url, "-q", queue, "-e", exchange, "-r", key)
        with file.open("wb") as lines:
            consumer = subprocess.Popen((*command, *EACH_ON_A_LINE), stdout=lines)
        try:
            until(lambda: self._consumers(queue), "amqp-consume to be bound and consuming")
            yield
        finally:
            consumer.terminate()
            consumer.wait(timeout=10)

    def ask(self, queue: str, body: str, content_type: str = "application/json") -> dict[str, Any]:
        """Publish a request and wait for its answer."""
        answers = self.declare()
        try:
            self.publish(queue, body, reply_to=answers, content_type=content_type)
            answer: dict[str, Any] = self.take(answers)[0]
        finally:
            self.delete(answers)
        return answer

    def _run(self, tool: str, *arguments: str) -> str:
        done = subprocess.run(
            (tool, "-u", self.tool_url, *arguments), capture_output=True, timeout=40, check=False, text=True
        )
        assert done.returncode == 0, f"{tool} {arguments}: {done.stderr}"
        return done.stdout

    def _consumers(self, queue: str) -> int:
        connection = pika.BlockingConnection(pika.URLParameters(self.url))
        try:
            declared = connection.channel().queue_declare(queue, passive=True)
            count: int = declared.method.consumer_count
        except pika.exceptions.ChannelClosedByBroker:  # there is no such queue yet
            return 0
        finally:
            connection.close()
        return count


def depth(url: str, queue: str) -> int:
    """Messages that are ready in a queue."""
    connection = pika.BlockingConnection(pika.URLParameters(url))
    try:
        count: int = connection.channel().queue_declare(queue, passive=True).method.message_count
    finally:
        connection.close()
    return count
