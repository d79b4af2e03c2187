"""A map task's output: pairs come in chunks and leave as one file of sorted segments by partition.

The buffer is combined and spilled at counted rows and counted bytes, never by measured memory or time, so
that a task flushes at the same records on every run. Without a combiner a flush is a spill. With one, the
combined rows stay in memory while they take less than half of `spill_bytes`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from mr.errors import MrError
from mr.workers.shuffle.columns import Column, arrow_column, join, key_column, value_column
from mr.workers.shuffle.combine import Combiner, combine_in_place, row_combiner
from mr.workers.shuffle.merge import Giant, KeyRange, Whole, merge_segments, write_range
from mr.workers.shuffle.partition import Partitioner
from mr.workers.shuffle.rows import ROW_BYTES, Rows, concatenate
from mr.workers.shuffle.segment import SegmentWriter, pieces
from mr.workers.shuffle.segment_index import SegmentRef, find_segment, write_index
from mr.workers.shuffle.sort import sort_by_partition

#: The buffer never grows beyond this, whatever the settings: an Arrow column of strings ends at 2 GiB.
MAX_BUFFER_BYTES: Final = 1 << 30
#: So many chunks are joined into one array as they come.
LOOSE_CHUNKS: Final = 32


@dataclass(frozen=True, slots=True)
class SegmentFile:
    """A finished file: segments by partition, one after the other."""

    path: Path
    #: Length of each partition's segment; 0 = no records.
    partition_bytes: tuple[int, ...]
    #: Values in the file (partial states, with a built-in combiner).
    rows: int
    #: Spills written on the way, and their bytes.
    spills: int = 0
    spilled_bytes: int = 0

    def segment(self, partition: int) -> SegmentRef:
        """Where one partition's segment lies. Raises SegmentCorrupt, OSError."""
        return find_segment(self.path, partition)


