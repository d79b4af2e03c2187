"""Merging sorted segments by range of keys, with a bounded amount of them in memory.

Each run (segment) is read batch by batch. What lies below the smallest last key that any unfinished run
has loaded is complete, and comes out as one `Whole`: all rows of these keys, run after run, so that the
values of a key keep the order of the runs. A key that fills the budget alone comes out as a `Giant`: a
stream of its rows. Keys of different kinds compare by their encoding.
"""

import tempfile
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa

from mr.workers.shuffle.aggregate import merge_states
from mr.workers.shuffle.columns import Column, Kind
from mr.workers.shuffle.key_codec import encode_key
from mr.workers.shuffle.rows import Rows, concatenate
from mr.workers.shuffle.segment import SegmentSource, SegmentWriter, pieces, read_segment, segment_totals
from mr.workers.shuffle.segment_index import SegmentRef
from mr.workers.shuffle.sort import sort_rows

#: Most segments read at the same time; more are merged in several passes.
MAX_OPEN_RUNS: Final = 64
#: Largest budget: an Arrow column of strings ends at 2 GiB.
MAX_BUDGET_BYTES: Final = 1 << 30
#: Largest range of a merge that does not fit the budget as a whole; larger ones would be no faster.
MAX_RANGE_BYTES: Final = 64 << 20


@dataclass(frozen=True, slots=True)
class Whole:
    """All rows of a range of keys, run after run. Each run is sorted; the keys as a whole are not yet."""

    rows: Rows


@dataclass(frozen=True, slots=True)
class Giant:
    """All rows of one key that does not fit the budget, in order; to be used before the next range."""

    parts: Iterator[Rows]


KeyRange = Whole | Giant


