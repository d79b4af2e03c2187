"""A task's process that is killed, told to end, or frozen at each point that it comes to."""

import os
import signal

from tests.faults.processes.cases import WORKER_POINTS, At, cases
from tests.faults.processes.cluster import LEASE_SECONDS, TIMES, Job, Jobs, eventually
from tests.faults.processes.conftest import Expected
from tests.faults.processes.points import Reached

IN_CHILD = ("map-mid-work", "map-after-write", "reduce-mid-fetch", "reduce-mid-work", "reduce-after-write")
POINTS = tuple(at for at in WORKER_POINTS if at.point in IN_CHILD)
#: Long enough for an attempt that is not held, on a busy machine.
TIME_LIMIT_SECONDS = 6.0


async def strike(jobs: Jobs, point: str, sign: signal.Signals, **options: object) -> tuple[Job, Reached]:
    """Submit a job, and send a signal to the first process that comes to the point."""
    jobs.cluster.arming.arm(point)
    job = await jobs.submit(max_attempts=10, **options)
    reached = await jobs.cluster.reached(point)
    os.kill(reached.pid, sign)
    return job, reached


async def ran_again(job: Job, reached: Reached) -> None:
    """The job completes; the struck attempt has failed, and a later one counts."""
    record = await job.completed()
    assert record.attempts_failed >= 1
    assert await job.attempt(reached.task) >= 2


@cases(
    "task process killed",
    POINTS,
    lambda at: "the attempt fails and names the signal; the task runs again in a new process; same bytes",
    selected=("mid-map", "after data write"),
)
async def test_killed(jobs: Jobs, expected: Expected, at: At) -> None:
    job, reached = await strike(jobs, at.point, signal.SIGKILL)
    await ran_again(job, reached)
    await job.verify(expected[at.reduces])


@cases(
    "task process told to end (SIGTERM)",
    POINTS,
    lambda at: "the attempt fails and names the signal; the task runs again in a new process; same bytes",
)
async def test_told_to_end(jobs: Jobs, expected: Expected, at: At) -> None:
    job, reached = await strike(jobs, at.point, signal.SIGTERM)
    await ran_again(job, reached)
    await job.verify(expected[at.reduces])


@cases(
    "task process frozen for good, with a time limit",
    POINTS,
    lambda at: "its worker kills it at the limit; the task runs again; same bytes",
)
async def test_frozen_for_good(jobs: Jobs, expected: Expected, at: At) -> None:
    job, reached = await strike(jobs, at.point, signal.SIGSTOP, task_timeout=TIME_LIMIT_SECONDS)
    await ran_again(job, reached)
    await job.verify(expected[at.reduces])


@cases(
    "task process frozen beyond a lease, then continued",
    POINTS,
    lambda at: "its worker keeps the lease for it; nothing runs twice; same bytes",
    selected=("mid-reduce",),
)
async def test_frozen_for_a_while(jobs: Jobs, expected: Expected, at: At) -> None:
    job, reached = await strike(jobs, at.point, signal.SIGSTOP)
    beats = int(2 * LEASE_SECONDS / float(TIMES["MR_HEARTBEAT_SECONDS"]))
    view = await jobs.worker(reached.daemon)
    assert view is not None
    last = view.beat.number + beats
    await eventually(lambda: _has_beaten(jobs, reached.daemon, last), "two leases to pass")
    os.kill(reached.pid, signal.SIGCONT)
    reached.release()
    await job.completed_without_reruns()
    await job.verify(expected[at.reduces])


async def _has_beaten(jobs: Jobs, name: str, number: int) -> bool:
    view = await jobs.worker(name)
    return view is not None and view.beat.number >= number