class MapBuffer:
    """Collects one map attempt's pairs and writes them sorted."""

    def __init__(
        self,
        *,
        partitions: int,
        work_dir: Path,
        spill_rows: int,
        spill_bytes: int,
        combiner: Combiner | None = None,
        partitioner: Partitioner | None = None,
    ) -> None:
        self._partitions = partitions
        self._work_dir = work_dir
        self._spill_rows = spill_rows
        self._spill_bytes = min(spill_bytes, MAX_BUFFER_BYTES)
        self._combiner = row_combiner(combiner)
        self._partitioner = partitioner
        self._keys: list[Column] = []
        self._values: list[Column] = []
        self._rows = 0
        self._bytes = 0
        #: The bytes, and what sorting them takes.
        self._weight = 0
        #: Chunks at the end of the lists that were not joined yet.
        self._loose = 0
        #: Combined rows of earlier flushes, in order; empty without a combiner.
        self._combined: list[Rows] = []
        self._spills: list[SegmentFile] = []

    def add(self, keys: Sequence[Any], values: Sequence[Any]) -> None:
        """Add a chunk of pairs, in record order. Raises UnencodableKey, UnencodableValue with `.row`."""
        if len(keys):
            self._append(key_column(keys), value_column(values))

    def add_batch(self, batch: pa.RecordBatch) -> None:
        """Add the columns `key` and `value` of a record batch, in row order. Raises as `add` does."""
        if batch.num_rows:
            self._append(
                arrow_column(batch.column("key"), keys=True), arrow_column(batch.column("value"), keys=False)
            )

    def finish(self, path: Path) -> SegmentFile:
        """Write everything to `path` and remove the spills. The buffer is used up.

        Raises BadPartition, BadAggregate, OSError and what the user's functions raise.
        """
        rows = self._remaining()
        if not self._spills:
            return self._write(rows, path)
        if len(rows):
            self._spill(rows)
        return self._merge_spills(path)

    def _append(self, keys: Column, values: Column) -> None:
        if len(keys) != len(values):
            raise MrError(f"a chunk has {len(keys)} keys and {len(values)} values")
        size = keys.nbytes + values.nbytes
        weight = size + ROW_BYTES * len(keys)
        if self._rows and self._bytes + size > MAX_BUFFER_BYTES:
            self._flush()
        self._keys.append(keys)
        self._values.append(values)
        self._loose += 1
        if self._loose == LOOSE_CHUNKS:
            self._pack()
        self._rows += len(keys)
        self._bytes += size
        self._weight += weight
        if self._rows >= self._spill_rows or self._weight >= self._spill_bytes:
            self._flush()

    def _pack(self) -> None:
        """Join the newest chunks: a small Arrow array may occupy twice the memory it needs."""
        for columns, is_key in ((self._keys, True), (self._values, False)):
            columns[-self._loose :] = [join(columns[-self._loose :], keys=is_key).in_one_piece()]
        self._loose = 0

    def _take(self) -> Rows:
        """The buffered pairs as rows in one piece each; the buffer is empty afterwards.

        Frees the chunks of one column before it joins those of the other, and all of them before any sorting.
        """
        if not self._keys:
            return Rows(key_column([""]), {"value": value_column([""])}).slice(0, 0)
        keys = join(self._keys, keys=True).in_one_piece()
        self._keys = []
        values = join(self._values, keys=False).in_one_piece()
        self._values, self._rows, self._bytes, self._weight, self._loose = [], 0, 0, 0, 0
        pa.default_memory_pool().release_unused()
        return Rows(keys, {"value": values})

    def _flush(self) -> None:
        rows = self._take()
        if self._combiner is None:
            self._spill(rows)
            return
        self._combined.append(self._combiner.combine(rows))
        limit = self._spill_bytes // 2
        if sum(part.weight for part in self._combined) <= limit:
            return
        merged = self._combine_parts()
        self._combined = [merged]
        if merged.weight > limit:
            self._spill(merged)
            self._combined = []

    def _combine_parts(self) -> Rows:
        assert self._combiner is not None
        parts = [part for part in self._combined if len(part)] or self._combined[:1]
        return parts[0] if len(parts) == 1 else self._combiner.combine(concatenate(parts))

    def _remaining(self) -> Rows:
        """What is in memory at the end, combined."""
        rows = self._take()
        if self._combiner is None or not (len(rows) or self._combined):
            return rows
        if len(rows):
            self._combined.append(self._combiner.combine(rows))
        merged = self._combine_parts()
        self._combined = []
        return merged

    def _spill(self, rows: Rows) -> None:
        path = self._work_dir / f"spill-{len(self._spills):05d}"
        self._spills.append(self._write(rows, path))

    def _write(self, rows: Rows, path: Path) -> SegmentFile:
        """Sort rows and write them as segments by partition."""
        view, bounds = sort_by_partition(rows, self._partitions, self._partitioner)

        def fill(writer: SegmentWriter, partition: int) -> None:
            for piece in pieces(view, int(bounds[partition]), int(bounds[partition + 1])):
                writer.write(piece)

        return self._write_segments(path, fill)

    def _merge_spills(self, path: Path) -> SegmentFile:
        def fill(writer: SegmentWriter, partition: int) -> None:
            segments = [spill.segment(partition) for spill in self._spills]
            for key_range in merge_segments(
                segments, budget_bytes=self._spill_bytes, work_dir=self._work_dir
            ):
                write_range(writer, self._combined_range(key_range))

        merged = self._write_segments(path, fill)
        spilled = sum(sum(spill.partition_bytes) for spill in self._spills)
        for spill in self._spills:
            spill.path.unlink()
        return replace(merged, spills=len(self._spills), spilled_bytes=spilled)

    def _write_segments(self, path: Path, fill: Callable[[SegmentWriter, int], None]) -> SegmentFile:
        """Write a file of segments, each by `fill(writer, partition)`, and their index."""
        sizes, values = [], 0
        with path.open("wb") as file:
            for partition in range(self._partitions):
                writer = SegmentWriter(file)
                fill(writer, partition)
                sizes.append(writer.close())
                values += writer.values
            write_index(file, sizes)
        return SegmentFile(path, tuple(sizes), values)

    def _combined_range(self, key_range: KeyRange) -> KeyRange:
        """A range of the merge with its rows combined; a giant key part by part."""
        combiner = self._combiner
        if combiner is None:
            return key_range
        if isinstance(key_range, Giant):
            return Giant(combine_in_place(part, combiner) for part in key_range.parts)
        return Whole(combine_in_place(key_range.rows, combiner))
