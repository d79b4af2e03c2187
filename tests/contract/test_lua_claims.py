"""The Lua scripts and `mr.protocol.claims` agree, for random sequences of operations."""

import asyncio
import time
import uuid
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from mr.adapters.open import open_store
from mr.protocol import claims
from mr.protocol.claims import Claim, Holder, Placement, Verdict
from mr.protocol.ids import AttemptId, Incarnation, JobId, WorkerId
from mr.protocol.records import RestoredJob
from mr.settings import Settings
from tests.contract import samples
from tests.contract.samples import MAP_0
from tests.support.specs import make_splits

LONG_MS = 60_000
#: The model's clock stands still: a lease of 0 has run out when next looked at, a long one never does.
NOW_MS = 1_000

workers = st.sampled_from([WorkerId("ann"), WorkerId("bob"), WorkerId("cid")])
incarnations = st.sampled_from([Incarnation("life-1"), Incarnation("life-2")])
leases = st.sampled_from([0, LONG_MS])
attempts = st.integers(1, 5)
known_claims = st.builds(
    Claim,
    attempt=st.integers(0, 8),
    fenced_attempt=st.integers(0, 4),
    winner=st.integers(0, 4),
    speculative=st.booleans(),
    holders=st.lists(st.builds(Holder, workers, incarnations, attempts, st.integers(0, 1)), max_size=2).map(
        tuple
    ),
)
operations = st.one_of(
    st.tuples(st.just("claim"), workers, incarnations, leases),
    st.tuples(st.just("renew"), attempts, incarnations, leases),
    st.tuples(st.just("commit"), attempts),
    st.tuples(st.just("release"), attempts, incarnations),
    st.tuples(st.just("release_dead"), incarnations),
    st.tuples(st.just("reopen"), attempts),
    st.tuples(st.just("speculate")),
    st.tuples(st.just("catch_up"), known_claims),
)


class Model:
    """A task's claim, by the pure functions."""

    def __init__(self) -> None:
        self.claim = Claim()

    def apply(self, name: str, *arguments: Any) -> Any:
        return getattr(self, name)(*arguments)

    def claim_task(self, worker: WorkerId, incarnation: Incarnation, lease_ms: int) -> tuple[Verdict, int]:
        verdict, self.claim = claims.grant(self.claim, worker, incarnation, NOW_MS, lease_ms)
        numbers = {Verdict.GRANTED: self.claim.attempt, Verdict.COMMITTED: self.claim.winner}
        return verdict, numbers.get(verdict, 0)

    def renew(self, attempt: int, incarnation: Incarnation, lease_ms: int) -> bool:
        after = claims.renew(self.claim, incarnation, attempt, NOW_MS + lease_ms)
        self.claim = after or self.claim
        return after is not None

    def commit(self, attempt: int) -> bool:
        after = claims.commit(self.claim, attempt)
        self.claim = after or self.claim
        return after is not None

    def release(self, attempt: int, incarnation: Incarnation) -> None:
        self.claim = claims.release(self.claim, incarnation, attempt)

    def release_dead(self, incarnation: Incarnation) -> None:
        self.claim = claims.release_dead(self.claim, incarnation)

    def reopen(self, attempt: int) -> None:
        self.claim = claims.reopen(self.claim, attempt)

    def speculate(self) -> None:
        self.claim = claims.speculate(self.claim)

    def catch_up(self, known: Claim) -> None:
        self.claim = claims.catch_up(self.claim, known, NOW_MS + LONG_MS)


class Real:
    """The same claim, by the scripts."""

    def __init__(self, store: Any, job: JobId) -> None:
        self.store = store
        self.job = job

    async def apply(self, name: str, *arguments: Any) -> Any:
        return await getattr(self, name)(*arguments)

    async def claim_task(
        self, worker: WorkerId, incarnation: Incarnation, lease_ms: int
    ) -> tuple[Verdict, int]:
        reply = await self.store.claim(self.job, MAP_0, worker, incarnation, lease_ms / 1000)
        return reply.verdict, reply.attempt

    async def renew(self, attempt: int, incarnation: Incarnation, lease_ms: int) -> bool:
        return not await self.store.renew(self.job, {MAP_0: attempt}, incarnation, lease_ms / 1000)

    async def commit(self, attempt: int) -> bool:
        return bool(
            await self.store.commit(AttemptId(self.job, MAP_0, attempt), samples.map_result(attempt=attempt))
        )

    async def release(self, attempt: int, incarnation: Incarnation) -> None:
        await self.store.release(AttemptId(self.job, MAP_0, attempt), incarnation)

    async def release_dead(self, incarnation: Incarnation) -> None:
        await self.store.release_dead(self.job, [(MAP_0, incarnation)], 1)

    async def reopen(self, attempt: int) -> None:
        await self.store.reopen(self.job, {MAP_0: Placement(attempt, samples.FIRST_RUN)}, 1)

    async def speculate(self) -> None:
        await self.store.speculate(self.job, [MAP_0], 1)

    async def catch_up(self, known: Claim) -> None:
        result = samples.map_result(attempt=known.winner)
        restored = RestoredJob(
            record=samples.record(self.job),
            spec=samples.spec(self.job),
            splits=make_splits(),
            tasks={},
            claims={MAP_0: known},
            results={MAP_0: result} if known.winner else {},
        )
        await self.store.rewrite(restored, 1, LONG_MS / 1000)


def timeless(claim: Claim, now_ms: int) -> tuple[Any, ...]:
    """A claim whose leases are reduced to whether they have run out."""
    holders = [(h.worker, h.incarnation, h.attempt, h.expires_ms > now_ms) for h in claim.holders]
    return claim.attempt, claim.fenced_attempt, claim.winner, claim.speculative, holders


async def compare(url: str, sequence: list[tuple[Any, ...]]) -> None:
    job = JobId(f"job-{uuid.uuid4().hex}")
    store = open_store(Settings(redis_url=url))
    await store.connect()
    try:
        await store.create_job(samples.spec(job), make_splits(), samples.record(job), 1)
        model, real = Model(), Real(store, job)
        for name, *arguments in sequence:
            method = "claim_task" if name == "claim" else name
            assert model.apply(method, *arguments) == await real.apply(method, *arguments)
            stored = (await store.claims(job)).get(MAP_0, Claim())
            # By real time, a long lease ends 60 s ahead, and the others have run out.
            between_ms = int(time.time() * 1000) + LONG_MS // 2
            assert timeless(stored, between_ms) == timeless(model.claim, NOW_MS)
            results = (await store.map_outputs(job)).unpack(job)
            assert [output.attempt.number for output in results] == [model.claim.winner] * bool(
                model.claim.winner
            )
    finally:
        await store.end_job(samples.record(job), [], 9, 0.001)
        await store.close()


@settings(max_examples=60, deadline=None)
@given(sequence=st.lists(operations, max_size=25))
def test_scripts_and_pure_functions_agree(scratch_redis_url: str, sequence: list[tuple[Any, ...]]) -> None:
    asyncio.run(compare(scratch_redis_url, sequence))
