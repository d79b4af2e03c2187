"""What the coordinator knows of the workers: who lives, what room they have, whom to trust. Pure."""

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
    """One life (incarnation) of a worker."""

    worker: WorkerId
    #: When it was last known to live.
    alive_at: float
    dead: bool = False
    #: Left in good order: never comes back.
    final: bool = False
    #: Known to have ended, not only silent: nothing but a later heartbeat shows otherwise.
    gone: bool = False
    #: Gave its leases back before it left.
    released: bool = False
    #: Once dead: until then a worker that starts in the same spool may register the outputs as its own.
    outputs_until: float = 0.0
    #: As its last heartbeat said.
    number: int = 0
    control_queue: str = ""
    address: str = ""
    #: Whether its port has answered to this coordinator.
    reachable: bool = False
    probed_at: float = 0.0


@dataclass(slots=True)
class Blame:
    """What speaks against a worker."""

    #: job -> when a task of it last failed here.
    jobs: dict[JobId, float] = field(default_factory=dict)
    paused_until: float = 0.0

    def is_fresh(self, since: float) -> bool:
        """Whether any of it is of after `since`."""
        return any(at > since for at in self.jobs.values())


class Membership:
    """The workers, as the last look at the store showed them."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lives: dict[Incarnation, WorkerIncarnation] = {}
        self._blames: dict[WorkerId, Blame] = {}
        self._observed_at: float | None = None
        #: Until then silence proves nothing: the store had not been asked for a while.
        self._grace_until = 0.0
        #: Live workers by id.
        self.views: dict[WorkerId, WorkerView] = {}

    @property
    def observed(self) -> bool:
        """Whether the store was ever asked."""
        return self._observed_at is not None

    @property
    def slots(self) -> int:
        """Slots of the live workers."""
        return sum(view.beat.slots for view in self.views.values())

    @property
    def open_slots(self) -> int:
        """Slots for which the live workers take tasks."""
        return sum(view.beat.open_slots for view in self.views.values())

    def free_slots(self) -> dict[WorkerId, int]:
        """Open slots that nothing runs in, by worker."""
        return {
            worker: max(0, view.beat.open_slots - len(view.beat.running))
            for worker, view in self.views.items()
        }

    def limits(self) -> str:
        """Why the live workers take fewer tasks than they have slots, in words; empty when they do not."""
        return "; ".join(
            f"{worker}: {view.beat.limited_by}"
            for worker, view in sorted(self.views.items())
            if view.beat.limited_by
        )

    # --- who lives

    def observe(self, now: float, views: tuple[WorkerView, ...]) -> set[Incarnation]:
        """Take in what the store says. Returns the lives that ended since the last look."""
        lease_seconds = self._settings.lease_seconds
        if self._observed_at is None or now - self._observed_at > lease_seconds / 2:
            self._grace_until = now + lease_seconds
        self._observed_at = now
        self.views = {}
        for view in views:
            beat = view.beat
            life = self.hear_of(beat.worker, beat.incarnation, now)
            if life.final or (life.gone and beat.number <= life.number):
                continue
            life.alive_at = max(life.alive_at, now - max(0.0, view.age_seconds))
            life.number, life.control_queue, life.address = beat.number, beat.control_queue, beat.address
            if view.live:
                life.dead = life.gone = False
                self.views[beat.worker] = view
        ended = {name for name, life in self._lives.items() if self._has_ended(name, life, now)}
        for name in ended:
            self._lives[name].dead = True
        ended |= self._proven_dead()
        self._forget(now)
        return ended

    def _has_ended(self, name: Incarnation, life: WorkerIncarnation, now: float) -> bool:
        """Whether this look shows that a life is over which until now was not."""
        if life.dead or self._is_seen(name, life):
            return False
        return now >= self._grace_until and now - life.alive_at > self._settings.lease_seconds

    def _proven_dead(self) -> set[Incarnation]:
        """Lives thought to live whose end a worker that started in the same spool has seen."""
        proven: set[Incarnation] = set()
        for view in self.views.values():
            for name in view.beat.ended:
                life = self._lives.get(name)
                if life is not None and not life.dead:
                    life.dead = life.gone = True
                    proven.add(name)
        return proven

    def _is_seen(self, name: Incarnation, life: WorkerIncarnation) -> bool:
        """Whether a life is the one that the store shows under its worker's id."""
        view = self.views.get(life.worker)
        return view is not None and view.beat.incarnation == name

    def _forget(self, now: float) -> None:
        oldest = now - FORGET_LEASES * self._settings.lease_seconds
        self._lives = {
            n: life for n, life in self._lives.items() if not (life.dead and life.alive_at < oldest)
        }
        since = now - self._settings.exclude_seconds
        self._blames = {
            w: blame for w, blame in self._blames.items() if blame.paused_until > now or blame.is_fresh(since)
        }

    def hear_of(self, worker: WorkerId, incarnation: Incarnation, now: float) -> WorkerIncarnation:
        """Note that a life was mentioned; a new one counts as alive until silence proves otherwise."""
        life = self._lives.get(incarnation)
        if life is None:
            life = self._lives[incarnation] = WorkerIncarnation(worker, now)
        return life

    def hear_from(self, worker: WorkerId, incarnation: Incarnation, now: float) -> None:
        """Note a sign of life other than a heartbeat: a worker that reports lives."""
        life = self.hear_of(worker, incarnation, now)
        if not (life.final or life.gone):
            life.alive_at = now
            life.dead = False

    def due_probes(self, now: float) -> list[ProbeWorker]:
        """The probes that are due: silent workers first, at most MAX_PROBES_PER_SECOND."""
        settings = self._settings
        taken = {view.beat.address for view in self.views.values()}
        due = [
            (now - life.alive_at <= LATE_BEATS * settings.heartbeat_seconds, life.probed_at, name)
            for name, life in self._lives.items()
            if not life.dead
            and life.control_queue
            and life.address
            and now - life.probed_at >= PROBE_BEATS * settings.heartbeat_seconds
        ]
        commands = []
        for *_, name in sorted(due)[: math.ceil(MAX_PROBES_PER_SECOND * settings.tick_seconds)]:
            life = self._lives[name]
            life.probed_at = now
            replaced = life.address in taken and not self._is_seen(name, life)
            silent = now - life.alive_at > SILENT_BEATS * settings.heartbeat_seconds
            where = life.control_queue, life.address
            cause = "its heartbeats have stopped" if silent else "its turn has come"
            commands.append(
                ProbeWorker(name, life.number, *where, life.reachable, replaced, silent, cause=cause)
            )
        return commands

    def probed(self, incarnation: Incarnation, number: int, outcome: ProbeOutcome) -> bool:
        """Take in what a probe showed. Returns whether a life that was thought to live has ended."""
        life = self._lives.get(incarnation)
        if life is None or life.dead or number < life.number:
            return False
        if outcome is ProbeOutcome.REACHED:
            life.reachable = True
            return False
        life.dead = life.gone = True
        if self._is_seen(incarnation, life):
            del self.views[life.worker]
        return True

    def stopped(
        self, worker: WorkerId, incarnation: Incarnation, now: float, *, leaves_outputs: bool = False
    ) -> bool:
        """Note that a life ended in good order. Returns whether that is news.

        Outputs that it leaves have as long to be adopted as those of a worker that died.
        """
        life = self.hear_of(worker, incarnation, now)
        news = not life.final
        life.dead = life.final = life.released = True
        if news and leaves_outputs:
            life.outputs_until = now + self._settings.lease_seconds
        if worker in self.views and self.views[worker].beat.incarnation == incarnation:
            del self.views[worker]
        return news

    def is_dead(self, incarnation: Incarnation) -> bool:
        """Whether a life is over; an unknown one is not."""
        life = self._lives.get(incarnation)
        return life is not None and life.dead

    def is_beating(self, worker: WorkerId, incarnation: Incarnation, now: float) -> bool:
        """Whether this life of a worker was heard of a moment ago: it misses no heartbeat."""
        view, life = self.views.get(worker), self._lives.get(incarnation)
        if view is None or life is None or view.beat.incarnation != incarnation:
            return False
        patience_seconds = MISSED_BEATS * self._settings.heartbeat_seconds + self._settings.tick_seconds
        return now - life.alive_at <= patience_seconds

    def is_gone(self, incarnation: Incarnation) -> bool:
        """Whether a life is known to have ended."""
        life = self._lives.get(incarnation)
        return life is not None and life.gone

    def outputs_gone(self, incarnation: Incarnation, now: float) -> bool:
        """Whether what a life held in its spool is lost, unless another has registered it."""
        life = self._lives.get(incarnation)
        return life is not None and life.dead and now >= life.outputs_until

    def may_return(self, incarnation: Incarnation, now: float) -> bool:
        """Whether a life is over whose outputs may yet be registered by another in the same spool."""
        life = self._lives.get(incarnation)
        return life is not None and life.dead and now < life.outputs_until

    def leases_gone_at(self, incarnation: Incarnation, now: float) -> float:
        """When the store lets others have what a dead life had claimed: publishing sooner is in vain."""
        life = self._lives.get(incarnation)
        if life is None or not life.dead or life.released or life.gone:
            return now
        lease_seconds = self._settings.lease_seconds + self._settings.heartbeat_seconds
        return min(max(now, life.alive_at + lease_seconds), now + lease_seconds)

    # --- whom to trust

    def blame(self, worker: WorkerId, job: JobId, now: float) -> bool:
        """Note a failure that may be the worker's. Returns whether it is to be paused now.

        Never more than half of the live workers at once: when all of them fail, it is not them.
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
        """Give a worker no tasks for a while, or for longer than it was told, or for a `new_reason`.

        False: little would change, or half of the workers get none already.
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
        """Let a paused worker have tasks again."""
        if worker in self._blames:
            self._blames[worker].paused_until = 0.0

    def is_paused(self, worker: WorkerId, now: float) -> bool:
        """Whether a worker was told to take no tasks."""
        blame = self._blames.get(worker)
        return blame is not None and blame.paused_until > now
