"""Random steps for a state store: calls of its ports by several clients, and what befalls the server.

Arguments are drawn from the state of the model, so that most calls are about something that exists: the
newest attempt or one before it, a recorded place or an old one, what a coordinator knew a while ago.
"""

import random
from typing import Any, NamedTuple

import msgspec

from mr.adapters.memory.state import JobEntry, MemoryStoreServer
from mr.protocol.claims import Claim, Holder, Placement
from mr.protocol.codec import unpack
from mr.protocol.ids import AttemptId, Incarnation, JobId, TaskId, TaskKind, task_kind
from mr.protocol.records import (
    JobRecord,
    JobState,
    MapOutput,
    PartOutput,
    Pause,
    RestoredJob,
    TaskRecord,
    TaskResult,
    TaskState,
    TaskStats,
    Transition,
)
from tests.contract import samples
from tests.contract.samples import ANN, BOB, CID, FIRST_RUN, MAP_0, MAP_1, REDUCE_0, SECOND_RUN
from tests.support.specs import make_splits

#: Every time in a step is a multiple of this: what a step really takes never decides about a lease.
UNIT_SECONDS = 1000.0
#: Two coordinators, and a client of the workers.
CLIENTS = 3
JOBS = (JobId("job-1"), JobId("job-2"))
TASKS = (MAP_0, MAP_1, REDUCE_0)
WORKERS = (ANN, BOB, CID)
LIVES = (FIRST_RUN, SECOND_RUN, Incarnation("life-3"))
LOG_BYTES = 40


class Step(NamedTuple):
    """One call of a client's method, or with client -1 what happens to the server."""

    client: int
    name: str
    arguments: tuple[Any, ...] = ()


#: What happens to the server, by the name of the step.
ADVANCE, SNAPSHOT, GO_BACK, EMPTY = "advance", "snapshot", "go_back", "empty"

_WEIGHTS = {
    "create_job": 6,
    "claim": 22,
    "renew": 10,
    "commit": 16,
    "release": 6,
    "relocate": 8,
    "put_log": 3,
    "save_job": 4,
    "end_job": 1,
    "reopen": 6,
    "speculate": 7,
    "release_dead": 4,
    "outcomes": 4,
    "restore": 2,
    "forgotten": 2,
    "rewrite": 9,
    "prune_jobs": 1,
    "get_job": 1,
    "list_jobs": 2,
    "heartbeat": 12,
    "forget_worker": 1,
    "workers": 2,
    "pause_worker": 1,
    "worker_pause": 1,
    "acquire_lead": 3,
    "renew_lead": 2,
    "leader": 1,
    "last_epoch": 1,
    "release_lead": 1,
    "coordinator_silence": 1,
    ADVANCE: 9,
    SNAPSHOT: 3,
    GO_BACK: 2,
    EMPTY: 1,
}