def merge_segments(
    sources: Sequence[SegmentSource], *, budget_bytes: int, work_dir: Path
) -> Iterator[KeyRange]:
    """The rows of all segments in ranges of ascending keys. Raises SegmentCorrupt, OSError.

    The order of `sources` is the order of a key's values. When all rows fit half of `budget_bytes`
    uncompressed they are one range, held twice while it is joined; else each range is a quarter of it at
    most. Sorting a range needs about as much again. Intermediate files in `work_dir` are removed.
    """
    budget = min(budget_bytes, MAX_BUDGET_BYTES)
    sources = [source for source in sources if source.bytes]
    everything = _load_all(sources, budget // 2)
    if everything is not None:
        if everything:
            yield _whole(everything)
        return
    budget = min(budget // 4, MAX_RANGE_BYTES)
    temporary: list[Path] = []
    try:
        while len(groups := _groups(sources, budget)) > 1:
            sources = _merge_pass(groups, budget, work_dir, temporary)
        yield from _merge_runs(groups[0], budget)
    finally:
        for path in temporary:
            path.unlink(missing_ok=True)


def _whole(parts: list[Rows]) -> Whole:
    """A range of these rows; `parts` is emptied, so that they are not in memory twice."""
    rows = concatenate(parts)
    parts.clear()
    pa.default_memory_pool().release_unused()
    return Whole(rows)


def _load_all(sources: Sequence[SegmentSource], budget: int) -> list[Rows] | None:
    """All rows of all segments, one segment open at a time; None when they are over the budget."""
    if sum(source.bytes for source in sources) > budget:
        return None
    parts: list[Rows] = []
    held = 0
    for source in sources:
        for rows in read_segment(source):
            held += rows.weight
            if held > budget:
                return None
            parts.append(rows)
    return parts


def write_range(writer: SegmentWriter, key_range: KeyRange) -> None:
    """Write a range's rows in key order."""
    if isinstance(key_range, Giant):
        for rows in key_range.parts:
            if len(rows):
                writer.write(rows)
        return
    view = sort_rows(merge_states(key_range.rows))
    for piece in pieces(view, 0, len(view.keys)):
        writer.write(piece)


class _Run:
    """One sorted segment, of which some batches are in memory."""

    def __init__(self, source: SegmentSource) -> None:
        self.source = source
        #: What its heaviest batch weighs, and the values that are not loaded yet.
        self.largest, self._left = segment_totals(source)
        self._batches = read_segment(source)
        self.loaded: list[Rows] = []
        self.weight = 0
        self.exhausted = False

    def load(self) -> None:
        """Bring one more batch into memory."""
        while (rows := next(self._batches, None)) is not None:
            self.loaded.append(rows)
            self.weight += rows.weight
            self._left -= rows.values
            if self._left > 0:
                return
        self.exhausted = True  # the frames decide: the count at the end was read unverified

    def last_key(self) -> bytes:
        """The largest loaded key, encoded."""
        keys = self.loaded[-1].keys
        return _encoded_at(keys, len(keys) - 1)

    def take_below(self, bound: bytes, *, inclusive: bool = False) -> list[Rows]:
        """Remove and return the loaded rows of keys below `bound` (or up to it)."""
        taken: list[Rows] = []
        bisect = bisect_right if inclusive else bisect_left
        while self.loaded:
            rows = self.loaded[0]
            keys = rows.keys
            stop = bisect(range(len(keys)), bound, key=lambda at, keys=keys: _encoded_at(keys, at))  # type: ignore[misc]
            if stop:
                taken.append(rows.slice(0, stop))
                self.weight -= taken[-1].weight
            if stop < len(keys):
                self.loaded[0] = rows.slice(stop, len(keys))
                break
            self.loaded.pop(0)
        return taken

    def take_all(self) -> list[Rows]:
        """Remove and return the loaded rows."""
        taken, self.loaded, self.weight = self.loaded, [], 0
        return taken

    def close(self) -> None:
        """Close the segment's stream."""
        self._batches.close()  # type: ignore[attr-defined]


def _encoded_at(keys: Column, at: int) -> bytes:
    key = keys.data[at].as_py()
    return key if keys.kind is Kind.ENCODED else encode_key(key)


def _groups(sources: Sequence[SegmentSource], budget: int) -> list[list[_Run]]:
    """Neighbouring runs to merge at the same time: their largest batches fit the budget, or they are two."""
    groups: list[list[_Run]] = [[]]
    held = 0
    for source in sources:
        run = _Run(source)
        held += run.largest
        if len(groups[-1]) >= MAX_OPEN_RUNS or (len(groups[-1]) >= 2 and held > budget):
            groups.append([])
            held = run.largest
        groups[-1].append(run)
    return groups


def _merge_pass(
    groups: Sequence[Sequence[_Run]], budget: int, work_dir: Path, temporary: list[Path]
) -> list[SegmentSource]:
    """Merge each group into one file; their order stays."""
    merged: list[SegmentSource] = []
    for group in groups:
        if len(group) == 1:
            merged.append(group[0].source)
            continue
        descriptor, name = tempfile.mkstemp(dir=work_dir, prefix="merge-")
        path = Path(name)
        temporary.append(path)
        with open(descriptor, "wb") as file:
            writer = SegmentWriter(file)
            for key_range in _merge_runs(group, budget):
                write_range(writer, key_range)
            merged.append(SegmentRef(path, 0, writer.close()))
    return merged


def _merge_runs(group: Sequence[_Run], budget: int) -> Iterator[KeyRange]:
    runs = list(group)
    try:
        while runs:
            _fill(runs, budget)
            if all(run.exhausted for run in runs):
                rest = [rows for run in runs for rows in run.take_all()]
                if rest:
                    yield _whole(rest)
                return
            bound = min(run.last_key() for run in runs if not run.exhausted)
            parts = [rows for run in runs for rows in run.take_below(bound)]
            if parts:
                yield _whole(parts)
                del parts
                continue
            stream = _stream_key(runs, bound)
            yield Giant(stream)
            for _ in stream:
                continue
    finally:
        for run in runs:
            run.close()


def _fill(runs: Sequence[_Run], budget: int) -> None:
    """Load every run to its share of the budget, at least one batch, then hand out what is left."""
    share = budget // len(runs)
    for run in runs:
        while not run.exhausted and (not run.loaded or run.weight + run.largest <= share):
            run.load()
    held = sum(run.weight for run in runs)
    open_runs = [run for run in runs if not run.exhausted]
    while open_runs := [run for run in open_runs if not run.exhausted and held + run.largest <= budget]:
        for run in open_runs:
            if held + run.largest <= budget:
                held -= run.weight
                run.load()
                held += run.weight


def _stream_key(runs: Sequence[_Run], key: bytes) -> Iterator[Rows]:
    """The rows of one key from every run in turn, loading one more batch at a time."""
    for run in runs:
        while True:
            yield from run.take_below(key, inclusive=True)
            if run.loaded or run.exhausted:
                break
            run.load()
