"""Targets of what the scheduler reads from the store: no stored record ends it, nor another job."""

import contextlib
import random
from typing import Any

import msgspec

from mr.adapters.memory.store import MemoryStore
from mr.coordinator.core import commands as c
from mr.coordinator.core import events as e
from mr.coordinator.core.job_records import submitted_record
from mr.coordinator.core.scheduler import Scheduler
from mr.errors import BadMessage
from mr.protocol.claims import Claim, Holder
from mr.protocol.codec import JSON, encode, pack, unpack
from mr.protocol.failures import Failure, FailureKind, LostInput
from mr.protocol.ids import AttemptId, Incarnation, JobId, TaskId, TaskKind, WorkerId
from mr.protocol.jobs import JobSpec, Split
from mr.protocol.messages import TaskCommitted
from mr.protocol.records import (
    JobRecord,
    JobState,
    MapOutput,
    PartOutput,
    RestoredJob,
    RunningTask,
    TaskRecord,
    TaskResult,
    TaskState,
    TaskStats,
    WorkerBeat,
    WorkerView,
)
from mr.settings import Settings
from tests.fuzz.harness import Case
from tests.fuzz.values import message, plain
from tests.support.job_records import worker_beat
from tests.support.specs import make_spec, make_splits

ANN, LIFE = WorkerId("ann"), Incarnation("ann-1")
MAP, REDUCE = TaskId("map-00000"), TaskId("reduce-00000")
ONE, OTHER = JobId("one"), JobId("other")
_KINDS: dict[str, Any] = {
    "record": JobRecord,
    "spec": JobSpec,
    "splits": tuple[Split, ...],
    "tasks": dict[TaskId, TaskRecord],
    "claims": dict[TaskId, Claim],
    "results": dict[TaskId, TaskResult],
}


def _stored() -> dict[str, Any]:
    """A job in its reduce phase, as the store has it."""
    spec = make_spec(ONE, 1, 1)
    stats = TaskStats(records_in=1, cpu_seconds=0.5, counters={"words": 3})
    output = MapOutput(AttemptId(ONE, MAP, 1), ANN, LIFE, "ann:1", "host", "/spool/1")
    failure = Failure(FailureKind.USER_ERROR, "no", traceback="t", lost=(LostInput(MAP, 1, ANN),))
    record = msgspec.structs.replace(submitted_record(spec), state=JobState.REDUCING, stats=stats)
    running = TaskRecord(
        task_id=REDUCE, state=TaskState.RUNNING, attempt=2, failures=1, losses=1, worker=ANN, failure=failure
    )
    held = Claim(2, 0, 0, False, (Holder(ANN, LIFE, 2, 9),))
    committed = TaskRecord(task_id=MAP, state=TaskState.COMMITTED, attempt=1, stats=stats)
    return {
        "record": plain(record),
        "spec": plain(spec),
        "splits": plain(make_splits(1)),
        "tasks": {MAP: plain(committed), REDUCE: plain(running)},
        "claims": {
            MAP: plain(Claim(1, 0, 1)),
            REDUCE: plain(held),
        },
        "results": {MAP: plain(TaskResult(output, stats))},
    }


_STORED = _stored()
_BEAT = plain(worker_beat(ANN, RunningTask(ONE, REDUCE, 2, 0.0, 1.0, bytes_in=9), incarnation=LIFE))


def _check_storable(commands: list[Any]) -> None:
    """What the scheduler decides can be written and read again."""
    for command in commands:
        if isinstance(command, c.SaveJob | c.CloseJob):
            unpack(pack(command.record), JobRecord)
            unpack(pack(tuple(command.tasks)), tuple[TaskRecord, ...])
        elif isinstance(command, c.EmitEvent):
            encode(command.event, JSON)
        elif isinstance(command, c.FinishOutput):
            encode(command.manifest, JSON)


class RestoredJobs:
    """A job with an absurd record is taken over as if it were good, or refused; another goes on."""

    name = "restored"
    case_seconds = 10.0

    async def close(self) -> None:
        """Nothing is held."""

    def draw(self, rng: random.Random) -> Case:
        """One record of the job, or the heartbeat of its worker."""
        kind = rng.choice((*_KINDS, "beat"))
        return [(kind, message(rng, _BEAT if kind == "beat" else _STORED[kind]))]

    async def check(self, case: Case) -> None:
        """Restore the job and let some time pass."""
        data = {kind: msgspec.msgpack.encode(value) for kind, value in _STORED.items()}
        data |= {"beat": msgspec.msgpack.encode(_BEAT)} | dict(case)
        scheduler = Scheduler(Settings(), seed=1)
        commands = scheduler.handle(e.JobAccepted(1.0, make_spec(OTHER, 2, 0), make_splits(2)))
        try:
            job = RestoredJob(*(unpack(data[kind], type_) for kind, type_ in _KINDS.items()))
        except BadMessage:
            job = None
        views: tuple[WorkerView, ...] = ()
        with contextlib.suppress(BadMessage):
            views = (WorkerView(unpack(data["beat"], WorkerBeat), 0.1, True),)
        if job is not None:
            commands += scheduler.handle(e.JobRestored(2.0, job))
        for now in (3.0, 30.0, 60.0, 600.0):
            commands += scheduler.handle_all((e.QueueObserved(now, 0), e.WorkersObserved(now, views)))
            inspections = [x for x in commands if isinstance(x, c.InspectClaims) and x.job_id == ONE]
            if job is not None and inspections:
                observed = e.ClaimsObserved(now, ONE, job.claims, job.results, inspections[-1].outputs)
                commands += scheduler.handle(observed)
        assert OTHER in scheduler.active_jobs()
        _check_storable(list(commands))


class Outcomes:
    """What the store says of a reported task is believed or refused, and the job goes on."""

    name = "outcomes"
    case_seconds = 10.0

    async def close(self) -> None:
        """Nothing is held."""

    def draw(self, rng: random.Random) -> Case:
        """A claim or a result."""
        output = PartOutput(AttemptId(OTHER, MAP, 1), ANN, LIFE, 3, 30, "0" * 16)
        valid = {
            "claim": plain(Claim(1, 0, 1)),
            "result": plain(TaskResult(output, TaskStats(counters={"a": 1}))),
        }
        kind = rng.choice(list(valid))
        return [(kind, message(rng, valid[kind]))]

    async def check(self, case: Case) -> None:
        """Report the task, and read what is stored of it."""
        spec, splits = make_spec(OTHER, 1, 0), make_splits(1)
        store, scheduler = MemoryStore(lambda: 0.0), Scheduler(Settings(), seed=1)
        scheduler.handle(e.JobAccepted(1.0, spec, splits))
        await store.connect()
        await store.create_job(spec, splits, submitted_record(spec), 1)
        entry = store.server.jobs[OTHER]
        for kind, data in case:
            try:
                if kind == "claim":
                    entry.claims[MAP] = unpack(data, Claim)
                else:
                    entry.results[TaskKind.MAP][MAP] = data
                outcome = (await store.outcomes(OTHER, [MAP]))[MAP]
            except BadMessage:
                continue
            committed = TaskCommitted(AttemptId(OTHER, MAP, 1), ANN, LIFE)
            _check_storable(list(scheduler.handle(e.ReportReceived(2.0, committed, outcome))))
