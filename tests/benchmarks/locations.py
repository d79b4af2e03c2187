"""What a reduce attempt of a large job costs its daemon before it runs. Usage: locations.py [MAPS] [REDUCES].

Prints the bytes read from Redis and the longest time the event loop was blocked while RunTasks were prepared.
"""

import asyncio
import sys
import tempfile
import time
from pathlib import Path
from typing import cast

sys.path.insert(0, str(Path(__file__).parents[2]))

from mr.adapters.open import open_store
from mr.ports.broker import Delivery
from mr.protocol.ids import AttemptId, Incarnation, JobId, TaskId, TaskKind, WorkerId, task_id
from mr.protocol.records import MapOutput, TaskResult, TaskStats
from mr.settings import Settings
from mr.workers.daemon.claimed_attempt import HeldAttempt
from mr.workers.daemon.preparation import Preparation
from mr.workers.daemon.spool import Spool
from mr.workers.messages import WorkerIdentity
from mr.workers.process.channel import frame
from tests.contract import samples
from tests.support.servers import PrivateRedis
from tests.support.specs import CODE, CODE_ID, make_spec, make_splits

JOB, ATTEMPTS, HOSTS = JobId("large"), 20, 4
ANN, LIFE = WorkerId("ann"), Incarnation("0123456789abcdef")


def output(index: int) -> MapOutput:
    """As one of HOSTS workers would commit it."""
    name = f"worker-{index % HOSTS}"
    path = f"/var/lib/mrmq/{name}/{LIFE}/jobs/{JOB}/outputs/map-{index:05d}-1.segments"
    return MapOutput(
        AttemptId(JOB, task_id(TaskKind.MAP, index), 1), WorkerId(name), LIFE, f"{name}:7070", name, path
    )


async def longest_block(seconds: list[float]) -> None:
    """Note how late the loop comes back from a sleep of a millisecond, until cancelled."""
    while True:
        begun = time.perf_counter()
        await asyncio.sleep(0.001)
        seconds.append(time.perf_counter() - begun - 0.001)


async def main(maps: int, reduces: int, url: str, directory: Path) -> None:
    """Fill a store, then prepare ATTEMPTS reduces."""
    store = open_store(Settings(redis_url=url))
    await store.connect()
    await store.put_code(CODE_ID, CODE, samples.MANIFEST, 60.0)
    splits = make_splits(maps)
    spec = make_spec(JOB, maps=maps, reduces=reduces)
    await store.create_job(spec, splits, samples.record(JOB), 1)
    for index in range(maps):
        task = task_id(TaskKind.MAP, index)
        await store.claim(JOB, task, ANN, LIFE, 60.0)
        await store.commit(AttemptId(JOB, task, 1), TaskResult(output(index), TaskStats(records_in=1)))
    spool = Spool(directory / "spool", ANN, LIFE)
    preparation = Preparation(store, spool, Settings(), WorkerIdentity(ANN, LIFE, "", ""))
    await prepare(preparation, 0)
    late: list[float] = []
    watch = asyncio.create_task(longest_block(late))
    begun = time.perf_counter()
    run_tasks = [await prepare(preparation, number) for number in range(1, ATTEMPTS)]
    each = (time.perf_counter() - begun) / len(run_tasks)
    watch.cancel()
    read_bytes = len((await store.map_outputs(JOB)).packed)
    print(f"{maps} maps x {reduces} reduces: {read_bytes / 1024:.0f} KiB from Redis")
    print(f"a RunTask of {max(run_tasks) / 1024:.0f} KiB in {each * 1000:.1f} ms")
    print(f"the loop was blocked {max(late) * 1000:.1f} ms at most")
    begun = time.perf_counter()
    (await store.map_outputs(JOB)).unpack(JOB)
    print(f"read and unpacked, as the child does: {(time.perf_counter() - begun) * 1000:.1f} ms")
    spool.close()
    await store.close()


async def prepare(preparation: Preparation, number: int) -> int:
    """Prepare one reduce; returns the bytes of its RunTask."""
    attempt = AttemptId(JOB, TaskId(f"reduce-{number:05d}"), 1)
    run_task = await preparation.run_task(HeldAttempt(attempt, None, cast(Delivery, None)))
    return len(frame(run_task))


if __name__ == "__main__":
    counts = [int(word) for word in sys.argv[1:]] or [10_000, 2_000]
    with tempfile.TemporaryDirectory() as scratch:
        redis = PrivateRedis(Path(scratch) / "redis")
        redis.start()
        try:
            asyncio.run(main(*counts, redis.url, Path(scratch)))
        finally:
            redis.stop()
