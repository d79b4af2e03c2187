"""The claim on a task: who may run it and whose output counts. Pure.

The lease is in the store, the wake-up in the broker: a delivered message is only a hint, and these
functions decide. The memory adapter calls them. The Lua scripts of the Redis adapter do the same, and one
contract suite checks both.
"""

from collections.abc import Callable
from enum import StrEnum

import msgspec

from mr.protocol.bounds import Attempt, Natural
from mr.protocol.ids import Incarnation, WorkerId


class Verdict(StrEnum):
    """The answer to a worker that received a task message and asks for the claim."""

    #: Run it, under the attempt number given.
    GRANTED = "granted"
    #: A live worker has it: acknowledge and forget.
    HELD = "held"
    #: Its output is recorded: acknowledge, and report the commit once more.
    COMMITTED = "committed"
    #: The job is over: acknowledge and forget.
    GONE = "gone"


#: Released leases kept in a claim: a report of a failed attempt is checked against them.
RELEASED_KEPT = 4


class Holder(msgspec.Struct, frozen=True, array_like=True):
    """One running attempt's lease."""

    worker: WorkerId
    incarnation: Incarnation
    attempt: Attempt
    #: Milliseconds since the epoch, by the store's clock; 0 = the attempt ended and gave the lease back.
    expires_ms: Natural

    @property
    def released(self) -> bool:
        """Whether the attempt has ended. It blocks nobody, and is kept to check the attempt's report."""
        return self.expires_ms == 0


class Claim(msgspec.Struct, frozen=True, array_like=True):
    """The state of one task's claim. The default is a task that no worker has asked for yet."""

    #: Number of the newest attempt; attempts count from 1.
    attempt: Attempt = 0
    #: Attempts up to this number may no longer commit: their output was lost.
    fenced_attempt: Attempt = 0
    #: The attempt that committed, 0 for none.
    winner: Attempt = 0
    #: Whether a second holder on another worker is allowed.
    speculative: bool = False
    #: Leases of running attempts, and the last RELEASED_KEPT that were given back.
    holders: tuple[Holder, ...] = ()

    @property
    def running(self) -> tuple[Holder, ...]:
        """The holders that have not given their lease back."""
        return tuple(h for h in self.holders if not h.released)

    def was_given(self, worker: WorkerId, incarnation: Incarnation, attempt: int) -> bool:
        """Whether this incarnation of a worker holds, or gave back, the lease of an attempt."""
        named = (worker, incarnation, attempt)
        return any((h.worker, h.incarnation, h.attempt) == named for h in self.holders)


class Placement(msgspec.Struct, frozen=True, array_like=True):
    """Where a committed map output is recorded to be: whose attempt, and which incarnation of a worker."""

    attempt: Attempt
    incarnation: Incarnation


def grant(
    claim: Claim, worker: WorkerId, incarnation: Incarnation, now_ms: int, lease_ms: int
) -> tuple[Verdict, Claim]:
    """Ask for the right to run a task. Returns the verdict and the claim after it.

    A lease that ran out blocks nobody. One of an earlier incarnation of the same worker blocks like any
    other, because that incarnation may still run. A speculative task may have two holders, on two different
    workers. No lease lasts longer than `lease_ms` from now: one that seems to was given before the store's
    clock was set back.
    """
    if claim.winner:
        return Verdict.COMMITTED, claim
    holders = tuple(
        Holder(h.worker, h.incarnation, h.attempt, min(h.expires_ms, now_ms + lease_ms))
        for h in claim.holders
    )
    alive = tuple(h for h in holders if h.expires_ms > now_ms)
    allowed = 2 if claim.speculative else 1
    if len(alive) >= allowed or any(h.worker == worker for h in alive):
        return Verdict.HELD, Claim(claim.attempt, claim.fenced_attempt, 0, claim.speculative, holders)
    holder = Holder(worker, incarnation, claim.attempt + 1, now_ms + lease_ms)
    holders = (*_released(claim), *alive, holder)
    return Verdict.GRANTED, Claim(claim.attempt + 1, claim.fenced_attempt, 0, claim.speculative, holders)


def _released(claim: Claim) -> tuple[Holder, ...]:
    return tuple(h for h in claim.holders if h.released)[-RELEASED_KEPT:]


