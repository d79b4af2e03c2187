"""The entry of the tests' task processes: the real one, with points while it runs and when it is done."""

import os
from collections.abc import Callable
from pathlib import Path

from mr.protocol.ids import TaskId, task_kind
from mr.protocol.records import TaskResult
from mr.workers.messages import RunTask, Watch
from mr.workers.shuffle.transfer import host_fetch
from mr.workers.shuffle.transfer.wire import read_length_table
from mr.workers.task.entry import run_attempt
from tests.faults.processes.points import Points

#: Names the directory of the points.
POINTS_VARIABLE = "FAULT_POINTS"
#: A frozen worker's port accepts and is silent: a reducer need not wait as long as for a busy machine.
host_fetch.SILENCE_SECONDS = 1.0

ENTRY = f"{__name__}:run_with_points"

#: The points of this process, and the task that it runs.
_running: list[tuple[Points, TaskId]] = []


def hold(place: str) -> None:
    """Wait at a point of the running task, which the job's own code has come to."""
    points, task = _running[-1]
    points.hold(f"{task_kind(task)}-{place}", task)


def run_with_points(run_task: RunTask, watch: Watch) -> TaskResult:
    """Run one attempt; see `mr.workers.task.entry.run_attempt`."""
    points = Points(Path(os.environ[POINTS_VARIABLE]), run_task.identity.worker)
    _running[:] = [(points, run_task.attempt.task)]
    host_fetch.read_length_table = _lengths
    result = run_attempt(run_task, watch)
    hold("after-write")
    return result


def _lengths(read: Callable[[int], bytes], count: int) -> tuple[int, ...]:
    found = read_length_table(read, count)
    hold("mid-fetch")  # the answer has begun; the segments are not read yet
    return found
