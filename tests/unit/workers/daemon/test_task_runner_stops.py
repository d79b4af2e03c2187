"""A stop of every kind arrives at every await of an attempt: it ends cleanly, once, whatever it was doing."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from mr.errors import BadMessage
from mr.ports.claims import ClaimReply
from mr.protocol.failures import Failure, FailureKind
from mr.protocol.ids import AttemptId, JobId, TaskId, TaskKind, task_kind
from mr.protocol.messages import TaskCommitted, TaskFailed
from mr.workers.daemon.claimed_attempt import StopReason
from mr.workers.messages import RunTask
from mr.workers.task.record_notes import place_of
from tests.support.scripted_worker import USER_ERROR, WORKER, ScriptedDelivery, ScriptedWorker
from tests.support.specs import make_spec

JOB, MAP, REDUCE = JobId("job-1"), TaskId("map-00000"), TaskId("reduce-00000")

Act = Callable[[ScriptedWorker, TaskId], Awaitable[None]]


# --- what arrives


async def superseded(worker: ScriptedWorker, task: TaskId) -> None:
    await worker.commit_elsewhere(JOB, task)
    worker.runner.stop_matching(lambda attempt: attempt.id.task == task, StopReason.SUPERSEDED)


async def lease_lost(worker: ScriptedWorker, task: TaskId) -> None:
    if task in await worker.store.claims(JOB):
        await worker.take_over(JOB, task)
    worker.runner.stop_matching(lambda attempt: attempt.id.task == task, StopReason.LEASE_LOST)


async def job_ended(worker: ScriptedWorker, task: TaskId) -> None:
    await worker.end_job(JOB)


async def closed(worker: ScriptedWorker, task: TaskId) -> None:
    await worker.close()


async def drained_then_closed(worker: ScriptedWorker, task: TaskId) -> None:
    await worker.runner.close_intake()
    await worker.close()


ACTS: list[Act] = [superseded, lease_lost, job_ended, closed, drained_then_closed]


# --- what the attempt does


async def succeeding(worker: ScriptedWorker) -> None:
    worker.executor.prints = "said"


async def failing(worker: ScriptedWorker) -> None:
    worker.executor.prints, worker.executor.fails = "said", USER_ERROR


async def searching(worker: ScriptedWorker) -> None:
    """A record ends its process: at full speed, in the search, and alone; without it the attempt succeeds."""

    def fails(run_task: RunTask) -> Failure | None:
        if Path(run_task.known_bad).exists():
            return None
        if run_task.started:
            Path(run_task.started).write_bytes(place_of(0, 7))
        return Failure(FailureKind.KILLED, "killed by SIGSEGV", signal=11)

    worker.executor.fails_in = fails


async def losing_commit(worker: ScriptedWorker) -> None:
    """Another worker commits while the attempt runs, and the news is late."""
    worker.executor.meanwhile = lambda task: worker.commit_elsewhere(JOB, task)


async def unkept(worker: ScriptedWorker) -> None:
    """The disk is full when the output is to be kept."""

    def keep_output(*arguments: object) -> Path:
        raise OSError(28, "No space left on device")

    worker.spool.keep_output = keep_output  # type: ignore[method-assign]


async def unprepared(worker: ScriptedWorker) -> None:
    async def get_spec(job: JobId) -> None:
        raise BadMessage("another version wrote it")

    worker.store.get_spec = get_spec  # type: ignore[method-assign, assignment]


async def unreadable(worker: ScriptedWorker) -> None:
    claim = worker.store.claim

    async def claim_unreadably(job: JobId, task: TaskId, holder: str, *rest: object) -> ClaimReply:
        reply = await claim(job, task, holder, *rest)  # type: ignore[arg-type]
        return msgspec.structs.replace(reply, unreadable="?") if holder == WORKER else reply

    worker.store.claim = claim_unreadably  # type: ignore[method-assign, assignment]


WAYS = [succeeding, failing, searching, losing_commit, unkept, unprepared, unreadable]
TASKS = {"map": (MAP, 2), "reduce": (REDUCE, 2), "map_only": (MAP, 0)}


async def run(
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    way: Callable[[ScriptedWorker], Awaitable[None]],
    kind: str,
    act: Act,
    at: int,
) -> bool:
    """One attempt with `act` at its await number `at`. Returns whether it has so many awaits."""
    task, reduces = TASKS[kind]
    worker = ScriptedWorker(directory)
    skip = 1 if way is searching and task == MAP else None
    spec = make_spec(JOB, maps=1, reduces=reduces, output=str(directory), skip_bad_records=skip)
    await worker.open(spec)
    if task == REDUCE:
        await worker.commit_elsewhere(JOB, MAP)
    await way(worker)
    with monkeypatch.context() as patch:
        worker.points.replace_threads(patch)
        worker.points.at = worker.points.count + at
        worker.points.act = lambda: act(worker, task)
        delivery = await asyncio.wait_for(worker.deliver(JOB, task), 5)
        if worker.points.acting is not None:
            await asyncio.wait_for(worker.points.acting, 5)
    await check(worker, task, delivery, act)
    worker.spool.close()
    return worker.points.acting is not None


async def check(worker: ScriptedWorker, task: TaskId, delivery: ScriptedDelivery, act: Act) -> None:
    """What must hold when an attempt has ended, however it did."""
    assert len(delivery.settled) == 1
    if worker.closed_at is not None:
        assert {"reject"} >= {name.split()[-1] for name in worker.points.names[worker.closed_at :]}
    claim = (await worker.store.claims(JOB)).get(task)
    assert claim is None or not any(holder.worker == WORKER for holder in claim.running)
    reports = worker.broker.reports
    assert len(reports) <= 1
    if delivery.settled == ["requeue"]:
        assert not reports and act in (closed, drained_then_closed)
        assert claim is None or not claim.winner or claim.winner > 1
    results = await worker.store.get_results(JOB, task_kind(task))
    if claim is not None and claim.winner == 1 and task in results:
        assert isinstance(reports[0], TaskCommitted)
    if reports and isinstance(reports[0], TaskFailed):
        assert claim is None or claim.winner != 1
        assert "failed over this task" not in reports[0].failure.message  # the runner never fails itself
    check_files(
        worker,
        task,
        kept=claim is not None and claim.winner == 1,
        ended=act is job_ended and worker.points.acting is not None,
    )


def check_files(worker: ScriptedWorker, task: TaskId, *, kept: bool, ended: bool) -> None:
    """Files and offers are those of a committed map output, and nothing else."""
    offered = worker.outputs.find(AttemptId(JOB, task, 1))
    expected = []
    if kept and offered is not None and task_kind(task) is TaskKind.MAP:
        expected = [f"{JOB}/outputs/{task}-1.index", f"{JOB}/outputs/{task}-1.segments"]
    found = [name for name in worker.files() if ended or not name.startswith(f"{JOB}/code-")]
    assert found == expected
    assert (offered is not None) == bool(expected)


@pytest.mark.parametrize("kind", TASKS)
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.__name__)
async def test_a_stop_in_every_await(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    way: Callable[[ScriptedWorker], Awaitable[None]],
    kind: str,
    act: Act,
) -> None:
    at = 1
    while await run(tmp_path / str(at), monkeypatch, way, kind, act, at):
        at += 1
    assert at > 10


async def test_the_work_without_a_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = ScriptedWorker(tmp_path)
    await worker.open(make_spec(JOB, maps=1))
    worker.points.replace_threads(monkeypatch)
    delivery = await worker.deliver(JOB, MAP)
    (report,) = worker.broker.reports
    assert delivery.settled == ["ack"]
    assert isinstance(report, TaskCommitted)
    assert worker.outputs.find(AttemptId(JOB, MAP, 1)) is not None
    worker.spool.close()


async def test_the_id_of_an_ended_job_that_the_store_forgot_may_be_used_again(tmp_path: Path) -> None:
    worker = ScriptedWorker(tmp_path)
    await worker.open(make_spec(JOB, maps=1))
    await worker.end_job(JOB)
    worker.store.server.flush()
    await worker.open(make_spec(JOB, maps=1))
    delivery = await worker.deliver(JOB, MAP)
    assert delivery.settled == ["ack"]
    (report,) = worker.broker.reports
    assert isinstance(report, TaskCommitted)
    worker.spool.close()
