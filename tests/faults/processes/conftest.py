"""The daemons that the cases share, and the job's output without any fault."""

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from mr.bundle import Bundle
from mr.cli.connect import connected
from mr.cli.prepare import prepare_code
from mr.protocol.jobs import CodeManifest
from mr.settings import Settings, load_settings
from tests.conftest import need
from tests.faults.processes.cluster import JOB, MAPS, REDUCES, FaultCluster, Jobs, write_words
from tests.support.commands import Commands
from tests.support.servers import NoServer, private_servers

Expected = Mapping[int, Mapping[str, bytes]]


@pytest.fixture(scope="session")
def fault_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultCluster]:
    """The daemons that all tests here share, on servers of their own."""
    root = tmp_path_factory.mktemp("faults")
    write_words(root / "words.txt")
    with ExitStack() as stack:
        try:
            servers = stack.enter_context(private_servers(root / "servers"))
        except NoServer as error:
            need(None, error)
            return
        urls = {"MR_BROKER_URL": servers.rabbitmq_url, "MR_REDIS_URL": servers.redis_url}
        cluster = FaultCluster(root / "cluster", root / "words.txt", urls)
        stack.callback(cluster.close)
        yield cluster


@pytest.fixture(scope="session")
def code() -> tuple[Bundle, CodeManifest]:
    """The job's code."""
    return prepare_code(JOB, (), Settings(), {})


@pytest.fixture(scope="session")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Expected:
    """The parts of the job run embedded, by its number of reduces."""
    root = tmp_path_factory.mktemp("expected")
    write_words(root / "words.txt")
    commands = Commands(root / "home")
    found: dict[int, dict[str, bytes]] = {}
    for reduces in (0, REDUCES):
        output = root / f"out-{reduces}"
        commands.succeed("run", JOB, root / "words.txt", "-o", output, "-m", MAPS, "-r", reduces, "-q")
        found[reduces] = {path.name: path.read_bytes() for path in output.glob("part-*")}
    return found


@pytest.fixture
async def jobs(fault_cluster: FaultCluster, code: tuple[Bundle, CodeManifest]) -> AsyncIterator[Jobs]:
    """All daemons run, and no point is armed; a way to submit."""
    settings = load_settings(environ=fault_cluster.settings, file=Path("/dev/null"))
    await fault_cluster.ready()
    async with connected(settings) as client:
        yield Jobs(fault_cluster, client, code)
    fault_cluster.arming.disarm()
