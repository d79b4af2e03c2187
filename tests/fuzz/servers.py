"""The target of real daemons on a real RabbitMQ and a real Redis."""

import contextlib
import json
import random
import shutil
import tempfile
from pathlib import Path

import redis

from mr.adapters.redis import keys
from mr.protocol.ids import CodeId, JobId, TaskKind, WorkerId
from mr.protocol.queues import CONTROL_EXCHANGE, JOBS_QUEUE, REPORTS_QUEUE, TASKS_QUEUE
from tests.fuzz.harness import Case
from tests.fuzz.site import DIRECTORY, LIFE, MAP, Daemons
from tests.support.amqp_tools import depth
from tests.support.poisoned_cluster import PoisonedCluster, poisoned_cluster
from tests.support.waiting import until

#: How long the queues may take to become empty.
TAKEN_SECONDS = 90.0


class Servers:
    """The same messages and records as for the target `daemons`, on real servers."""

    name = "servers"
    case_seconds = 600.0

    def __init__(self) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="mr-fuzz-"))
        self._stack = contextlib.ExitStack()
        self._site: PoisonedCluster | None = None
        self._draw = Daemons()
        self._jobs = 0

    async def close(self) -> None:
        """Stop the cluster and its servers."""
        self._stack.close()
        shutil.rmtree(self._directory, ignore_errors=True)

    def draw(self, rng: random.Random) -> Case:
        """Many messages and records."""
        return self._draw.draw(rng)

    async def check(self, case: Case) -> None:
        """Feed them; then a job completes, also once the daemons were killed and started again."""
        if self._site is None:
            self._site = self._stack.enter_context(poisoned_cluster(self._directory))
        site = self._site
        for kind, data in case:
            self._feed(site, kind, data)
        url = site.cluster.rabbitmq_url
        queues = (JOBS_QUEUE, TASKS_QUEUE, REPORTS_QUEUE)
        until(lambda: all(depth(url, queue) == 0 for queue in queues), "all to be taken", TAKEN_SECONDS)
        self._normal_job(site)
        site.alive()
        site.restart()
        self._normal_job(site)
        site.alive()

    def _normal_job(self, site: PoisonedCluster) -> None:
        self._jobs += 1
        site.normal_job(f"normal-{self._jobs}")

    def _feed(self, site: PoisonedCluster, kind: str, data: bytes) -> None:
        life = site.redis.hget("mr:worker:w1", "incarnation") or b""
        data = data.replace(LIFE.encode(), life)
        if data[:1] == b"{":
            data = data.replace(DIRECTORY.encode(), json.dumps(str(site.directory))[1:-1].encode())
        where, _, how = kind.partition(":")
        if where == "jobs":
            content_type, type_ = how.split("|")
            site.publish(data, queue=JOBS_QUEUE, content_type=content_type, type=type_, reply_to="nobody")
        elif where == "control":
            site.publish(data, exchange=CONTROL_EXCHANGE, content_type="application/msgpack")
        elif where in (TASKS_QUEUE, REPORTS_QUEUE):
            site.publish(data, queue=where, content_type="application/msgpack")
        else:
            self._spoil(site.redis, how, data)

    def _spoil(self, client: "redis.Redis", what: str, data: bytes) -> None:
        """Write a record, as another program with the same Redis might."""
        self._jobs += 1
        job = JobId(f"spoilt-{self._jobs}")
        if what == "beat":
            client.hset(
                keys.worker_key(WorkerId("w9")), mapping={"beat": data, "at_ms": 1 << 42, "lease_ms": 9}
            )
            client.zadd(keys.WORKERS_KEY, {"w9": 1 << 42})
            return
        if what == "manifest":
            client.hset(keys.REGISTRY_KEY, "bad", data)
            client.hset(keys.code_key(CodeId(f"sha256:{self._jobs:064x}")), mapping={"bundle": data})
            return
        client.zadd(keys.JOBS_KEY, {job: self._jobs})
        client.hset(keys.claims_key(job), mapping={"open": "1"})
        if what == "record":
            client.hset(keys.job_key(job), mapping={"record": data})
        elif what == "spec":
            client.set(keys.spec_key(job), data)
        elif what == "task":
            client.hset(keys.tasks_key(job), MAP, data)
        elif what == "claim":
            client.hset(keys.claims_key(job), MAP, data)
        else:
            client.hset(keys.results_key(job, TaskKind.MAP), MAP, data)
