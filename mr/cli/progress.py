"""Progress on stderr: one line redrawn on a terminal, else a line for each state a job enters."""

import shutil
import time
from collections.abc import Callable
from typing import TextIO

from mr.cli.formatting import duration, number, short_number, size
from mr.client import Snapshot, Stall
from mr.error_text import printable_line
from mr.protocol.ids import TaskKind, task_kind
from mr.protocol.records import JobState, RunningTask

_BAR_WIDTH = 16
#: Least time between two drawings of the line.
_REDRAW_SECONDS = 0.1
#: Weight of the map phase in the bar of a job that reduces.
_MAP_SHARE = 0.6


class ProgressLine:
    """Shows the snapshots of one job as they come."""

    def __init__(
        self,
        stream: TextIO,
        *,
        quiet: bool = False,
        clock: Callable[[], float] = time.monotonic,
        interactive: bool | None = None,
    ) -> None:
        self._stream = stream
        self._quiet = quiet
        self._clock = clock
        self._interactive = stream.isatty() if interactive is None else interactive
        self._started = clock()
        self._drawn_at = float("-inf")
        self._drawn_width = 0
        self._said: tuple[str, str, bool] | None = None
        self._share = 0.0
        #: The stalled attempts that a log has been told of.
        self._stalled: set[tuple[str, int]] = set()

    def show(self, snapshot: Snapshot) -> None:
        """Draw a snapshot, unless the last one was drawn a moment ago."""
        if self._quiet:
            return
        if not self._interactive:
            self._say_state(snapshot)
            self._say_stalled(snapshot)
            return
        now = self._clock()
        if now - self._drawn_at < _REDRAW_SECONDS and not snapshot.record.state.terminal:
            return
        self._drawn_at = now
        # Lost outputs are made again, but a bar that goes back confuses.
        self._share = max(self._share, progress_share(snapshot))
        self._draw(render(snapshot, self._share, now - self._started))

    def clear(self) -> None:
        """Remove the redrawn line, for what is printed next."""
        if self._drawn_width:
            self._stream.write("\r" + " " * self._drawn_width + "\r")
            self._stream.flush()
            self._drawn_width = 0

    def _draw(self, line: str) -> None:
        line = printable_line(line)[: max(shutil.get_terminal_size().columns - 1, 20)]
        self._stream.write("\r" + line.ljust(self._drawn_width))
        self._stream.flush()
        self._drawn_width = len(line)

    def _say_state(self, snapshot: Snapshot) -> None:
        record = snapshot.record
        # said once for a silent coordinator, though the seconds of its silence change
        said = (str(record.state), record.waiting_for, bool(snapshot.missing))
        if said == self._said:
            return
        self._said = said
        detail = f" (waiting: {snapshot.waiting_for})" if snapshot.waiting_for else ""
        if record.state is JobState.MAPPING:
            detail = f" {number(record.maps)} map tasks" + detail
        elif record.state is JobState.REDUCING:
            detail = f" {number(record.reduces)} reduce tasks" + detail
        self._stream.write(f"{record.state}{printable_line(detail)}\n")
        self._stream.flush()

    def _say_stalled(self, snapshot: Snapshot) -> None:
        """Tell of each stalled attempt once, and again if it has gone on and stalls anew."""
        for stall in snapshot.stalled:
            if (stall.task_id, stall.attempt) not in self._stalled:
                self._stream.write(printable_line(describe_stall(stall)) + "\n")
                self._stream.flush()
        self._stalled = {(stall.task_id, stall.attempt) for stall in snapshot.stalled}


def describe_stall(stall: Stall) -> str:
    """One stalled attempt, in one line."""
    at = f", at {stall.record}" if stall.record else ""
    return f"no record finished for {duration(stall.seconds)} in {stall.task_id} (worker {stall.worker}){at}"


def progress_share(snapshot: Snapshot) -> float:
    """How far a job is, 0 to 1: its committed tasks, and the running ones' reports of their progress."""
    record = snapshot.record
    if record.state is JobState.COMPLETED:
        return 1.0
    maps = _phase_share(record.maps, record.maps_committed, snapshot.running, TaskKind.MAP)
    if record.reduces == 0:
        return maps
    reduces = _phase_share(record.reduces, record.reduces_committed, snapshot.running, TaskKind.REDUCE)
    return _MAP_SHARE * maps + (1 - _MAP_SHARE) * reduces


def _phase_share(count: int, committed: int, running: tuple[RunningTask, ...], kind: TaskKind) -> float:
    if count == 0:
        return 1.0
    best: dict[str, float] = {}
    for task in running:
        if task_kind(task.task_id) is kind:
            best[task.task_id] = max(best.get(task.task_id, 0.0), min(task.progress, 1.0))
    return min((committed + sum(best.values())) / count, 1.0)


def render(snapshot: Snapshot, share: float, elapsed_seconds: float) -> str:
    """The redrawn line: bar, state, tasks, records and bytes read, time."""
    record = snapshot.record
    filled = int(share * _BAR_WIDTH)
    bar = "#" * filled + "." * (_BAR_WIDTH - filled)
    parts = [
        f"{record.state:<9} [{bar}] {100 * share:3.0f}%",
        duration(elapsed_seconds),
        f"maps {record.maps_committed}/{record.maps}",
    ]
    if record.reduces:
        parts.append(f"reduces {record.reduces_committed}/{record.reduces}")
    if snapshot.waiting_for:
        parts.append(f"waiting: {snapshot.waiting_for}")
    if snapshot.stalled:
        more = f" and {len(snapshot.stalled) - 1} more" if len(snapshot.stalled) > 1 else ""
        parts.append(describe_stall(snapshot.stalled[0]) + more)
    if record.attempts_failed:
        parts.append(f"{record.attempts_failed} failed attempts")
    if record.state is JobState.MAPPING:  # later the totals count what the reduces read as well
        records = record.stats.records_in + sum(task.records for task in snapshot.running)
        if records:
            parts.append(f"{short_number(records)} records")
        if record.stats.bytes_in and elapsed_seconds > 0:
            parts.append(f"{size(record.stats.bytes_in / elapsed_seconds)}/s")
    return "  ".join(parts)
