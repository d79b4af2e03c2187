"""Poison on real servers: no daemon ends by it, nor at its restart, and a normal job then completes."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from mr.bundle import content_id
from mr.protocol.codec import pack
from mr.protocol.ids import AttemptId, Incarnation, JobId, TaskId, WorkerId
from mr.protocol.messages import TaskCommitted, WorkerStopped
from mr.protocol.queues import CONTROL_EXCHANGE, DEAD_QUEUE, JOBS_QUEUE, REPORTS_QUEUE, TASKS_QUEUE
from tests.support.amqp_tools import depth
from tests.support.poisoned_cluster import COUNTING, PoisonedCluster, poisoned_cluster
from tests.support.servers import PrivateRabbitMQ, PrivateRedis
from tests.support.specs import make_manifest
from tests.support.waiting import until
from tests.support.zips import POISON

JUNK = (b"", b"\xc1", b"\xff\xfe", b"{" * 100_000, b"x" * (2 << 20), msgspec.msgpack.encode([1, "a\0", -1]))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[PoisonedCluster]:
    if not (PrivateRabbitMQ.available() and PrivateRedis.available()):
        pytest.skip("only servers of Debian's packages can be had for one test")
    with poisoned_cluster(tmp_path) as site:
        yield site


def poison_messages(site: PoisonedCluster) -> None:
    for body in JUNK:
        for queue in (JOBS_QUEUE, TASKS_QUEUE, REPORTS_QUEUE):
            site.publish(body, queue=queue, content_type="application/msgpack")
        site.publish(body, exchange=CONTROL_EXCHANGE, content_type="application/msgpack")
    site.publish(b"x", queue=REPORTS_QUEUE, content_type=b"\xff", type=b"\xff", correlation_id=b"\xff")
    site.publish(pack(WorkerStopped(WorkerId("w1"), Incarnation("x"))), queue=REPORTS_QUEUE)
    for split_size in ("9" * 400, 2**70, "999999999999999T", 1e308):
        site.request(split_size=split_size)
        site.request(task_memory=split_size, task_timeout=split_size)
    site.request(output="/tmp/a\0b")
    site.request(inputs=["/tmp/a\0b"])
    site.request(params={"a": "b" * 900_000})


def poison_code(site: PoisonedCluster) -> None:
    for name in ("unnamed", "bomb", "outside", "another entry"):
        data = POISON[name]()
        code = make_manifest(content_id(data), ("map_fn",))
        site.redis.hset(f"mr:bundle:{code.code_id}", mapping={"bundle": data, "manifest": pack(code)})
        site.request(job=code.code_id, output=str(site.directory / f"bad-{name.replace(' ', '-')}"))


def poison_store(site: PoisonedCluster) -> None:
    """Keys of another type, ids that are no UTF-8, records that are none."""
    site.redis.zadd("mr:jobs", {b"\xff\xfe": 1, "wrong-type": 2, "no-record": 3, "absurd": 4})
    site.redis.zadd("mr:workers", {b"\xff": 10**12, "w9": 10**13, "w8": 10**13})
    site.redis.set("mr:worker:w9", "a string")
    site.redis.hset("mr:worker:w8", mapping={"beat": b"\xc1", "at_ms": "x", "lease_ms": ""})
    for key in ("job", "claims", "tasks", "spec"):
        site.redis.lpush(f"mr:{{wrong-type}}:{key}", "a list")
    site.redis.hset("mr:{no-record}:claims", "open", "1")
    site.redis.hset("mr:{absurd}:claims", mapping={"open": "1", b"\xff": b"\xff"})
    site.redis.hset("mr:{absurd}:job", mapping={"record": msgspec.msgpack.encode({"maps": 2**64 - 1})})


def test_poison_ends_no_daemon_nor_its_restart(site: PoisonedCluster) -> None:
    poison_messages(site)
    poison_code(site)
    poison_store(site)
    forged = TaskCommitted(
        AttemptId(JobId("no-record"), TaskId("map-00000"), 1), WorkerId("w1"), Incarnation("x")
    )
    site.publish(pack(forged), queue=REPORTS_QUEUE, content_type="application/msgpack")
    url = site.cluster.rabbitmq_url
    queues = (JOBS_QUEUE, TASKS_QUEUE, REPORTS_QUEUE)
    until(lambda: all(depth(url, queue) == 0 for queue in queues), "all poison to be taken", 60)
    assert depth(url, DEAD_QUEUE) > 0
    site.normal_job("first")
    site.alive()
    site.restart()
    site.normal_job("second")
    site.alive()


@pytest.mark.parametrize("kind", ["claims", "results:map", "spec"])
def test_a_job_whose_keys_are_spoilt_fails_alone(site: PoisonedCluster, kind: str) -> None:
    """While it runs: its keys turn into lists."""
    job = site.directory / "slow.py"
    job.write_text(COUNTING.replace("yield line, 1", "import time; time.sleep(3); yield line, 1"))
    arguments = ("submit", job, site.directory / "in", "-o", site.directory / "spoilt", "-m", 4, "-r", 1)
    site.cluster.succeed(*arguments, "--job-id", "spoilt")
    until(lambda: site.redis.hlen("mr:{spoilt}:claims") > 1, "a task of it to run", 30)
    site.redis.delete(f"mr:{{spoilt}}:{kind}")
    site.redis.lpush(f"mr:{{spoilt}}:{kind}", "a list")
    until(lambda: site.cluster.state("spoilt") in ("FAILED", "COMPLETED"), "the job to end", 60)
    site.normal_job("other")
    site.alive()
