"""What a job sums up over its committed attempts, and how much of it."""

import itertools

import pytest

from coordinator import state
from coordinator.state import Totals
from mr.protocol.records import TaskStats


def stats(**counters: int) -> TaskStats:
    return TaskStats(records_in=1, counters=counters)


def test_what_a_task_had_contributed_is_replaced() -> None:
    totals = Totals()
    totals.replace(TaskStats(), stats(a=1, b=2))
    totals.replace(stats(a=1, b=2), stats(a=5))
    assert totals.counters == {"a": 5, "b": 0}
    assert totals.stats().records_in == 1


def test_the_counters_kept_do_not_depend_on_the_order_of_the_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "MAX_JOB_COUNTERS", 3)
    tasks = [stats(d=1, e=1), stats(b=1, e=2, f=9), stats(a=4, b=1), stats(c=1, e=1)]
    for order in itertools.permutations(tasks):
        totals = Totals()
        for one in order:
            totals.replace(TaskStats(), one)
        assert totals.counters == {"a": 4, "b": 2, "c": 1}
        assert totals.stats().records_in == 4


def test_a_counter_that_gave_way_is_not_subtracted_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "MAX_JOB_COUNTERS", 2)
    totals = Totals()
    totals.replace(TaskStats(), stats(b=1, z=7))
    totals.replace(TaskStats(), stats(a=1))
    totals.replace(stats(b=1, z=7), stats(b=3, z=8))
    assert totals.counters == {"a": 1, "b": 3}
