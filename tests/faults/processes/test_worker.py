"""A worker that is killed, restarted, drained or frozen at each named point of a task."""

import signal

from mr.protocol.ids import TaskId
from tests.faults.processes.cases import NOT_BEGUN, RECORDED, SUPERSEDED, WORKER_POINTS, At, cases
from tests.faults.processes.cluster import Job, Jobs, eventually
from tests.faults.processes.conftest import Expected
from tests.faults.processes.points import Reached

#: Here no attempt has begun. (A reduce may find its inputs gone with the worker, and begin again.)
UNCLAIMED = {"map-before-claim"}
KEPT = "what was recorded counts, and the task is not run again; same bytes"
AGAIN = "the task runs again, or goes on from what was recorded; each record counts once; same bytes"


async def strike(jobs: Jobs, at: At) -> tuple[Job, Reached]:
    """Submit a job, and wait until a worker stands at the point."""
    jobs.cluster.arming.arm(at.point)
    job = await jobs.submit(reduces=at.reduces)
    return job, await jobs.cluster.reached(at.point)


@cases(
    "worker killed",
    WORKER_POINTS,
    lambda at: KEPT if at.point in RECORDED else AGAIN,
    selected=(
        "after claim",
        "mid-map",
        "while keeping",
        "before ack",
        "mid-fetch",
        "after commit, before rename",
    ),
)
async def test_killed(jobs: Jobs, expected: Expected, at: At) -> None:
    job, reached = await strike(jobs, at)
    jobs.cluster.kill(reached.daemon)
    await job.completed()
    if at.point in RECORDED | UNCLAIMED:
        assert not reached.task or await job.attempt(reached.task) == 1
    await job.verify(expected[at.reduces])


@cases(
    "worker killed and restarted",
    WORKER_POINTS,
    lambda at: KEPT if at.point in RECORDED else AGAIN,
    selected=("after the Redis record", "after rename"),
)
async def test_restarted(jobs: Jobs, expected: Expected, at: At) -> None:
    job, reached = await strike(jobs, at)
    jobs.cluster.kill(reached.daemon)
    jobs.cluster.start(reached.daemon)
    await job.completed()
    if at.point in RECORDED | UNCLAIMED:
        assert not reached.task or await job.attempt(reached.task) == 1
    await job.verify(expected[at.reduces])


@cases(
    "worker drained",
    WORKER_POINTS,
    lambda at: (
        "the task is handed to another worker; the worker ends with 0"
        if at.point in NOT_BEGUN
        else "it finishes the task and ends with 0; no attempt is made twice"
    ),
    selected=("after report",),
)
async def test_drained(jobs: Jobs, expected: Expected, at: At) -> None:
    job, reached = await strike(jobs, at)
    jobs.cluster.send(reached.daemon, signal.SIGTERM)
    await jobs.cluster.logged(reached.daemon, "draining")
    reached.release()
    await job.completed()
    assert await jobs.cluster.ended(reached.daemon) == 0
    attempts = {view.record.task_id: view.record.attempt for view in await job.client.tasks(job.id)}
    if at.point in NOT_BEGUN:
        assert attempts.pop(TaskId(reached.task)) in (1, 2)
    assert set(attempts.values()) == {1}
    await job.verify(expected[at.reduces])


@cases(
    "worker frozen beyond its lease, then continued",
    WORKER_POINTS,
    lambda at: (
        "what it recorded counts; the job ends without it"
        if at.point in RECORDED
        else "its output is made again elsewhere; it goes on as a live worker"
        if at.point in SUPERSEDED
        else "another worker commits the task; what it made is discarded"
    ),
    selected=("kept, before the Redis record",),
)
async def test_frozen(jobs: Jobs, expected: Expected, at: At) -> None:
    cluster = jobs.cluster
    cluster.arming.arm("finish-before-success")
    job, reached = await strike(jobs, at)
    cluster.send(reached.daemon, signal.SIGSTOP)
    finishing = await cluster.reached("finish-before-success")  # all is committed without it
    cluster.send(reached.daemon, signal.SIGCONT)
    reached.release()
    if at.point not in RECORDED | SUPERSEDED:
        await eventually(lambda: not own_files(job, reached), "what the frozen worker made to be discarded")
    await eventually(lambda: _is_live(jobs, reached.daemon), f"{reached.daemon} to live again")
    finishing.release()
    if at.point in RECORDED:
        assert not reached.task or await job.attempt(reached.task) == 1
    await job.verify(expected[at.reduces])


def own_files(job: Job, reached: Reached) -> list[str]:
    """What a worker's spool has of the task at whose point it was struck."""
    files = [path for path in job.cluster.files(job.id) if reached.daemon in path.parts]
    return [str(path) for path in files if any(part.startswith(reached.task) for part in path.parts)]


async def _is_live(jobs: Jobs, name: str) -> bool:
    view = await jobs.worker(name)
    return view is not None and view.live
