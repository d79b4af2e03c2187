"""Delays, windows and time limits."""

import pytest

from mr.coordinator.core.policy import (
    MINIMUM_WINDOW,
    aged_limit,
    chance,
    most_finished,
    retry_delay_seconds,
    straggler_seconds,
    window_limit,
)
from mr.protocol.ids import JobId, TaskId
from mr.settings import Settings

SETTINGS = Settings()
JOB, TASK = JobId("a"), TaskId("map-00000")


def test_chance_is_a_fixed_function_of_its_arguments() -> None:
    assert chance(1, "a", 2) == chance(1, "a", 2)
    assert len({chance(seed, "a") for seed in range(100)}) == 100
    draws = [chance(7, number) for number in range(2000)]
    assert all(0 <= draw < 1 for draw in draws)
    assert 0.45 < sum(draws) / len(draws) < 0.55


def test_parts_do_not_run_into_each_other() -> None:
    assert chance(1, "ab", "c") != chance(1, "a", "bc")


@pytest.mark.parametrize(("tries", "full"), [(1, 1.0), (2, 2.0), (3, 4.0), (7, 60.0), (1000, 60.0)])
def test_the_delay_doubles_up_to_its_cap_and_keeps_at_least_half(tries: int, full: float) -> None:
    delay = retry_delay_seconds(SETTINGS, 1, JOB, TASK, tries)
    assert full / 2 <= delay <= full


def test_tasks_that_failed_together_are_not_retried_together() -> None:
    delays = {retry_delay_seconds(SETTINGS, 1, JOB, TaskId(f"map-{i:05d}"), 1) for i in range(50)}
    assert len(delays) == 50


def test_the_window_follows_the_slots_but_lets_work_start_without_any() -> None:
    assert window_limit(SETTINGS, 0) == MINIMUM_WINDOW
    assert window_limit(SETTINGS, 1) == MINIMUM_WINDOW
    assert window_limit(SETTINGS, 10) == 20
    assert window_limit(Settings(window_factor=1.5), 5) == 8


def test_more_input_excuses_more_time_less_input_not_less() -> None:
    assert straggler_seconds(SETTINGS, 10.0, 100, 100) == 16.0
    assert straggler_seconds(SETTINGS, 10.0, 100, 1000) == 151.0
    assert straggler_seconds(SETTINGS, 10.0, 100, 1) == 16.0
    assert straggler_seconds(SETTINGS, 10.0, 0, 0) == 16.0


@pytest.mark.parametrize("seconds", [0.0, 0.1, 1.0, 3600.0])
def test_tasks_of_any_length_are_held_to_a_multiple_of_it_and_what_starting_takes(seconds: float) -> None:
    least = SETTINGS.straggler_min_seconds
    assert straggler_seconds(SETTINGS, seconds, 1, 1) - least == pytest.approx(1.5 * seconds)


@pytest.mark.parametrize(
    ("total", "finished"), [(1, None), (2, 1), (3, 2), (4, 3), (5, 4), (8, 6), (9, 7), (100, 75)]
)
def test_all_but_one_are_most_and_so_is_the_share_of_many(total: int, finished: int | None) -> None:
    enough = [number for number in range(total) if most_finished(SETTINGS, number, total)]
    assert next(iter(enough), None) == finished


def test_half_of_the_slots_at_most_are_given_to_jobs_that_waited_too_long() -> None:
    assert [aged_limit(slots) for slots in (0, 1, 2, 3, 4, 9)] == [1, 1, 1, 1, 2, 4]
