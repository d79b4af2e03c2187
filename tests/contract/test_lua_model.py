"""The Lua scripts answer as the pure functions of `mr.protocol.claims` do, over random sequences of steps.

The model is the memory adapter, which calls those functions. Each step is done in the model and in Redis;
both answers are compared, then what both hold of every job. A failing sequence is shortened and printed.
MR_TEST_MODEL_STEPS says how many steps are done in all, MR_TEST_MODEL_SEED from which seed on.
"""

import asyncio
import os
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pytest

from mr.adapters.memory.state import MemoryStoreServer
from mr.adapters.memory.store import MemoryStore
from mr.adapters.open import open_store
from mr.error_text import bounded
from mr.errors import MrError
from mr.ports.workers import WORKER_MEMORY_SECONDS
from mr.protocol.claims import Holder
from mr.protocol.codec import unpack
from mr.protocol.ids import JobId, TaskKind
from mr.protocol.locations import PackedOutputs
from mr.protocol.records import MapOutput, Pause, RestoredJob, TaskResult, WorkerView
from mr.settings import Settings
from tests.contract.aged_redis import AgedRedis
from tests.contract.store_steps import (
    ADVANCE,
    CLIENTS,
    EMPTY,
    GO_BACK,
    JOBS,
    SNAPSHOT,
    UNIT_SECONDS,
    Step,
    Steps,
)

STEPS = int(os.environ.get("MR_TEST_MODEL_STEPS", "4000"))
SEED = int(os.environ.get("MR_TEST_MODEL_SEED", "1"))
SEQUENCE_STEPS = 200
#: Fields of a JobEntry that are compared as they are.
COMPARED = (
    *("record", "epoch", "generation", "logs_bytes", "logs_full"),
    *("open", "claims", "splits", "tasks", "spec"),
)
#: What a coordinator calls only for a job that it has made, or found in the store.
WRITES_OF_KNOWN_JOBS = ("save_job", "end_job", "reopen", "speculate", "release_dead")
#: Tries to leave steps out of a failing sequence.
SHORTENING_TRIES = 300


class Model:
    """The memory adapter, and its clock."""

    def __init__(self) -> None:
        self.server = MemoryStoreServer()
        self.seconds = 1e9
        self.clients = [MemoryStore(lambda: self.seconds, self.server) for _ in range(CLIENTS)]

    def advance(self, seconds: float) -> None:
        """Let time pass, and forget for good what expires: a clock set back revives nothing."""
        self.seconds += seconds
        server, now = self.server, self.seconds
        server.jobs = {job: entry for job, entry in server.jobs.items() if entry.expires_at > now}
        server.workers = {w: e for w, e in server.workers.items() if now - e.at < WORKER_MEMORY_SECONDS}
        server.pauses = {worker: pause for worker, pause in server.pauses.items() if pause[0] > now}
        if server.leader_until <= now:
            server.leader = None

    def job(self, job: JobId) -> dict[str, Any]:
        """All that is stored of a job; empty for an unknown one."""
        entry = self.server.jobs.get(job)
        if entry is None or entry.expires_at <= self.seconds:
            return {}
        results = {task: data for kind in TaskKind for task, data in entry.results[kind].items()}
        outputs = [unpack(results[task], TaskResult).output for task in sorted(results)]
        lasts = entry.expires_at == float("inf")
        return {
            **{name: getattr(entry, name) for name in COMPARED},
            "logs": {name: text.encode(errors="replace") for name, text in entry.logs.items()},
            "results": results,
            "outputs": [output for output in outputs if isinstance(output, MapOutput)],
            "left_seconds": [None if lasts else round((entry.expires_at - self.seconds) / UNIT_SECONDS)],
        }


