"""The coordinator killed, replaced, drained or frozen: at its own points, and while a worker is at each."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.faults.processes.cases import WORKER_POINTS, At, cases
from tests.faults.processes.cluster import COORDINATOR, FaultCluster, Job, Jobs, eventually
from tests.faults.processes.conftest import Expected
from tests.faults.processes.points import Reached

STANDBY = "coordinator-2"
POINTS = (
    At("request-planned", "a request planned, before it is stored"),
    At("request-stored", "a request stored, before it is started"),
    At("request-not-answered", "a request stored, before it is answered"),
    At("request-not-acknowledged", "a request answered, before ack"),
    At("map-persisted", "between persist and publish of maps"),
    At("task-published", "while tasks are published"),
    At("report-received", "while a report is handled"),
    At("report-not-acknowledged", "a report handled, before ack"),
    At("reduce-persisted", "between persist and publish of reduces"),
    At("finish-before-success", "while finishing, before _SUCCESS"),
    At("finish-after-success", "while finishing, after _SUCCESS"),
    At("end-not-stored", "output finished, before the end is stored"),
    At("end-stored", "the end stored, before workers are told"),
)


@asynccontextmanager
async def struck(jobs: Jobs, at: At) -> AsyncIterator[tuple[Job, Reached]]:
    """A job, and who waits at the point. The request is answered when the block has ended."""
    jobs.cluster.arming.arm(at.point)
    job = await jobs.submit(reduces=at.reduces, wait=False)
    asking = asyncio.create_task(job.client.submit(job.request))
    try:
        yield job, await jobs.cluster.reached(at.point)
        assert (await asking).accepted
    finally:
        asking.cancel()


@cases(
    "coordinator killed and restarted",
    POINTS,
    lambda at: "the job goes on where it stood; no task runs twice; same bytes",
    selected=(
        "a request stored, before it is answered",
        "between persist and publish of maps",
        "while a report is handled",
        "while finishing, after _SUCCESS",
    ),
)
async def test_restarted(jobs: Jobs, expected: Expected, at: At) -> None:
    async with struck(jobs, at) as (job, _):
        jobs.cluster.kill(COORDINATOR)
        jobs.cluster.start(COORDINATOR)
        await job.completed_without_reruns()
    await job.verify(expected[at.reduces])


@cases(
    "coordinator drained and restarted",
    POINTS,
    lambda at: "it ends with 0; the next one goes on where the job stood; no task runs twice; same bytes",
    selected=("a request planned, before it is stored",),
)
async def test_drained(jobs: Jobs, expected: Expected, at: At) -> None:
    async with struck(jobs, at) as (job, reached):
        jobs.cluster.send(COORDINATOR, signal.SIGTERM)
        reached.release()
        assert await jobs.cluster.ended(COORDINATOR) == 0
        jobs.cluster.start(COORDINATOR)
        await job.completed_without_reruns()
    await job.verify(expected[at.reduces])


@asynccontextmanager
async def standby(cluster: FaultCluster) -> AsyncIterator[None]:
    """A second coordinator, which has left at the end."""
    cluster.start(STANDBY)
    await cluster.logged(STANDBY, "coordinator started")
    yield
    cluster.send(STANDBY, signal.SIGTERM)
    assert await cluster.ended(STANDBY) == 0
    del cluster.daemons[STANDBY]


@cases(
    "coordinator killed, a standby takes over",
    POINTS,
    lambda at: "the standby goes on where the job stood; no task runs twice; same bytes",
    selected=("while tasks are published",),
)
async def test_replaced(jobs: Jobs, expected: Expected, at: At) -> None:
    async with standby(jobs.cluster), struck(jobs, at) as (job, _):
        jobs.cluster.kill(COORDINATOR)
        await job.completed_without_reruns()
    await job.verify(expected[at.reduces])


@cases(
    "coordinator frozen beyond its lease, then continued",
    POINTS,
    lambda at: "a standby takes over and ends the job; awake again, the old leader stands by",
    selected=("between persist and publish of maps",),
)
async def test_frozen(jobs: Jobs, expected: Expected, at: At) -> None:
    cluster = jobs.cluster
    async with standby(cluster), struck(jobs, at) as (job, reached):
        cluster.send(COORDINATOR, signal.SIGSTOP)
        await cluster.logged(STANDBY, "coordinating, epoch")
        await job.completed_without_reruns()
        cluster.send(COORDINATOR, signal.SIGCONT)
        reached.release()
        await cluster.logged(COORDINATOR, "another coordinator took over; standing by")
    await job.verify(expected[at.reduces])


@cases(
    "coordinator killed and restarted",
    WORKER_POINTS,
    lambda at: "the worker goes on; its attempt counts; no task runs twice; same bytes",
    selected=("after the Redis record",),
)
async def test_restarted_around_a_worker(jobs: Jobs, expected: Expected, at: At) -> None:
    async with struck(jobs, at) as (job, reached):
        jobs.cluster.kill(COORDINATOR)
        jobs.cluster.start(COORDINATOR)
        await jobs.cluster.logged(COORDINATOR, "coordinating, epoch")
        reached.release()
        await job.completed_without_reruns()
    await job.verify(expected[at.reduces])


@cases(
    "coordinator frozen beyond its lease, then continued",
    WORKER_POINTS,
    lambda at: "it leads again; the worker's attempt counts; no task runs twice; same bytes",
)
async def test_frozen_around_a_worker(jobs: Jobs, expected: Expected, at: At) -> None:
    async with struck(jobs, at) as (job, reached):
        jobs.cluster.send(COORDINATOR, signal.SIGSTOP)
        await eventually(job.client.missing_coordinator, "the lead to run out")
        reached.release()
        jobs.cluster.send(COORDINATOR, signal.SIGCONT)
        await job.completed_without_reruns()
    await job.verify(expected[at.reduces])
