"""Jobs share slots by weight, and none waits without end. Broker and slots are simulated.

The broker is one queue, first in, first out inside a priority; a slot that is free takes the next message.
"""

import heapq
import re
from collections import Counter
from collections.abc import Iterator
from itertools import islice

from hypothesis import given, settings
from hypothesis import strategies as st

from mr.protocol.ids import JobId, TaskKind
from mr.protocol.queues import task_priority
from mr.settings import Settings
from tests.scenarios.script import Script

WEIGHTS = st.sampled_from((0.5, 1.0, 2.0, 3.0, 5.0))
SLOTS = st.integers(1, 8)
STARVATION_SECONDS = 10.0
SECONDS = st.sampled_from((0.02, 0.4, 5.0, 60.0))
#: Between two looks at the workers, where ageing is not what is looked at.
TICK_SECONDS = 30.0


class Slots:
    """Slots that run what the scheduler publishes."""

    def __init__(self, slots: int, tick_seconds: float = TICK_SECONDS) -> None:
        self.script = Script(Settings(starvation_seconds=STARVATION_SECONDS))
        self._tick_seconds = tick_seconds
        self._free = slots
        self._workers = f"workers w1.1:{slots}"
        self._queue: list[tuple[int, int, str, str]] = []
        self._ends: list[tuple[float, int, str, str]] = []
        self._seconds: dict[str, float] = {}
        self._attempts: Counter[tuple[str, str]] = Counter()
        self._published = 0
        self.play(self._workers)

    @property
    def now(self) -> float:
        """Virtual seconds."""
        return self.script.now

    def accept(self, job: str, tasks: int, seconds: float, weight: float = 1.0, priority: int = 2) -> None:
        """Let a map-only job begin."""
        self._seconds[job] = seconds
        self.play(f"accept {job} maps={tasks} reduces=0 weight={weight} priority={priority}")

    def play(self, line: str) -> None:
        """Let something happen, and queue what is published."""
        for shown in self.script.play(f"> {line}").splitlines():
            for job, task, priority in re.findall(r"(\S+)/(\S+?)(?:@(\d+))?(?=\s|$)", _published(shown)):
                usual = task_priority(
                    self.script.scheduler.state.jobs[JobId(job)].spec.options.priority, TaskKind.MAP
                )
                self._published += 1
                heapq.heappush(self._queue, (-int(priority or usual), self._published, job, task))

    def starts(self) -> Iterator[str]:
        """The jobs whose tasks start, one after the other, while time passes."""
        tick_at = self.now + self._tick_seconds
        while True:
            while self._free and self._queue:
                _, number, job, task = heapq.heappop(self._queue)
                self._attempts[job, task] += 1
                if self._attempts[job, task] > 1:
                    continue  # a message too many: the claim refuses it
                self._free -= 1
                heapq.heappush(self._ends, (self.now + self._seconds[job], number, job, task))
                yield job
            if self._ends and self._ends[0][0] <= tick_at:
                end, _, job, task = heapq.heappop(self._ends)
                self._free += 1
                self.play(f"wait {end - self.now}s")
                self.play(f"committed {job} {task}/1 by w1.1 in {self._seconds[job]}s")
            else:
                self.play(f"wait {tick_at - self.now}s")
                self.play(self._workers)
                tick_at += self._tick_seconds


def _published(line: str) -> str:
    words = line.strip()
    return words.removeprefix("publish ") if words.startswith("publish ") else ""


def _are_shares(counts: Counter[str], weights: list[float], total: int) -> bool:
    """Whether each job got its share within 10 %, or within two tasks where a tenth is less."""
    shares = [total * weight / sum(weights) for weight in weights]
    return all(
        abs(counts[str(number)] - share) <= max(2.0, 0.1 * share) for number, share in enumerate(shares)
    )


@settings(max_examples=25, deadline=None)
@given(st.lists(WEIGHTS, min_size=2, max_size=4), SLOTS, SECONDS)
def test_jobs_start_tasks_in_the_shares_of_their_weights(
    weights: list[float], slots: int, seconds: float
) -> None:
    cluster = Slots(slots)
    for number, weight in enumerate(weights):
        cluster.accept(str(number), 120, seconds, weight)
    starts = cluster.starts()
    list(islice(starts, 2 * slots + 4))  # the first job had the window for itself
    counts = Counter(islice(starts, 100))
    assert _are_shares(counts, weights, 100), counts


@settings(max_examples=25, deadline=None)
@given(WEIGHTS, WEIGHTS, SLOTS, SECONDS)
def test_a_job_that_joins_late_gets_no_more_than_its_share(
    first: float, second: float, slots: int, seconds: float
) -> None:
    cluster = Slots(slots)
    cluster.accept("0", 150, seconds, first)
    starts = cluster.starts()
    list(islice(starts, 50))
    cluster.accept("1", 80, seconds, second)
    list(islice(starts, 2 * slots + 4))
    counts = Counter(islice(starts, 60))
    assert _are_shares(counts, [first, second], 60), counts


@settings(max_examples=25, deadline=None)
@given(SLOTS, st.sampled_from((0.4, 2.0, 5.0)), st.integers(1, 4))
def test_no_job_waits_longer_than_the_setting_behind_a_stream_of_higher_priority(
    slots: int, seconds: float, low_jobs: int
) -> None:
    cluster = Slots(slots, tick_seconds=0.5)
    cluster.accept("stream", int(slots * 50 / seconds), seconds, priority=4)
    starts = cluster.starts()
    list(islice(starts, slots))
    names = {f"low{number}" for number in range(low_jobs)}
    for number, name in enumerate(sorted(names)):
        cluster.accept(name, 5, seconds, priority=number % 4)
    accepted_at = cluster.now
    waiting = set(names)
    while waiting:
        waiting.discard(next(starts))
        # A task before theirs at most in each place of the window, and before one another.
        rounds = 3 + low_jobs
        assert cluster.now - accepted_at <= STARVATION_SECONDS + rounds * seconds + 1.0, waiting


def test_short_tasks_and_long_ones_share_the_slots_and_not_the_starts() -> None:
    """A job of tasks that take ten times as long starts a tenth as many."""
    cluster = Slots(4)
    cluster.accept("long", 50, 10.0)
    cluster.accept("short", 400, 1.0)
    starts = cluster.starts()
    list(islice(starts, 60))
    counts = Counter(islice(starts, 220))
    assert 16 <= counts["long"] <= 24, counts


def test_a_weight_near_nothing_leaves_the_shares_of_others_as_they_are() -> None:
    cluster = Slots(2)
    cluster.accept("tiny", 60, 1.0, weight=1e-308)
    starts = cluster.starts()
    list(islice(starts, 10))
    cluster.accept("0", 60, 1.0, weight=1.0)
    cluster.accept("1", 100, 1.0, weight=3.0)
    list(islice(starts, 8))
    counts = Counter(islice(starts, 60))
    assert _are_shares(counts, [1.0, 3.0], 60), counts
