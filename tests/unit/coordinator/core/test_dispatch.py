"""Which tasks are published, how many, and in which order."""

from mr.coordinator.core import commands as c
from mr.coordinator.core.scheduler import Scheduler
from mr.settings import Settings
from tests.support.scheduling import (
    MAP,
    accepted,
    committed,
    fed,
    only,
    workers,
)


def test_the_window_bounds_what_is_published() -> None:
    scheduler = Scheduler(Settings(), seed=1)
    first = only(scheduler.handle(accepted(100, 1)), c.PublishTasks)
    assert len(first.tasks) == 4
    more = only(scheduler.handle(workers(1.0, slots=8)), c.PublishTasks)
    assert len(more.tasks) == 12
    assert len(only(scheduler.handle(committed(MAP[0])), c.PublishTasks).tasks) == 1


def test_reduces_are_published_before_maps_of_the_same_priority() -> None:
    scheduler, commands = fed(accepted(1, 1), committed(MAP[0]))
    assert [p.priority for p in only(commands, c.PublishTasks).tasks] == [5]
    assert [p.priority for p in only(scheduler.handle(accepted(1, 1, "b")), c.PublishTasks).tasks] == [4]
