"""The progress line: what it shows of a snapshot, and when."""

import io
from typing import Any

from mr.cli.progress import ProgressLine, progress_share, render
from mr.client import Snapshot, Stall
from mr.protocol.ids import TaskId, WorkerId
from mr.protocol.records import JobState, TaskStats
from tests.support.job_records import job_record, running_task


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_share_counts_committed_tasks_and_what_running_ones_say() -> None:
    record = job_record(maps_committed=1)
    running = (running_task("map-00001", progress=0.5), running_task("map-00002", progress=0.5))
    assert progress_share(Snapshot(record, running)) == 0.6 * 2 / 4


def test_two_attempts_of_one_task_count_once() -> None:
    running = (running_task(progress=0.5), running_task(progress=0.25, attempt=2))
    assert progress_share(Snapshot(job_record(reduces=0), running)) == 0.5 / 4


def test_share_of_a_completed_job_is_whole() -> None:
    assert progress_share(Snapshot(job_record(state=JobState.COMPLETED), ())) == 1.0


def test_line_tells_the_phase_and_the_pace() -> None:
    record = job_record(
        maps_committed=2, stats=TaskStats(records_in=1_200, bytes_in=4 * 1024 * 1024), waiting_for="workers"
    )
    line = render(Snapshot(record, (running_task("map-00003", records=34),)), 0.25, 2.0)
    assert line.startswith("MAPPING   [####............]  25%  2.0 s  maps 2/4  reduces 0/2")
    for part in ("1.23k records", "2.0 MiB/s", "waiting: workers"):
        assert part in line


def test_terminal_line_is_redrawn_in_place_and_cleared() -> None:
    stream, clock = io.StringIO(), Clock()
    line = ProgressLine(stream, clock=clock, interactive=True)
    line.show(Snapshot(job_record(), ()))
    line.show(Snapshot(job_record(maps_committed=1), ()))
    assert "maps 1/4" not in stream.getvalue(), "drawn again too soon"
    clock.now = 1.0
    line.show(Snapshot(job_record(maps_committed=2), ()))
    assert "\rMAPPING" in stream.getvalue()
    assert "maps 2/4" in stream.getvalue()
    assert "\n" not in stream.getvalue()
    line.clear()
    assert stream.getvalue().endswith(" \r")


def test_bar_never_goes_back() -> None:
    stream, clock = io.StringIO(), Clock()
    line = ProgressLine(stream, clock=clock, interactive=True)
    line.show(Snapshot(job_record(maps_committed=4), ()))
    clock.now = 1.0
    line.show(Snapshot(job_record(maps_committed=2), ()))
    assert stream.getvalue().count(" 60%") == 2


def test_a_log_gets_one_line_for_each_state() -> None:
    stream = io.StringIO()
    line = ProgressLine(stream, interactive=False)
    for committed in range(4):
        line.show(Snapshot(job_record(maps_committed=committed), ()))
    line.show(Snapshot(job_record(state=JobState.REDUCING, waiting_for="no live workers"), ()))
    line.show(Snapshot(job_record(state=JobState.COMPLETED), ()))
    line.clear()
    assert stream.getvalue().splitlines() == [
        "MAPPING 4 map tasks",
        "REDUCING 2 reduce tasks (waiting: no live workers)",
        "COMPLETED",
    ]


def stall(task: str = "map-00003", seconds: float = 725.0, **fields: Any) -> Stall:
    found = {"attempt": 1, "worker": WorkerId("w1"), "phase": "map", "record": "", **fields}
    return Stall(TaskId(task), seconds=seconds, **found)


def test_stalled_attempts_are_shown_in_the_line() -> None:
    snapshot = Snapshot(job_record(), (), stalled=(stall(record="in.txt:7"), stall("map-00001", 301.0)))
    told = "no record finished for 12m05s in map-00003 (worker w1), at in.txt:7 and 1 more"
    assert told in render(snapshot, 0.25, 2.0)


def test_a_log_is_told_of_each_stall_once() -> None:
    stream = io.StringIO()
    line = ProgressLine(stream, interactive=False)
    both = (stall(), stall("map-00001", 301.0))
    for stalled in (both[:1], both, both[:1], (), (stall(seconds=400),)):
        line.show(Snapshot(job_record(), (), stalled=stalled))
    assert stream.getvalue().splitlines() == [
        "MAPPING 4 map tasks",
        "no record finished for 12m05s in map-00003 (worker w1)",
        "no record finished for 5m01s in map-00001 (worker w1)",
        "no record finished for 6m40s in map-00003 (worker w1)",
    ]


def test_quiet_is_quiet() -> None:
    stream = io.StringIO()
    line = ProgressLine(stream, quiet=True, interactive=True)
    line.show(Snapshot(job_record(), ()))
    line.clear()
    assert stream.getvalue() == ""


def test_a_silent_coordinator_is_shown_and_told_once() -> None:
    shown = render(Snapshot(job_record(), (), "coordinator silent for 20 s"), 0.25, 2.0)
    assert "waiting: coordinator silent for 20 s" in shown
    stream = io.StringIO()
    line = ProgressLine(stream, interactive=False)
    for seconds in (20, 21):
        line.show(Snapshot(job_record(), (), f"coordinator silent for {seconds} s"))
    line.show(Snapshot(job_record(), ()))
    assert stream.getvalue().splitlines() == [
        "MAPPING 4 map tasks (waiting: coordinator silent for 20 s)",
        "MAPPING 4 map tasks",
    ]
