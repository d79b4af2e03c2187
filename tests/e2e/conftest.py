"""What the end-to-end tests share: real text, a cluster, and the results of the examples run embedded."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import need
from tests.e2e import corpus
from tests.e2e.examples import BY_NAME, EXAMPLES, Example
from tests.support.cluster import Cluster
from tests.support.commands import Commands
from tests.support.servers import NoServer, PrivateRabbitMQ, PrivateRedis, private_servers


@pytest.fixture
def mr(tmp_path: Path) -> Commands:
    """The command `mr`, with an empty TMPDIR and no cluster."""
    return Commands(tmp_path / "home")


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the directories doc, library, oddities, orders."""
    root = tmp_path_factory.mktemp("text")
    corpus.copy_documentation(root / "doc")
    corpus.copy_library(root / "library")
    corpus.write_oddities(root / "oddities")
    corpus.write_orders(root / "orders")
    return root


@pytest.fixture(scope="session")
def embedded(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Example], Path]:
    """Runs an example embedded, once a session; returns its output directory."""
    root = tmp_path_factory.mktemp("embedded")
    commands = Commands(root / "home")

    def run(example: Example) -> Path:
        output = root / example.name
        if not output.exists():
            inputs = example_inputs(example, text, run)
            commands.succeed("run", EXAMPLES / example.job, *inputs, "-o", output, *example.flags)
        return output

    return run


@contextmanager
def own_cluster(directory: Path, **options: Any) -> Iterator[Cluster]:
    """A cluster on servers of its own, which no other cluster disturbs; `options` as of Cluster."""
    need(PrivateRabbitMQ.available() and PrivateRedis.available(), NoServer(NoServer.__doc__))
    with (
        private_servers(directory) as servers,
        Cluster(directory / "cluster", servers.rabbitmq_url, servers.redis_url, **options) as cluster,
    ):
        yield cluster


@pytest.fixture(scope="session")
def shared_cluster(
    tmp_path_factory: pytest.TempPathFactory, rabbitmq_url: str, redis_url: str
) -> Iterator[Cluster]:
    """One coordinator and three workers, for the whole session."""
    with Cluster(tmp_path_factory.mktemp("cluster"), rabbitmq_url, redis_url) as cluster:
        yield cluster


@pytest.fixture
def cluster(shared_cluster: Cluster) -> Cluster:
    """The shared cluster, with all its daemons running again."""
    shared_cluster.ensure()
    return shared_cluster


def example_inputs(example: Example, text: Path, run: Callable[[Example], Path]) -> list[Path]:
    """The input directories of an example."""
    if example.after:
        return [run(BY_NAME[example.after])]
    return [text / name for name in example.inputs]
