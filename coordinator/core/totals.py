"""Sums over the committed attempts of a job. Pure."""

from typing import Any

import msgspec

from mr.coordinator.core.policy import MAX_JOB_COUNTERS
from mr.protocol.bounds import clamped, clamped_real
from mr.protocol.records import TaskStats


class Totals:
    """Sums over committed attempts; peak memory is a maximum and never shrinks.

    Only the MAX_JOB_COUNTERS counters whose names sort first are kept. Which these are does not depend on the
    order of the tasks: a name that was dropped stays behind that many others.
    """

    _SUMMED = tuple(
        f.name
        for f in msgspec.structs.fields(TaskStats)
        if f.name not in ("peak_memory_bytes", "counters", "bad_file")
    )

    def __init__(self) -> None:
        self._sums: dict[str, float] = dict.fromkeys(self._SUMMED, 0)
        self._peak = 0
        self._counters: dict[str, int] = {}

    def replace(self, old: TaskStats, new: TaskStats) -> None:
        """Count `new` instead of `old`, which the task had contributed before (TaskStats() if nothing)."""
        for name in self._SUMMED:
            self._sums[name] += getattr(new, name) - getattr(old, name)
        self._peak = max(self._peak, new.peak_memory_bytes)
        for name, amount in old.counters.items():
            if name in self._counters:
                self._counters[name] -= amount
        for name, amount in new.counters.items():
            self._counters[name] = self._counters.get(name, 0) + amount
        if len(self._counters) > MAX_JOB_COUNTERS:
            first = sorted(self._counters)[:MAX_JOB_COUNTERS]
            self._counters = {name: self._counters[name] for name in first}

    @property
    def bad_records(self) -> int:
        """Records that were skipped."""
        return int(self._sums["bad_records"])

    @property
    def counters(self) -> dict[str, int]:
        """The user's counters by name, at most MAX_JOB_COUNTERS, each clamped to int64."""
        return {name: clamped(total) for name, total in sorted(self._counters.items())}

    def stats(self) -> TaskStats:
        """The sums as a record."""
        sums: dict[str, Any] = {
            name: clamped(total) if isinstance(total, int) else clamped_real(total)
            for name, total in self._sums.items()
        }
        return TaskStats(**sums, peak_memory_bytes=self._peak, counters=self.counters)
