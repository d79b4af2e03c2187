"""A cluster on servers of its own, and connections of somebody with bad intent."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pika
import redis

from mr.protocol.queues import JOBS_QUEUE
from tests.support.cluster import Cluster
from tests.support.servers import PrivateRabbitMQ, PrivateRedis

COUNTING = """
import mr

def map_fn(key, line):
    mr.counter("most").add(2**63)
    yield line, 1

def reduce_fn(key, values):
    yield key, sum(values)
"""


class PoisonedCluster:
    """The cluster, and what somebody with bad intent does to it."""

    def __init__(self, cluster: Cluster, redis_url: str, directory: Path) -> None:
        self.cluster = cluster
        self.redis = redis.Redis.from_url(redis_url)
        self.directory = directory
        self.pids = self.running()
        (directory / "in").mkdir()
        for n in range(4):
            (directory / "in" / f"{n}.txt").write_text(f"line {n}\n")

    def running(self) -> dict[str, int]:
        """The processes of the daemons that run."""
        return {name: daemon.pid for name, daemon in self.cluster.daemons.items() if daemon.poll() is None}

    def alive(self) -> None:
        """No daemon has ended."""
        logs = {name: self.cluster.log(name) for name in self.pids if name not in self.running()}
        assert self.running() == self.pids, logs

    def publish(self, body: bytes, *, exchange: str = "", queue: str = "", **properties: Any) -> None:
        connection = pika.BlockingConnection(pika.URLParameters(self.cluster.rabbitmq_url))
        connection.channel().basic_publish(exchange, queue, body, pika.BasicProperties(**properties))
        connection.close()

    def request(self, **changes: Any) -> None:
        wanted = {
            "version": 1,
            "job": "count",
            "inputs": [str(self.directory / "in")],
            "output": str(self.directory / "refused"),
            **changes,
        }
        self.publish(json.dumps(wanted).encode(), queue=JOBS_QUEUE, content_type="application/json")

    def normal_job(self, name: str) -> None:
        output = self.directory / name
        job = self.directory / "count.py"
        self.cluster.succeed("submit", job, self.directory / "in", "-o", output, "-m", 4, "-r", 1, "--wait")
        assert (output / "part-00000").read_text() == "".join(f"line {n}\t1\n" for n in range(4))
        counters = json.loads((output / "_SUCCESS").read_text())["counters"]
        assert counters == {"most": 2**63 - 1}

    def restart(self) -> None:
        """Kill all daemons and start them again."""
        for name in list(self.cluster.daemons):
            self.cluster.kill(name)
        self.cluster.ensure()
        self.pids = self.running()


@contextmanager
def poisoned_cluster(directory: Path) -> Iterator[PoisonedCluster]:
    """Servers of Debian's packages, a coordinator, two workers, and a job registered as `count`."""
    rabbitmq, store = (
        PrivateRabbitMQ(directory / "rabbitmq"),
        PrivateRedis(directory / "redis", persistent=True),
    )
    with ExitStack() as stack:
        for server in (rabbitmq, store):
            server.start()
            stack.callback(server.stop)
        cluster = stack.enter_context(Cluster(directory / "cluster", rabbitmq.url, store.url, workers=2))
        site = PoisonedCluster(cluster, store.url, directory)
        (directory / "count.py").write_text(COUNTING)
        cluster.succeed("register", directory / "count.py", "--name", "count")
        yield site