class Pair:
    """The model and a real Redis, in the same state."""

    def __init__(self, url: str) -> None:
        self.model = Model()
        self.redis = AgedRedis(url)
        self.clients = [open_store(Settings(redis_url=url)) for _ in range(CLIENTS)]
        self._snapshots: list[Any] = []

    async def open(self) -> None:
        self.redis.empty()
        for client in (*self.model.clients, *self.clients):
            await client.connect()

    async def close(self) -> None:
        for client in self.clients:
            await client.close()
        self.redis.close()

    async def step(self, step: Step) -> str:
        """Do one step in both; returns where they differ, empty if they do not."""
        if step.client < 0:
            self._befall(step)
        elif not self._knows(step):
            return ""
        else:
            expected = _rounded(await _answer(self.model.clients[step.client], step), self.model.seconds)
            found = _rounded(await _answer(self.clients[step.client], step), self.redis.now())
            if expected != found:
                return f"{step.name} answers\n    {found}\n  but the model\n    {expected}"
        for job in JOBS:
            expected = _rounded(self.model.job(job), self.model.seconds)
            found = _rounded(self.redis.job(job), self.redis.now())
            for name in {*expected, *found}:
                if expected.get(name) != found.get(name):
                    return (
                        f"after {step.name}, {name} of {job} is\n    {found.get(name)}\n  "
                        f"but in the model\n    {expected.get(name)}"
                    )
        return ""

    def _knows(self, step: Step) -> bool:
        """Whether the client may call this: a coordinator changes no job that it never made nor took over."""
        if step.name not in WRITES_OF_KNOWN_JOBS:
            return True
        job = getattr(step.arguments[0], "job_id", step.arguments[0])
        acknowledged = self.model.clients[step.client]._acknowledged
        return job in self.model.server.jobs or acknowledged.of(job) > 0

    def _befall(self, step: Step) -> None:
        if step.name == ADVANCE:
            self.model.advance(step.arguments[0])
            self.redis.advance(step.arguments[0])
        elif step.name == SNAPSHOT:
            self._snapshots.append((self.model.server.snapshot(), self.redis.snapshot()))
        elif step.name == EMPTY:
            self.model.server.flush()
            self.redis.empty()
        elif step.name == GO_BACK and self._snapshots:
            model, stored = self._snapshots[-1]
            self.model.server.go_back(model)
            self.model.advance(0)
            self.redis.go_back(stored)


async def _answer(store: Any, step: Step) -> Any:
    """What a call returns, or the error that it raises."""
    try:
        return await getattr(store, step.name)(*step.arguments)
    except MrError as error:
        return type(error).__name__


def _rounded(value: Any, now: float) -> Any:
    """The same value for comparison: every time of the store's clock relative to now, in units."""
    if isinstance(value, Holder):
        left = None if value.released else max(0, round((value.expires_ms / 1000 - now) / UNIT_SECONDS))
        return value.worker, value.incarnation, value.attempt, left
    if isinstance(value, WorkerView):
        return value.beat, round(value.age_seconds / UNIT_SECONDS), value.live
    if isinstance(value, Pause):
        return round(value.seconds / UNIT_SECONDS), value.reason
    if isinstance(value, PackedOutputs):
        return value.count
    if isinstance(value, float):
        return round(value / UNIT_SECONDS)
    if isinstance(value, Mapping):
        return {key: _rounded(value[key], now) for key in sorted(value)}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_rounded(item, now) for item in value]
    if isinstance(value, msgspec.Struct):
        fields = [_rounded(getattr(value, name), now) for name in value.__struct_fields__]
        return type(value).__name__, fields
    return value


async def _replay(url: str, steps: Sequence[Step]) -> str:
    pair = Pair(url)
    await pair.open()
    try:
        for step in steps:
            if difference := await pair.step(step):
                return difference
        return ""
    finally:
        await pair.close()


async def _shortened(url: str, steps: list[Step], difference: str) -> tuple[list[Step], str]:
    """Leave out what a failing sequence does not need."""
    size, tries = len(steps) // 2, SHORTENING_TRIES
    while size and tries:
        start = 0
        while start < len(steps) and tries:
            tries -= 1
            fewer = steps[:start] + steps[start + size :]
            found = await _replay(url, fewer)
            if found:
                steps, difference = fewer, found
            else:
                start += size
        size //= 2
    return steps, difference


async def _sequence(url: str, seed: str) -> str:
    """Do one random sequence; returns where Redis and the model differ."""
    pair, draw = Pair(url), Steps(seed)
    done: list[Step] = []
    await pair.open()
    try:
        for _ in range(SEQUENCE_STEPS):
            done.append(draw.draw(pair.model.server))
            if difference := await pair.step(done[-1]):
                break
        else:
            return ""
    finally:
        await pair.close()
    steps, difference = await _shortened(url, done, difference)
    listed = "\n".join(f"  {number}. {_shown(step)}" for number, step in enumerate(steps, 1))
    return f"seed {seed}: {difference}\nsteps:\n{listed}"


def _shown(step: Step) -> str:
    """A step in one line, without the specs and records in it, which are long."""
    return f"client {step.client}: {step.name} {bounded(str([_short(a) for a in step.arguments]), 1000)}"


def _short(argument: Any) -> Any:
    if isinstance(argument, RestoredJob):
        return {"job": argument.spec.job_id, "claims": argument.claims, "results": argument.results}
    job = getattr(argument, "job_id", None)
    return argument if job is None else f"{type(argument).__name__} {job}"


@pytest.mark.timeout(120 + STEPS // 50)
def test_scripts_and_pure_functions_agree(clean_redis_url: str) -> None:
    for number in range(STEPS // SEQUENCE_STEPS):
        difference = asyncio.run(_sequence(clean_redis_url, f"{SEED + number}"))
        assert not difference, difference