class Steps:
    """Draws steps, given the model as it is before each."""

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)
        self._server: MemoryStoreServer
        #: What coordinators knew of jobs at some time.
        self._known: list[RestoredJob] = []
        self._beats = 0

    def draw(self, server: MemoryStoreServer) -> Step:
        """The next step."""
        self._server = server
        names = list(_WEIGHTS)
        name = self._random.choices(names, [_WEIGHTS[name] for name in names])[0]
        if name in (ADVANCE, SNAPSHOT, GO_BACK, EMPTY):
            if name != ADVANCE:
                return Step(-1, name)
            return Step(-1, name, (self._random.choice((1, 1, 1, 2, 3, -1)) * UNIT_SECONDS,))
        draw = getattr(self, f"_{name}", lambda: ())
        return Step(self._random.randrange(CLIENTS), name, draw())

    # --- parts of arguments

    def _pick(self, *items: Any) -> Any:
        return self._random.choice(items)

    def _job(self) -> JobId:
        return JOBS[0] if self._random.random() < 0.7 else JOBS[1]

    def _task(self) -> TaskId:
        return self._random.choice((MAP_0, MAP_0, MAP_0, MAP_1, REDUCE_0, TaskId("map-00007")))

    def _entry(self, job: JobId) -> JobEntry:
        return self._server.jobs.get(job) or JobEntry()

    def _claim_of(self, job: JobId, task: TaskId) -> Claim:
        return self._entry(job).claims.get(task, Claim())

    def _number(self, claim: Claim) -> int:
        known = [claim.attempt] * 4 + [
            claim.winner,
            claim.fenced_attempt,
            claim.attempt - 1,
            claim.attempt + 1,
        ]
        return max(1, self._random.choice(known))

    def _lease(self) -> float:
        return self._pick(0, 1, 1, 2, 3) * UNIT_SECONDS

    def _epoch(self) -> int:
        return self._pick(1, 2, 2, 2, 2, 3)

    def _life(self, claim: Claim, number: int) -> Incarnation:
        """Mostly the incarnation that holds the attempt."""
        holders = [h.incarnation for h in claim.holders if h.attempt == number]
        return holders[0] if holders and self._random.random() < 0.8 else self._pick(*LIVES)

    def _result(self, job: JobId, task: TaskId, number: int, life: Incarnation) -> TaskResult:
        """A result; one attempt may bring several."""
        stats = TaskStats(records_in=self._pick(1, 1, 2))
        attempt = AttemptId(job, task, number)
        if task_kind(task) is TaskKind.REDUCE or job == JOBS[1]:
            return TaskResult(PartOutput(attempt, self._pick(*WORKERS), life, 3, 30, "0" * 16), stats)
        return TaskResult(self._output(attempt, life), stats)

    def _output(self, attempt: AttemptId, life: Incarnation) -> MapOutput:
        worker = self._pick(*WORKERS)
        return MapOutput(attempt, worker, life, f"{worker}:7000", worker, f"/{worker}/{life}/{attempt.task}")

    def _place(self, job: JobId, task: TaskId) -> Placement:
        """Mostly where the output of a map is recorded to be."""
        data = self._entry(job).results[TaskKind.MAP].get(task)
        output = None if data is None else unpack(data, TaskResult).output
        if isinstance(output, MapOutput) and self._random.random() < 0.7:
            return output.placement
        return Placement(self._number(self._claim_of(job, task)), self._pick(*LIVES))

    def _some(self, *items: Any) -> list[Any]:
        return self._random.sample(items, self._random.randint(1, len(items)))

    def _record(self, job: JobId) -> JobRecord:
        state = self._pick(JobState.MAPPING, JobState.REDUCING)
        number = JOBS.index(job)
        return samples.record(
            job,
            state,
            reduces=1 - number,
            attempts_failed=self._random.randrange(3),
            history=(Transition(state, 100.0 + number, "submitted"),),
        )

    def _records(self) -> list[TaskRecord]:
        return [samples.task(t, self._pick(*TaskState), attempt=1) for t in self._some(*TASKS)]

    # --- the arguments of each call

    def _create_job(self) -> tuple[Any, ...]:
        job = self._job()
        number = JOBS.index(job)
        spec = samples.spec(job, reduces=1 - number, submitted_at=100.0 + number)
        return spec, make_splits(), self._record(job), self._epoch()

    def _claim(self) -> tuple[Any, ...]:
        return self._job(), self._task(), self._pick(*WORKERS), self._pick(*LIVES), self._lease()

    def _renew(self) -> tuple[Any, ...]:
        job, task = self._job(), self._task()
        claim = self._claim_of(job, task)
        number = self._number(claim)
        others = {t: self._number(self._claim_of(job, t)) for t in self._some(*TASKS)}
        return job, {task: number} | others, self._life(claim, number), self._lease()

    def _commit(self) -> tuple[Any, ...]:
        job, task = self._job(), self._task()
        claim = self._claim_of(job, task)
        number = self._number(claim)
        return AttemptId(job, task, number), self._result(job, task, number, self._life(claim, number))

    def _release(self) -> tuple[Any, ...]:
        job, task = self._job(), self._task()
        claim = self._claim_of(job, task)
        number = self._number(claim)
        return AttemptId(job, task, number), self._life(claim, number)

    def _relocate(self) -> tuple[Any, ...]:
        job = JOBS[0]
        moved = {}
        for task in self._some(MAP_0, MAP_1):
            place = self._place(job, task)
            number = place.attempt if self._random.random() < 0.9 else 1
            moved[task] = (place, self._output(AttemptId(job, task, number), self._pick(*LIVES)))
        return job, moved

    def _put_log(self) -> tuple[Any, ...]:
        text = self._pick("", "a", "é\ud800" * 3, "x" * LOG_BYTES)
        return AttemptId(self._job(), self._task(), self._pick(1, 2)), text, LOG_BYTES

    def _save_job(self) -> tuple[Any, ...]:
        return self._record(self._job()), self._records(), self._epoch()

    def _end_job(self) -> tuple[Any, ...]:
        record = msgspec.structs.replace(self._record(self._job()), state=JobState.CANCELLED)
        return record, self._records(), self._epoch(), self._pick(1, 2, 5) * UNIT_SECONDS

    def _reopen(self) -> tuple[Any, ...]:
        job = self._job()
        return job, {task: self._place(job, task) for task in self._some(MAP_0, MAP_1)}, self._epoch()

    def _speculate(self) -> tuple[Any, ...]:
        return self._job(), self._some(*TASKS), self._epoch()

    def _release_dead(self) -> tuple[Any, ...]:
        return self._job(), [(task, self._pick(*LIVES)) for task in self._some(*TASKS)], self._epoch()

    def _outcomes(self) -> tuple[Any, ...]:
        return self._job(), self._some(*TASKS, TaskId("map-00007"))

    def _restore(self) -> tuple[Any, ...]:
        return (self._epoch(),)

    def _forgotten(self) -> tuple[Any, ...]:
        return (list(JOBS),)

    def _rewrite(self) -> tuple[Any, ...]:
        """A job as a coordinator knows it: as it is now, as it was, or with claims that never were."""
        job = self._job()
        entry = self._server.jobs.get(job)
        if entry is not None and entry.open and entry.spec is not None:
            self._known.append(self._whole(job, entry))
        if not self._known:
            self._known.append(self._whole(job, JobEntry()))
        known = self._random.choice(self._known[-6:])
        if self._random.random() < 0.3:
            known = self._imagined(known)
        return known, self._epoch(), self._lease()

    def _whole(self, job: JobId, entry: JobEntry) -> RestoredJob:
        results = {task: data for kind in TaskKind for task, data in entry.results[kind].items()}
        spec, splits, record, _ = self._create_job()
        return RestoredJob(
            unpack(entry.record, JobRecord) if entry.record else record,
            entry.spec or spec,
            tuple(entry.splits.values()) or splits,
            {task: unpack(data, TaskRecord) for task, data in entry.tasks.items()},
            dict(entry.claims),
            {task: unpack(data, TaskResult) for task, data in results.items()},
        )

    def _imagined(self, known: RestoredJob) -> RestoredJob:
        job, task = known.spec.job_id, self._pick(*TASKS)
        attempt = self._random.randrange(8)
        holders = tuple(
            Holder(self._pick(*WORKERS), self._pick(*LIVES), self._random.randint(1, 5), self._pick(0, 1))
            for _ in range(self._random.randrange(3))
        )
        winner = self._pick(0, 0, attempt)
        claim = Claim(attempt, self._random.randint(0, 4), winner, bool(self._pick(0, 1)), holders)
        result = {task: self._result(job, task, winner, self._pick(*LIVES))} if winner else {}
        return msgspec.structs.replace(
            known, claims={**known.claims, task: claim}, results={**known.results, **result}
        )

    def _get_job(self) -> tuple[Any, ...]:
        return (self._job(),)

    def _heartbeat(self) -> tuple[Any, ...]:
        self._beats += 1
        worker = self._pick(ANN, ANN, BOB)
        owner = self._server.workers.get(worker)
        lives = (*LIVES, owner.former, owner.former) if owner is not None and owner.former else LIVES
        beat = samples.beat(worker, self._pick(*lives), number=self._beats)
        replaces = self._pick(None, None, owner.beat if owner else None, beat)
        return beat, self._pick(1, 2) * UNIT_SECONDS, replaces

    def _forget_worker(self) -> tuple[Any, ...]:
        return self._pick(ANN, BOB), self._pick(*LIVES)

    def _pause_worker(self) -> tuple[Any, ...]:
        return self._pick(ANN, BOB), Pause(self._pick(1, 2) * UNIT_SECONDS, "busy")

    def _worker_pause(self) -> tuple[Any, ...]:
        return (self._pick(ANN, BOB),)

    def _acquire_lead(self) -> tuple[Any, ...]:
        return self._pick("one", "two"), self._pick(1, 2) * UNIT_SECONDS, self._pick(0, 0, 5)

    def _renew_lead(self) -> tuple[Any, ...]:
        return self._pick("one", "two"), self._pick(1, 2) * UNIT_SECONDS

    def _release_lead(self) -> tuple[Any, ...]:
        return (self._pick("one", "two"),)