def renew(claim: Claim, incarnation: Incarnation, attempt: int, expires_ms: int) -> Claim | None:
    """Extend an attempt's lease. None: the attempt has no claim any more and is to stop."""
    if claim.winner or not any(h.attempt == attempt and h.incarnation == incarnation for h in claim.running):
        return None
    holders = tuple(
        Holder(h.worker, h.incarnation, h.attempt, expires_ms)
        if h.attempt == attempt and not h.released
        else h
        for h in claim.holders
    )
    return Claim(claim.attempt, claim.fenced_attempt, 0, claim.speculative, holders)


def commit(claim: Claim, attempt: int) -> Claim | None:
    """Make an attempt the one whose output counts: the first to ask wins, the same one may ask twice.

    A store that came back older may have given a number twice, so the store also checks that a second call
    brings exactly the recorded result. None: another attempt won, or this one's output was declared lost. An
    attempt whose lease ran out may still win: its output is as good as any other.
    """
    if claim.winner == attempt:
        return claim
    if claim.winner or attempt <= claim.fenced_attempt or attempt > claim.attempt:
        return None
    return Claim(claim.attempt, claim.fenced_attempt, attempt, False, ())


def release(claim: Claim, incarnation: Incarnation, attempt: int) -> Claim:
    """Give a failed or stopped attempt's lease back. Its holder stays, as released."""
    return _without(claim, lambda holder: (holder.incarnation, holder.attempt) == (incarnation, attempt))


def release_dead(claim: Claim, incarnation: Incarnation) -> Claim:
    """Give back the leases of an incarnation that is dead, so that nobody has to wait until they run out."""
    return _without(claim, lambda holder: holder.incarnation == incarnation)


def _without(claim: Claim, ended: Callable[[Holder], bool]) -> Claim:
    """The claim once the leases of the holders that `ended` selects are given back."""
    holders = tuple(Holder(h.worker, h.incarnation, h.attempt, 0) if ended(h) else h for h in claim.holders)
    after = msgspec.structs.replace(claim, holders=holders)
    return msgspec.structs.replace(after, holders=(*_released(after), *after.running))


def reopen(claim: Claim, lost_attempt: int) -> Claim:
    """Declare a committed output lost, so that the task can run again. No change if it was not the winner."""
    if claim.winner != lost_attempt:
        return claim
    return Claim(claim.attempt, claim.attempt, 0, False, ())


def resume(claim: Claim, kept: bool, known_attempt: int = 0) -> Claim:
    """Let a task of an ended job run again, unless its commit is kept; numbers go on above `known_attempt`.

    No attempt of the time before counts any more: their leases are gone, and they can no longer commit.
    """
    attempt = max(claim.attempt, known_attempt)
    if kept and claim.winner:
        return Claim(attempt, claim.fenced_attempt, claim.winner)
    return Claim(attempt, attempt)


def is_placed(claim: Claim, recorded: Placement | None, asked: Placement) -> bool:
    """Whether an output still is where the caller saw it: only then may it be declared lost or be relocated.

    Meanwhile another attempt may have made it again, or another incarnation of its worker adopted it.
    """
    return 0 < claim.winner == asked.attempt and recorded == asked


def speculate(claim: Claim) -> Claim:
    """Allow a backup attempt on another worker. No change once committed."""
    if claim.winner:
        return claim
    return Claim(claim.attempt, claim.fenced_attempt, 0, True, claim.holders)


def catch_up(claim: Claim, known: Claim, expires_ms: int) -> Claim:
    """Raise a claim in a store that came back older to what the coordinator knows: `known`.

    The next number is above both, and what either side has declared lost stays lost. A commit that either
    side has counts; where they differ, the store's counts, because it was made later. Attempts that the
    coordinator believes to be running hold the task until `expires_ms`, unless the store has given it to
    others since.
    """
    attempt = max(claim.attempt, known.attempt)
    fenced_attempt = max(claim.fenced_attempt, known.fenced_attempt)
    for winner in (claim.winner, known.winner):
        if winner > fenced_attempt:
            return Claim(attempt, fenced_attempt, winner)
    speculative = claim.speculative or known.speculative
    released = tuple(h for h in claim.holders if h.released and h.attempt > fenced_attempt)
    running = [h for h in claim.running if h.attempt > fenced_attempt]
    for h in known.running:
        is_free = all(h.worker != other.worker for other in running)
        is_new = all(h.attempt != other.attempt for other in (*released, *running))
        if h.attempt > fenced_attempt and is_free and is_new and len(running) < (2 if speculative else 1):
            running.append(Holder(h.worker, h.incarnation, h.attempt, expires_ms))
    return Claim(attempt, fenced_attempt, 0, speculative, (*released, *running))
