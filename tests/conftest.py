"""Servers for all tiers. A missing one fails the test in CI (variable CI set) and skips it elsewhere."""

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pika
import pytest
import redis

from mr.adapters.topology import EXCHANGES, QUEUES
from tests.support import server_versions
from tests.support.fault_matrix import note_outcome
from tests.support.servers import NoServer, PrivateRabbitMQ, RabbitMQContainer, any_rabbitmq, any_redis

#: A virtual host apart from the end-to-end tests' cluster, which may be running at the same time.
SCRATCH_HOST = "scratch"


def need(found: object, error: NoServer | None = None) -> None:
    """Skip, or in CI fail, when a server is missing."""
    if found:
        return
    if os.environ.get("CI"):
        pytest.fail(str(error))
    pytest.skip(str(error))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Tell the fault matrix how each test ended."""
    report = yield
    note_outcome(item, report)
    return report


@pytest.fixture(scope="session")
def rabbitmq_server(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[PrivateRabbitMQ | RabbitMQContainer | None]:
    """The session's RabbitMQ; None when MR_TEST_BROKER_URL names another."""
    if "MR_TEST_BROKER_URL" in os.environ:
        yield None
        return
    try:
        server = any_rabbitmq(tmp_path_factory.mktemp("rabbitmq"))
    except NoServer as error:
        need(None, error)
        return
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def rabbitmq_url(rabbitmq_server: PrivateRabbitMQ | RabbitMQContainer | None) -> str:
    """A RabbitMQ for the session, shared by its tests."""
    if rabbitmq_server:
        return rabbitmq_server.url
    server_versions.note_rabbitmq(os.environ["MR_TEST_BROKER_URL"])
    return os.environ["MR_TEST_BROKER_URL"]


def _redis(directory: Path) -> Iterator[str]:
    try:
        server = any_redis(directory)
    except NoServer as error:
        need(None, error)
        return
    try:
        server.start()
        yield server.url
    finally:
        server.stop()


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis for the session, shared by its tests."""
    if "MR_TEST_REDIS_URL" in os.environ:
        server_versions.note_redis(os.environ["MR_TEST_REDIS_URL"])
        yield os.environ["MR_TEST_REDIS_URL"]
        return
    yield from _redis(tmp_path_factory.mktemp("redis"))


@pytest.fixture(scope="session")
def scratch_broker_url(rabbitmq_server: PrivateRabbitMQ | RabbitMQContainer | None) -> str:
    """A virtual host that tests may empty. With a given server: MR_TEST_SCRATCH_BROKER_URL."""
    if rabbitmq_server is None:
        need("MR_TEST_SCRATCH_BROKER_URL" in os.environ, NoServer("set MR_TEST_SCRATCH_BROKER_URL, too"))
        return os.environ["MR_TEST_SCRATCH_BROKER_URL"]
    add = f'rabbit_vhost:add(<<"{SCRATCH_HOST}">>, <<"test">>)'
    allow = (
        'rabbit_auth_backend_internal:set_permissions(<<"guest">>, '
        f'<<"{SCRATCH_HOST}">>, <<".*">>, <<".*">>, <<".*">>, <<"test">>)'
    )
    rabbitmq_server.control("eval", f"{add}, {allow}.")
    return rabbitmq_server.url.removesuffix("%2F") + SCRATCH_HOST


@pytest.fixture(scope="session")
def scratch_redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis that tests may empty. With a given server: MR_TEST_SCRATCH_REDIS_URL."""
    if "MR_TEST_REDIS_URL" in os.environ:
        need("MR_TEST_SCRATCH_REDIS_URL" in os.environ, NoServer("set MR_TEST_SCRATCH_REDIS_URL, too"))
        yield os.environ["MR_TEST_SCRATCH_REDIS_URL"]
        return
    yield from _redis(tmp_path_factory.mktemp("scratch-redis"))


@pytest.fixture
def clean_broker_url(scratch_broker_url: str) -> str:
    """The scratch virtual host, without any queue or exchange of mrmq."""
    connection = pika.BlockingConnection(pika.URLParameters(scratch_broker_url))
    channel = connection.channel()
    for queue in QUEUES:
        channel.queue_delete(queue.name)
    for exchange in EXCHANGES:
        channel.exchange_delete(exchange)
    connection.close()
    return scratch_broker_url


@pytest.fixture
def clean_redis_url(scratch_redis_url: str) -> str:
    """The scratch Redis, empty."""
    with redis.Redis.from_url(scratch_redis_url) as client:
        client.flushdb()
    return scratch_redis_url


@pytest.fixture
def clean_services(clean_broker_url: str, clean_redis_url: str) -> tuple[str, str]:
    """An empty RabbitMQ and an empty Redis: their URLs."""
    return clean_broker_url, clean_redis_url
