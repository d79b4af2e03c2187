"""Whose fault it is that a reducer cannot reach a worker: the one that it asked, or its own. Pure.

One worker's word re-runs nothing that a live worker holds. A second one has to agree; or, where no third is
there to judge, it has to say so three times. Until then the reporter is paused, so that its tasks go to
others, who find out.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from mr.coordinator.core.membership import Membership
from mr.protocol.ids import Incarnation, WorkerId
from mr.protocol.messages import PauseWorker
from mr.settings import Settings

#: A complaint is remembered for this many times `lease_seconds`.
COMPLAINT_LEASES = 6
#: A worker whose complaint may yet prove right is paused for this many times `lease_seconds`.
DOUBT_LEASES = 3
#: Complaints about a worker that are believed where no other worker can judge.
LONELY_COMPLAINTS = 3
#: Workers named in the reason for a pause.
_NAMES = 5


@dataclass(slots=True)
class Judgement:
    """What follows from one report."""

    #: Workers that cannot be reached: what they hold is lost.
    lost: set[WorkerId] = field(default_factory=set)
    pauses: list[PauseWorker] = field(default_factory=list)


@dataclass(slots=True)
class _Complaint:
    at: float
    times: int = 0


class Complaints:
    """Recent complaints: which workers could not reach which others."""

    def __init__(self, settings: Settings, membership: Membership) -> None:
        self._settings = settings
        self._membership = membership
        #: Worker complained of -> who complained.
        self._complaints: dict[WorkerId, dict[WorkerId, _Complaint]] = {}
        #: Workers paused only because of their own complaints.
        self._doubted: set[WorkerId] = set()

    def note_success(self, reducer: WorkerId) -> None:
        """A reducer that committed has reached everybody: what it said before is over."""
        for by_whom in self._complaints.values():
            by_whom.pop(reducer, None)

    def judge(self, reporter: WorkerId, missed: Mapping[WorkerId, Incarnation], now: float) -> Judgement:
        """Take in that `reporter` could not reach these workers, and say what follows.

        Nothing follows from the silence of a worker whose heartbeats have stopped: its lease decides.
        """
        self._forget(now)
        beating = [w for w, life in missed.items() if self._membership.is_beating(w, life, now)]
        for worker in beating:
            if worker != reporter:
                noted = self._complaints.setdefault(worker, {}).setdefault(reporter, _Complaint(now))
                noted.at, noted.times = now, noted.times + 1
        judgement = Judgement()
        judgement.lost = {worker for worker in beating if self._is_agreed(worker, reporter, now)}
        for worker in sorted(judgement.lost):
            judgement.pauses += self._condemn(worker, now)
        if self._is_cut_off(reporter) and self._doubted & self._complaints.get(reporter, {}).keys():
            judgement.pauses += self._condemn(reporter, now)
        unproven = [worker for worker in beating if worker not in judgement.lost]
        if unproven:
            judgement.pauses += self._doubt(reporter, unproven, now)
        return judgement

    def _forget(self, now: float) -> None:
        oldest = now - COMPLAINT_LEASES * self._settings.lease_seconds
        for worker, by_whom in list(self._complaints.items()):
            fresh = {who: complaint for who, complaint in by_whom.items() if complaint.at > oldest}
            if fresh:
                self._complaints[worker] = fresh
            else:
                del self._complaints[worker]
        self._doubted = {worker for worker in self._doubted if self._membership.is_paused(worker, now)}

    def _missed_by(self, reporter: WorkerId) -> Collection[WorkerId]:
        """The live workers that a worker complains of."""
        missed = [worker for worker, by_whom in self._complaints.items() if reporter in by_whom]
        return [worker for worker in missed if worker in self._membership.views]

    def _is_cut_off(self, worker: WorkerId) -> bool:
        """Whether a worker misses more than half of the others: then it is the one that cannot be reached."""
        return 2 * len(self._missed_by(worker)) > len(self._membership.views) - 1

    def _is_agreed(self, worker: WorkerId, reporter: WorkerId, now: float) -> bool:
        """Whether the reporter's word about a worker is confirmed, or as good as can be had."""
        by_whom = self._complaints.get(worker, {})
        if reporter not in by_whom:
            return False
        others = [who for who in by_whom if who != reporter and not self._is_cut_off(who)]
        if not self._is_cut_off(reporter) and (others or self._is_cut_off(worker)):
            return True
        times = sum(complaint.times for complaint in by_whom.values())
        return times >= LONELY_COMPLAINTS and not any(self._judges(worker, now))

    def _judges(self, worker: WorkerId, now: float) -> Iterator[WorkerId]:
        """Workers that take tasks and have not complained: one of them may find that all is well."""
        for name, view in self._membership.views.items():
            takes_tasks = view.beat.open_slots > 0 and not self._membership.is_paused(name, now)
            if takes_tasks and name != worker and name not in self._complaints[worker]:
                yield name

    def _condemn(self, worker: WorkerId, now: float) -> Iterator[PauseWorker]:
        """Pause a worker that others rightly complain of, and let those take tasks again."""
        by_whom = self._complaints[worker]
        for who in sorted(self._doubted & by_whom.keys()):
            if not self._is_cut_off(who):
                self._doubted.discard(who)
                self._membership.resume(who)
                yield PauseWorker(who, 0.0, "")
        seconds = self._settings.exclude_seconds
        # One that misses nobody but itself was paused for its own complaint.
        was_doubted = worker in self._doubted and not self._is_cut_off(worker)
        if self._membership.pause(worker, seconds, now, new_reason=was_doubted):
            yield PauseWorker(worker, seconds, f"{_named('worker', by_whom)} cannot reach it")

    def _doubt(self, reporter: WorkerId, missed: Collection[WorkerId], now: float) -> Iterator[PauseWorker]:
        """Pause a worker whose complaints nobody else has confirmed."""
        seconds = self._settings.exclude_seconds
        if not self._is_cut_off(reporter):
            seconds = min(seconds, DOUBT_LEASES * self._settings.lease_seconds)
        if self._membership.pause(reporter, seconds, now):
            self._doubted.add(reporter)
            yield PauseWorker(reporter, seconds, f"cannot reach {_named('worker', missed)}")


def _named(noun: str, workers: Collection[WorkerId]) -> str:
    names = sorted(workers)
    more = f" and {len(names) - _NAMES} more" if len(names) > _NAMES else ""
    return f"{noun}{'s' * (len(names) > 1)} {', '.join(names[:_NAMES])}{more}"
