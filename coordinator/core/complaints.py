"""Complaints of workers that they cannot reach other workers, and whose fault it is. Pure.

No output of a live worker is given up because one other worker cannot reach it. A second one has to agree;
or, if no third worker could tell, the first has to report it three times. Until then the reporter is paused,
so that its tasks go to other workers, which will find out.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from mr.coordinator.core.membership import Membership
from mr.protocol.ids import Incarnation, WorkerId
from mr.protocol.messages import PauseWorker
from mr.settings import Settings

#: A complaint is remembered for this many times `lease_seconds`.
COMPLAINT_LEASES = 6
#: The reporter of an unconfirmed complaint is paused for this many times `lease_seconds`.
REPORTER_PAUSE_LEASES = 3
#: So many complaints about a worker are believed if no other worker can confirm or refute them.
UNCONFIRMED_COMPLAINTS = 3
#: Workers named in the reason for a pause.
_NAMES = 5


@dataclass(slots=True)
class Judgement:
    """What follows from one report of lost inputs."""

    #: Workers that cannot be reached: their outputs are lost.
    lost: set[WorkerId] = field(default_factory=set)
    pauses: list[PauseWorker] = field(default_factory=list)


@dataclass(slots=True)
class _Complaint:
    at: float
    times: int = 0


class Complaints:
    """The recent complaints: which worker could not reach which others."""

    def __init__(self, settings: Settings, membership: Membership) -> None:
        self._settings = settings
        self._membership = membership
        #: Worker complained of -> reporter -> complaint.
        self._complaints: dict[WorkerId, dict[WorkerId, _Complaint]] = {}
        #: Workers that are paused only because of their own complaints.
        self._paused_reporters: set[WorkerId] = set()

    def note_success(self, reducer: WorkerId) -> None:
        """Drop the complaints of a reducer that committed: it has reached every worker."""
        for reporters in self._complaints.values():
            reporters.pop(reducer, None)

    def judge(self, reporter: WorkerId, unreached: Mapping[WorkerId, Incarnation], now: float) -> Judgement:
        """Take in that `reporter` could not reach these workers, and decide what follows.

        Complaints about workers whose heartbeats have stopped are ignored: their leases decide.
        """
        self._forget(now)
        beating = [w for w, i in unreached.items() if self._membership.is_beating(w, i, now)]
        for worker in beating:
            if worker != reporter:
                noted = self._complaints.setdefault(worker, {}).setdefault(reporter, _Complaint(now))
                noted.at, noted.times = now, noted.times + 1
        judgement = Judgement()
        judgement.lost = {worker for worker in beating if self._is_confirmed(worker, reporter, now)}
        for worker in sorted(judgement.lost):
            judgement.pauses += self._pause_faulty(worker, now)
        if self._is_cut_off(reporter) and self._paused_reporters & self._complaints.get(reporter, {}).keys():
            judgement.pauses += self._pause_faulty(reporter, now)
        unconfirmed = [worker for worker in beating if worker not in judgement.lost]
        if unconfirmed:
            judgement.pauses += self._pause_reporter(reporter, unconfirmed, now)
        return judgement

    def _forget(self, now: float) -> None:
        oldest = now - COMPLAINT_LEASES * self._settings.lease_seconds
        for worker, reporters in list(self._complaints.items()):
            fresh = {who: complaint for who, complaint in reporters.items() if complaint.at > oldest}
            if fresh:
                self._complaints[worker] = fresh
            else:
                del self._complaints[worker]
        self._paused_reporters = {
            worker for worker in self._paused_reporters if self._membership.is_paused(worker, now)
        }

    def _unreachable_for(self, reporter: WorkerId) -> Collection[WorkerId]:
        """The live workers of which a worker complains."""
        unreached = [worker for worker, reporters in self._complaints.items() if reporter in reporters]
        return [worker for worker in unreached if worker in self._membership.views]

    def _is_cut_off(self, worker: WorkerId) -> bool:
        """Whether a worker cannot reach more than half of the others: then the fault is its own."""
        return 2 * len(self._unreachable_for(worker)) > len(self._membership.views) - 1

    def _is_confirmed(self, worker: WorkerId, reporter: WorkerId, now: float) -> bool:
        """Whether the reporter's complaint about a worker is confirmed, or nobody can confirm it."""
        reporters = self._complaints.get(worker, {})
        if reporter not in reporters:
            return False
        others = [who for who in reporters if who != reporter and not self._is_cut_off(who)]
        if not self._is_cut_off(reporter) and (others or self._is_cut_off(worker)):
            return True
        times = sum(complaint.times for complaint in reporters.values())
        return times >= UNCONFIRMED_COMPLAINTS and not any(self._possible_witnesses(worker, now))

    def _possible_witnesses(self, worker: WorkerId, now: float) -> Iterator[WorkerId]:
        """Workers that take tasks and have not complained: one of them may yet reach `worker`."""
        for name, view in self._membership.views.items():
            takes_tasks = view.beat.open_slots > 0 and not self._membership.is_paused(name, now)
            if takes_tasks and name != worker and name not in self._complaints[worker]:
                yield name

    def _pause_faulty(self, worker: WorkerId, now: float) -> Iterator[PauseWorker]:
        """Pause a worker that others rightly complain of, and give those tasks again."""
        reporters = self._complaints[worker]
        for who in sorted(self._paused_reporters & reporters.keys()):
            if not self._is_cut_off(who):
                self._paused_reporters.discard(who)
                self._membership.resume(who)
                yield PauseWorker(who, 0.0, "")
        seconds = self._settings.exclude_seconds
        # If it was paused for its own complaint, the reason has changed.
        was_reporter = worker in self._paused_reporters and not self._is_cut_off(worker)
        if self._membership.pause(worker, seconds, now, new_reason=was_reporter):
            yield PauseWorker(worker, seconds, f"{_named(reporters)} cannot reach it")

    def _pause_reporter(
        self, reporter: WorkerId, unreached: Collection[WorkerId], now: float
    ) -> Iterator[PauseWorker]:
        """Pause a worker whose complaints no other worker has confirmed."""
        seconds = self._settings.exclude_seconds
        if not self._is_cut_off(reporter):
            seconds = min(seconds, REPORTER_PAUSE_LEASES * self._settings.lease_seconds)
        if self._membership.pause(reporter, seconds, now):
            self._paused_reporters.add(reporter)
            yield PauseWorker(reporter, seconds, f"cannot reach {_named(unreached)}")


def _named(workers: Collection[WorkerId]) -> str:
    names = sorted(workers)
    more = f" and {len(names) - _NAMES} more" if len(names) > _NAMES else ""
    return f"worker{'s' * (len(names) > 1)} {', '.join(names[:_NAMES])}{more}"
