"""Open slots as a function of the host's load."""

from typing import Any

import pytest

from mr.settings import MIB, Settings
from mr.workers.daemon.pressure import HostLoad, Slots, decide

SETTINGS = Settings(pressure_cpu_percent=95.0, pressure_memory_percent=90.0, spool_reserve_bytes=256 * MIB)


def load(**changes: Any) -> HostLoad:
    fields: dict[str, Any] = {
        "cpu_percent": 10.0,
        "own_cpu_percent": 0.0,
        "memory_percent": 40.0,
        "disk_free_bytes": 10_000 * MIB,
        "cores": 2,
    }
    return HostLoad(**{**fields, **changes})


def after(beats: int, measured: HostLoad, *, slots: int, current: int) -> Slots:
    chosen = Slots(current)
    for _ in range(beats):
        chosen = decide(measured, SETTINGS, slots=slots, current=chosen.open)
    return chosen


def test_a_calm_host_opens_all_slots() -> None:
    assert decide(load(), SETTINGS, slots=4, current=4) == Slots(4)


def test_a_host_that_is_busy_with_our_own_tasks_is_not_under_pressure() -> None:
    full = load(cpu_percent=100.0, own_cpu_percent=97.0)
    assert after(10, full, slots=2, current=2) == Slots(2)


def test_others_on_a_full_host_take_one_slot_a_beat_down_to_one() -> None:
    busy = load(cpu_percent=99.0, own_cpu_percent=40.0)
    assert after(1, busy, slots=4, current=4).open == 3
    assert after(2, busy, slots=4, current=4).open == 2
    last = after(9, busy, slots=4, current=4)
    assert last.open == 1
    assert last.reason == "host CPU 99% used, 59% by others"


def test_others_on_a_host_that_is_not_full_take_nothing() -> None:
    assert decide(load(cpu_percent=90.0, own_cpu_percent=10.0), SETTINGS, slots=4, current=4) == Slots(4)


def test_slots_come_back_one_a_beat() -> None:
    assert decide(load(), SETTINGS, slots=4, current=1) == Slots(2, "recovering from pressure")
    assert after(3, load(), slots=4, current=1) == Slots(4)


@pytest.mark.parametrize("current", [1, 2, 3])
def test_just_below_the_limit_nothing_moves(current: int) -> None:
    near = load(cpu_percent=92.0, own_cpu_percent=20.0)
    assert after(5, near, slots=4, current=current).open == current
    assert decide(near, SETTINGS, slots=4, current=4) == Slots(4)


def test_memory_counts_whoever_uses_it() -> None:
    chosen = after(9, load(memory_percent=93.0), slots=3, current=3)
    assert chosen == Slots(1, "host memory 93% used")


def test_a_spool_without_reserve_takes_nothing_and_reopens_with_some_more() -> None:
    full = decide(load(disk_free_bytes=255 * MIB), SETTINGS, slots=4, current=4)
    assert full == Slots(0, "spool disk: 255 MiB free, reserve is 256 MiB")
    assert decide(load(disk_free_bytes=300 * MIB), SETTINGS, slots=4, current=0).open == 0
    assert decide(load(disk_free_bytes=320 * MIB), SETTINGS, slots=4, current=0).open == 1
    assert decide(load(disk_free_bytes=300 * MIB), SETTINGS, slots=4, current=4).open == 4
