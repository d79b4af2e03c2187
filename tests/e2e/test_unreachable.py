"""No broker, no store, wrong credentials: exit code 3, one line that says what to do, no secret in it."""

import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.e2e.examples import EXAMPLES, ROOT
from tests.support.commands import Commands, one_line

JOB = EXAMPLES / "wordcount" / "job.py"

COMMANDS = {
    "submit": ("submit", JOB, ROOT / "LICENSE", "-o", "output"),
    "jobs": ("jobs",),
    "cancel": ("cancel", "some-job"),
    "register": ("register", JOB, "--name", "words"),
    "coordinator": ("coordinator",),
    "worker": ("worker", "--spool", "spool"),
}
#: Commands that speak to RabbitMQ at all.
OVER_BROKER = ("submit", "cancel", "coordinator", "worker")


@pytest.fixture
def closed_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


def place(tmp_path: Path, broker_url: str, redis_url: str) -> Commands:
    """Commands with these two servers, which give up at once."""
    settings = {"MR_BROKER_URL": broker_url, "MR_REDIS_URL": redis_url, "MR_CONNECT_SECONDS": "2"}
    return Commands(tmp_path / "home", settings)


def unreachable(mr: Commands, name: str, *parts: str) -> None:
    """Run one command, which must end with exit code 3 and one line."""
    done = mr.run(*COMMANDS[name], timeout=40)
    assert done.returncode == 3, f"exit code {done.returncode}:\n{done.stderr.decode()}"
    line = one_line(done.stderr, *parts)
    assert "sesame" not in line, "a password is shown"
    assert not (mr.directory / "output").exists()
    assert mr.leftovers() == []


@pytest.mark.parametrize("name", COMMANDS)
def test_redis_unreachable(tmp_path: Path, rabbitmq_url: str, closed_port: int, name: str) -> None:
    mr = place(tmp_path, rabbitmq_url, f"redis://:open-sesame@127.0.0.1:{closed_port}/0")
    unreachable(mr, name, "Redis", str(closed_port))


@pytest.mark.parametrize("name", OVER_BROKER)
def test_broker_unreachable(tmp_path: Path, redis_url: str, closed_port: int, name: str) -> None:
    mr = place(tmp_path, f"amqp://guest:open-sesame@127.0.0.1:{closed_port}/%2F", redis_url)
    unreachable(mr, name, "RabbitMQ", str(closed_port))


@pytest.mark.parametrize("name", OVER_BROKER)
def test_wrong_broker_password(tmp_path: Path, rabbitmq_url: str, redis_url: str, name: str) -> None:
    address = urlsplit(rabbitmq_url)
    mr = place(tmp_path, f"amqp://guest:open-sesame@{address.hostname}:{address.port}/%2F", redis_url)
    unreachable(mr, name, "RabbitMQ", "MR_BROKER_URL")


def test_missing_virtual_host(tmp_path: Path, rabbitmq_url: str, redis_url: str) -> None:
    address = urlsplit(rabbitmq_url)
    user = address.netloc.rpartition("@")[0]
    mr = place(tmp_path, f"amqp://{user}@{address.hostname}:{address.port}/nowhere", redis_url)
    unreachable(mr, "submit", "RabbitMQ")


def test_wrong_redis_password(tmp_path: Path, rabbitmq_url: str, redis_url: str) -> None:
    address = urlsplit(redis_url)
    mr = place(
        tmp_path, rabbitmq_url, f"redis://someone:open-sesame@{address.hostname}:{address.port}{address.path}"
    )
    unreachable(mr, "submit", "Redis", "MR_REDIS_URL")
