"""What the coordinator knows of the workers: which are alive, their free slots, which are paused. Pure."""

import math
from dataclasses import dataclass, field

from mr.coordinator.core.commands import ProbeWorker
from mr.coordinator.core.events import ProbeOutcome
from mr.coordinator.core.policy import (
    FORGET_LEASES,
    LATE_BEATS,
    MAX_BLAMES,
    MAX_PROBES_PER_SECOND,
    MISSED_BEATS,
    PROBE_BEATS,
    SILENT_BEATS,
)
from mr.protocol.ids import Incarnation, JobId, WorkerId
from mr.protocol.records import WorkerView
from mr.settings import Settings


@dataclass(slots=True)
class WorkerIncarnation:
    """One incarnation of a worker: what is known of its process."""

    worker: WorkerId
    #: When it was last known to be alive.
    alive_at: float
    dead: bool = False
    #: It said that it stops: only a later heartbeat disproves it, as anybody may have said so.
    final: bool = False
    #: Proven to have ended, not only silent: only a later heartbeat disproves it.
    gone: bool = False
    #: It was seen to drain.
    draining: bool = False
    #: It gave its leases back before it stopped.
    released: bool = False
    #: If dead: until then another worker may start in its spool and adopt the outputs.
    outputs_until: float = 0.0
    #: From its last heartbeat.
    number: int = 0
    control_queue: str = ""
    address: str = ""
    #: Whether its port has answered to this coordinator.
    reachable: bool = False
    probed_at: float = 0.0


#: What is assumed of an incarnation of which nothing was heard: it has not ended.
_UNKNOWN = WorkerIncarnation(WorkerId(""), 0.0)


@dataclass(slots=True)
class Blame:
    """The failures held against a worker, and whether it is paused."""

    #: job -> when a task of it last failed on this worker.
    jobs: dict[JobId, float] = field(default_factory=dict)
    paused_until: float = 0.0

    def is_fresh(self, since: float) -> bool:
        """Whether any of the failures came after `since`."""
        return any(at > since for at in self.jobs.values())


