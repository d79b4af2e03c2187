"""What a job sums up over its committed attempts, and how much of it."""

import itertools

import msgspec
import pytest

from mr.coordinator.core import totals as totals_module
from mr.coordinator.core.totals import Totals
from mr.protocol.bounds import MAX_INT64, MAX_REAL, MIN_INT64
from mr.protocol.codec import pack, unpack
from mr.protocol.records import TaskStats
from mr.runtime import TaskContext, active, counter


def stats(**counters: int) -> TaskStats:
    return TaskStats(records_in=1, counters=counters)


def test_what_a_task_had_contributed_is_replaced() -> None:
    totals = Totals()
    totals.replace(TaskStats(), stats(a=1, b=2))
    totals.replace(stats(a=1, b=2), stats(a=5))
    assert totals.counters == {"a": 5, "b": 0}
    assert totals.stats().records_in == 1


def test_the_counters_kept_do_not_depend_on_the_order_of_the_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(totals_module, "MAX_JOB_COUNTERS", 3)
    tasks = [stats(d=1, e=1), stats(b=1, e=2, f=9), stats(a=4, b=1), stats(c=1, e=1)]
    for order in itertools.permutations(tasks):
        totals = Totals()
        for one in order:
            totals.replace(TaskStats(), one)
        assert totals.counters == {"a": 4, "b": 2, "c": 1}
        assert totals.stats().records_in == 4


def test_a_counter_that_gave_way_is_not_subtracted_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(totals_module, "MAX_JOB_COUNTERS", 2)
    totals = Totals()
    totals.replace(TaskStats(), stats(b=1, z=7))
    totals.replace(TaskStats(), stats(a=1))
    totals.replace(stats(b=1, z=7), stats(b=3, z=8))
    assert totals.counters == {"a": 1, "b": 3}


def test_sums_stop_at_the_ends_of_int64_and_can_be_stored() -> None:
    most = stats(up=MAX_INT64, down=MIN_INT64)
    totals = Totals()
    for _ in range(4):
        totals.replace(TaskStats(), msgspec.structs.replace(most, bytes_in=MAX_INT64, cpu_seconds=MAX_REAL))
    assert totals.counters == {"down": MIN_INT64, "up": MAX_INT64}
    sums = unpack(pack(totals.stats()), TaskStats)
    assert (sums.bytes_in, sums.cpu_seconds) == (MAX_INT64, MAX_REAL)
    totals.replace(stats(up=MAX_INT64), TaskStats())
    assert totals.counters["up"] == MAX_INT64  # of three tasks, still


def test_a_tasks_own_counter_stops_there_too() -> None:
    with active(TaskContext({})) as context:
        for _ in range(3):
            counter("up").add(2**63)
            counter("down").add(-(2**70))
    assert context.counters == {"up": MAX_INT64, "down": MIN_INT64}
    assert unpack(pack(TaskStats(counters=context.counters)), TaskStats).counters == context.counters
