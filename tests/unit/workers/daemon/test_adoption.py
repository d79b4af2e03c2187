"""A worker takes over the map outputs that dead ones left in its spool, whatever happens meanwhile."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from mr.adapters.memory.store import MemoryStore
from mr.protocol.claims import Placement
from mr.protocol.codec import pack, unpack
from mr.protocol.ids import AttemptId, CodeId, Incarnation, JobId, TaskId, WorkerId
from mr.protocol.records import JobState, MapOutput, TaskResult, TaskStats
from mr.workers.daemon.adoption import adopt
from mr.workers.daemon.spool import Spool
from mr.workers.messages import WorkerIdentity
from mr.workers.shuffle.transfer.served_outputs import ServedOutputs
from tests.support.await_points import AwaitPoints
from tests.support.job_records import job_record
from tests.support.specs import CODE, CODE_ID, make_spec, make_splits

JOB, TASK = JobId("job-1"), TaskId("map-00000")


class WorkerIncarnation:
    """One life of a worker: its spool and what it offers."""

    def __init__(self, root: Path, name: str) -> None:
        self.identity = WorkerIdentity(WorkerId("w1"), Incarnation(name), f"{name}:1", "host")
        self.spool = Spool(root, self.identity.worker, self.identity.incarnation)
        self.outputs = ServedOutputs()

    def output(self, attempt: int = 1) -> MapOutput:
        path = str(self.spool.output_path(AttemptId(JOB, TASK, attempt)))
        return MapOutput(AttemptId(JOB, TASK, attempt), self.identity.worker, *self._where, path)

    @property
    def _where(self) -> tuple[Incarnation, str, str]:
        return self.identity.incarnation, self.identity.address, self.identity.host

    async def commit(self, store: MemoryStore, attempt: int = 1) -> None:
        """Make the map's output and have it recorded."""
        made = self.spool.make_attempt(AttemptId(JOB, TASK, attempt)) / "segments"
        made.write_bytes(b"data")
        self.spool.keep_output(AttemptId(JOB, TASK, attempt), made, pack(self.output(attempt)))
        reply = await store.claim(JOB, TASK, self.identity.worker, self.identity.incarnation, 60.0)
        assert reply.attempt == attempt
        assert await store.commit(
            AttemptId(JOB, TASK, attempt), TaskResult(self.output(attempt), TaskStats(3))
        )

    async def adopt(self, store: MemoryStore) -> None:
        await adopt(store, self.spool, self.outputs, self.identity)

    def die(self) -> None:
        """Leave everything as SIGKILL does: no file is touched, the kernel lets go of the locks."""
        assert self.spool._lock is not None
        self.spool._lock.close()
        self.spool._lock = None
        for _, lock in self.spool._dead:
            lock.close()

    def files(self) -> list[str]:
        return sorted(path.name for path in self.spool.directory.rglob("map-*") if path.is_file())


@pytest.fixture
def lives(tmp_path: Path) -> Iterator[Callable[[str], WorkerIncarnation]]:
    """Makes lives in one spool; ends them afterwards."""
    made: list[WorkerIncarnation] = []

    def make(name: str) -> WorkerIncarnation:
        made.append(WorkerIncarnation(tmp_path, name))
        return made[-1]

    yield make
    for life in made:
        life.spool.close()


@pytest.fixture
async def store() -> MemoryStore:
    found = MemoryStore(lambda: 1000.0)
    await found.connect()
    spec = make_spec(JOB, maps=1)
    await found.put_code(CodeId(CODE_ID), CODE, spec.code, 3600.0)
    assert await found.create_job(spec, make_splits(1), job_record(JOB), 1)
    return found


async def recorded(store: MemoryStore) -> list[MapOutput]:
    return (await store.map_outputs(JOB)).unpack(JOB)


async def test_an_output_that_is_needed_is_registered_offered_and_moved(
    store: MemoryStore, lives: Callable[[str], WorkerIncarnation]
) -> None:
    first = lives("first")
    await first.commit(store)
    first.die()
    second = lives("second")
    await second.adopt(store)
    (output,) = await recorded(store)
    assert (output.incarnation, output.address, output.attempt.number) == ("second", "second:1", 1)
    path = second.outputs.find(AttemptId(JOB, TASK, 1))
    assert path == Path(output.path)
    assert path.read_bytes() == b"data"
    assert unpack(path.with_suffix(".index").read_bytes(), MapOutput) == output
    assert second.outputs.admits(JOB, "secret")
    assert not first.spool.directory.exists()