class Membership:
    """The workers, as the last look at the store showed them."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._incarnations: dict[Incarnation, WorkerIncarnation] = {}
        self._blames: dict[WorkerId, Blame] = {}
        self._observed_at: float | None = None
        #: Until then silence proves nothing, because the store was not asked for a while.
        self._grace_until = 0.0
        #: Incarnations that the last look showed draining for the first time.
        self.began_draining: set[Incarnation] = set()
        #: Live workers by id.
        self.views: dict[WorkerId, WorkerView] = {}

    @property
    def observed(self) -> bool:
        """Whether the store has been asked at least once."""
        return self._observed_at is not None

    @property
    def slots(self) -> int:
        """All slots of the live workers."""
        return sum(view.beat.slots for view in self.views.values())

    @property
    def open_slots(self) -> int:
        """The slots for which the live workers take tasks."""
        return sum(view.beat.open_slots for view in self.views.values())

    def free_slots(self) -> dict[WorkerId, int]:
        """Open slots in which nothing runs, by worker."""
        return {
            worker: max(0, view.beat.open_slots - len(view.beat.running))
            for worker, view in self.views.items()
        }

    def limits(self) -> str:
        """Why the live workers take fewer tasks than they have slots; empty if they take as many."""
        return "; ".join(
            f"{worker}: {view.beat.limited_by}"
            for worker, view in sorted(self.views.items())
            if view.beat.limited_by
        )

    # --- which workers are alive

    def observe(self, now: float, views: tuple[WorkerView, ...]) -> set[Incarnation]:
        """Take in the heartbeats in the store. Returns the incarnations that ended since the last call."""
        lease_seconds = self._settings.lease_seconds
        if self._observed_at is None or now - self._observed_at > lease_seconds / 2:
            self._grace_until = now + lease_seconds
        self._observed_at = now
        self.views = {}
        self.began_draining = set()
        for view in views:
            beat = view.beat
            known = self.hear_of(beat.worker, beat.incarnation, now)
            if (known.final or known.gone) and beat.number <= known.number:
                continue
            known.alive_at = max(known.alive_at, now - max(0.0, view.age_seconds))
            known.number, known.control_queue, known.address = beat.number, beat.control_queue, beat.address
            if view.live:
                known.dead = known.gone = known.final = known.released = False
                self.views[beat.worker] = view
                if beat.draining and not known.draining:
                    known.draining = True
                    self.began_draining.add(beat.incarnation)
        ended = {name for name, known in self._incarnations.items() if self._has_ended(name, known, now)}
        for name in ended:
            self._incarnations[name].dead = True
        ended |= self._proven_dead()
        self._forget(now)
        return ended

    def _has_ended(self, name: Incarnation, known: WorkerIncarnation, now: float) -> bool:
        """Whether an incarnation that was alive until now has been silent for too long."""
        if known.dead or self._is_seen(name, known):
            return False
        return now >= self._grace_until and now - known.alive_at > self._settings.lease_seconds

    def _proven_dead(self) -> set[Incarnation]:
        """Incarnations thought alive whose end is proven by a worker that started in the same spool."""
        proven: set[Incarnation] = set()
        for view in self.views.values():
            for name in view.beat.ended:
                known = self._incarnations.get(name)
                if known is not None and not known.dead:
                    known.dead = known.gone = True
                    proven.add(name)
        return proven

    def _is_seen(self, name: Incarnation, known: WorkerIncarnation) -> bool:
        """Whether the store shows this incarnation under its worker's id."""
        view = self.views.get(known.worker)
        return view is not None and view.beat.incarnation == name

    def _forget(self, now: float) -> None:
        oldest = now - FORGET_LEASES * self._settings.lease_seconds
        self._incarnations = {
            n: known
            for n, known in self._incarnations.items()
            if not (known.dead and known.alive_at < oldest)
        }
        since = now - self._settings.exclude_seconds
        self._blames = {
            w: blame for w, blame in self._blames.items() if blame.paused_until > now or blame.is_fresh(since)
        }

    def hear_of(self, worker: WorkerId, incarnation: Incarnation, now: float) -> WorkerIncarnation:
        """Note that an incarnation was mentioned. A new one counts as alive until its lease runs out."""
        known = self._incarnations.get(incarnation)
        if known is None:
            known = self._incarnations[incarnation] = WorkerIncarnation(worker, now)
        return known

    def hear_from(self, worker: WorkerId, incarnation: Incarnation, now: float) -> None:
        """Note that a worker sent a report, so it is alive."""
        known = self.hear_of(worker, incarnation, now)
        if not (known.final or known.gone):
            known.alive_at = now
            known.dead = False

    def due_probes(self, now: float) -> list[ProbeWorker]:
        """The probes that are due, silent workers first, at most MAX_PROBES_PER_SECOND."""
        settings = self._settings
        taken = {view.beat.address for view in self.views.values()}
        due = [
            (now - known.alive_at <= LATE_BEATS * settings.heartbeat_seconds, known.probed_at, name)
            for name, known in self._incarnations.items()
            if not known.dead
            and known.control_queue
            and known.address
            and now - known.probed_at >= PROBE_BEATS * settings.heartbeat_seconds
        ]
        commands = []
        for *_, name in sorted(due)[: math.ceil(MAX_PROBES_PER_SECOND * settings.tick_seconds)]:
            known = self._incarnations[name]
            known.probed_at = now
            replaced = known.address in taken and not self._is_seen(name, known)
            silent = now - known.alive_at > SILENT_BEATS * settings.heartbeat_seconds
            where = known.control_queue, known.address
            cause = "its heartbeats have stopped" if silent else "its turn has come"
            commands.append(
                ProbeWorker(name, known.number, *where, known.reachable, replaced, silent, cause=cause)
            )
        return commands

    def probed(self, incarnation: Incarnation, number: int, outcome: ProbeOutcome) -> bool:
        """Take in a probe's outcome. Returns whether it proves the end of an incarnation thought alive."""
        known = self._incarnations.get(incarnation)
        if known is None or known.dead or number < known.number:
            return False
        if outcome is ProbeOutcome.REACHED:
            known.reachable = True
            return False
        known.dead = known.gone = True
        if self._is_seen(incarnation, known):
            del self.views[known.worker]
        return True

    def stopped(
        self, worker: WorkerId, incarnation: Incarnation, now: float, *, leaves_outputs: bool = False
    ) -> bool:
        """Note that an incarnation stopped in good order. Returns False if that was known.

        Outputs that it leaves may be adopted for as long as those of a worker that died.
        """
        known = self.hear_of(worker, incarnation, now)
        news = not known.final
        known.dead = known.final = known.released = True
        if news and leaves_outputs:
            known.outputs_until = now + self._settings.lease_seconds
        if worker in self.views and self.views[worker].beat.incarnation == incarnation:
            del self.views[worker]
        return news

    def _get(self, incarnation: Incarnation) -> WorkerIncarnation:
        return self._incarnations.get(incarnation, _UNKNOWN)

    def is_dead(self, incarnation: Incarnation) -> bool:
        """Whether an incarnation has ended, as far as is known."""
        return self._get(incarnation).dead

    def has_left(self, incarnation: Incarnation) -> bool:
        """Whether an incarnation drains, or was drained or stopped in good order."""
        known = self._get(incarnation)
        return known.final or (known.draining and not known.dead)

    def worker_of(self, incarnation: Incarnation) -> WorkerId:
        """The worker of an incarnation; empty if that is not known."""
        return self._get(incarnation).worker

    def is_beating(self, worker: WorkerId, incarnation: Incarnation, now: float) -> bool:
        """Whether this incarnation has missed no heartbeat."""
        view = self.views.get(worker)
        if view is None or view.beat.incarnation != incarnation:
            return False
        patience_seconds = MISSED_BEATS * self._settings.heartbeat_seconds + self._settings.tick_seconds
        return now - self._get(incarnation).alive_at <= patience_seconds

    def is_gone(self, incarnation: Incarnation) -> bool:
        """Whether an incarnation is proven to have ended."""
        return self._get(incarnation).gone

    def outputs_gone(self, incarnation: Incarnation, now: float) -> bool:
        """Whether the outputs of an incarnation are lost, except those that another has adopted."""
        known = self._get(incarnation)
        return known.dead and now >= known.outputs_until

    def may_return(self, incarnation: Incarnation, now: float) -> bool:
        """Whether an incarnation has ended and its outputs may still be adopted by another."""
        known = self._get(incarnation)
        return known.dead and now < known.outputs_until

    def leases_gone_at(self, incarnation: Incarnation, now: float) -> float:
        """When the store will grant others the tasks of a dead incarnation: no use to publish them sooner."""
        known = self._get(incarnation)
        if not known.dead or known.released or known.gone:
            return now
        lease_seconds = self._settings.lease_seconds + self._settings.heartbeat_seconds
        return min(max(now, known.alive_at + lease_seconds), now + lease_seconds)

    # --- which workers are paused

    def blame(self, worker: WorkerId, job: JobId, now: float) -> bool:
        """Note a failure that may be the worker's fault. Returns whether the worker is now paused.

        At most half of the live workers are paused at once: if all of them fail, the fault lies elsewhere.
        """
        since = now - self._settings.exclude_seconds
        blame = self._blames.setdefault(worker, Blame())
        blame.jobs = {j: at for j, at in blame.jobs.items() if at > since}
        if job in blame.jobs or len(blame.jobs) < MAX_BLAMES:
            blame.jobs[job] = now
        if len(blame.jobs) < self._settings.exclude_jobs:
            return False
        if not self.pause(worker, self._settings.exclude_seconds, now):
            return False
        blame.jobs.clear()
        return True

    def pause(self, worker: WorkerId, seconds: float, now: float, *, new_reason: bool = False) -> bool:
        """Give a worker no tasks for a while; extend a pause, or repeat it for a `new_reason`.

        Returns False, and does nothing, if it would change little or half of the workers are paused already.
        """
        paused = sum(self.is_paused(name, now) for name in self.views if name != worker)
        blame = self._blames.setdefault(worker, Blame())
        left_seconds = max(0.0, blame.paused_until - now)
        if left_seconds > seconds / 2 and not new_reason:
            return False
        if not left_seconds and 2 * (paused + 1) > len(self.views):
            return False
        blame.paused_until = now + seconds
        return True

    def resume(self, worker: WorkerId) -> None:
        """Give a paused worker tasks again."""
        if worker in self._blames:
            self._blames[worker].paused_until = 0.0

    def is_paused(self, worker: WorkerId, now: float) -> bool:
        """Whether a worker was told to take no tasks."""
        blame = self._blames.get(worker)
        return blame is not None and blame.paused_until > now