async def cancelled(store: MemoryStore) -> None:
    await store.end_job(job_record(JOB, state=JobState.CANCELLED), [], 1, 3600.0)


async def reduced(store: MemoryStore) -> None:
    await store.save_job(job_record(JOB, state=JobState.REDUCING, reduces_committed=2), [], 1)


async def lost(store: MemoryStore) -> None:
    await store.reopen(JOB, {TASK: Placement(1, Incarnation("first"))}, 1)


async def made_again(store: MemoryStore) -> None:
    await lost(store)
    await store.claim(JOB, TASK, WorkerId("w2"), Incarnation("other"), 60.0)
    where = (WorkerId("w2"), Incarnation("other"), "other:1", "host", "/other/x")
    assert await store.commit(
        AttemptId(JOB, TASK, 2), TaskResult(MapOutput(AttemptId(JOB, TASK, 2), *where), TaskStats())
    )


@pytest.mark.parametrize("meanwhile", [cancelled, reduced, lost, made_again], ids=lambda f: f.__name__)
async def test_an_output_that_is_not_needed_is_deleted(
    store: MemoryStore,
    lives: Callable[[str], WorkerIncarnation],
    meanwhile: Callable[[MemoryStore], Awaitable[None]],
) -> None:
    first = lives("first")
    await first.commit(store)
    first.die()
    await meanwhile(store)
    before = await recorded(store)
    second = lives("second")
    await second.adopt(store)
    assert second.outputs.jobs() == ()
    assert second.files() == []
    assert not first.spool.directory.exists()
    assert await recorded(store) == before


@pytest.mark.parametrize("meanwhile", [cancelled, lost, made_again], ids=lambda f: f.__name__)
async def test_what_happens_in_every_await_leaves_no_output_that_is_not_recorded(
    store: MemoryStore,
    tmp_path: Path,
    lives: Callable[[str], WorkerIncarnation],
    meanwhile: Callable[[MemoryStore], Awaitable[None]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    at = 1
    while True:
        fresh = MemoryStore(lambda: 1000.0)
        await fresh.connect()
        spec = make_spec(JOB, maps=1)
        assert await fresh.create_job(spec, make_splits(1), job_record(JOB), 1)
        root = tmp_path / str(at)
        first, second = WorkerIncarnation(root, "first"), None
        await first.commit(fresh)
        first.die()
        points = AwaitPoints()
        points.at, points.act = at, partial(meanwhile, fresh)
        second = WorkerIncarnation(root, "second")
        with monkeypatch.context() as patch:
            points.replace_threads(patch)
            await adopt(points.wrap(fresh), second.spool, second.outputs, second.identity)
        held = [output for output in await recorded(fresh) if output.incarnation == "second"]
        offered = second.outputs.find(AttemptId(JOB, TASK, 1))
        assert not held or offered == Path(held[0].path)
        if meanwhile is not cancelled or not second.outputs.jobs():  # the news of the end deletes it
            assert (offered is not None) >= bool(second.files())
        second.spool.close()
        if points.acting is None:
            break
        at += 1
    assert at > 10


async def test_a_death_in_any_await_of_an_adoption_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at, died = 1, True
    while died:
        store = MemoryStore(lambda: 1000.0)
        await store.connect()
        assert await store.create_job(make_spec(JOB, maps=1), make_splits(1), job_record(JOB), 1)
        first = WorkerIncarnation(tmp_path / str(at), "first")
        await first.commit(store)
        first.die()
        second = WorkerIncarnation(tmp_path / str(at), "second")
        died = await _adopt_and_die(store, second, at, monkeypatch)
        second.die()
        third = WorkerIncarnation(tmp_path / str(at), "third")
        await third.adopt(store)
        (output,) = await recorded(store)
        assert output.incarnation == "third"
        assert third.outputs.find(AttemptId(JOB, TASK, 1)) == Path(output.path)
        assert Path(output.path).read_bytes() == b"data"  # noqa: ASYNC240 - one small file
        third.spool.close()
        at += 1
    assert at > 10


async def _adopt_and_die(
    store: MemoryStore, life: WorkerIncarnation, at: int, monkeypatch: pytest.MonkeyPatch
) -> bool:
    """Adopt, and die at the await number `at`. Returns whether there are so many."""
    points = AwaitPoints()

    async def die() -> None:
        adopting.cancel()

    with monkeypatch.context() as patch:
        points.replace_threads(patch)
        points.at, points.act = at, die
        adopting = asyncio.ensure_future(adopt(points.wrap(store), life.spool, life.outputs, life.identity))
        await asyncio.wait([adopting])
    return adopting.cancelled()
