"""A reduce attempt: one partition of all map outputs, grouped by key, through the reducer, into a part."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import length_hint
from typing import Any

import pyarrow as pa

from mr.agg import Aggregation
from mr.errors import SegmentCorrupt, UnencodableKey, UnencodableValue
from mr.protocol.failures import Loss
from mr.protocol.records import TaskResult
from mr.workers.shuffle.group import GroupBatch, Grouped, LazyValues
from mr.workers.shuffle.segment import value_count
from mr.workers.shuffle.transfer.fetch import lost_inputs, open_sources
from mr.workers.shuffle.transfer.host_fetch import ShuffleSource, find_corrupt
from mr.workers.task.combiners import blaming, place_of_key
from mr.workers.task.context import Attempt
from mr.workers.task.emitter import CallSource, Emitter
from mr.workers.task.group_values import GroupValues, StreamedValues
from mr.workers.task.meter import Chunk, Meter
from mr.workers.task.sinks import PartSink
from mr.workers.usercode.failures import wrong_result
from mr.workers.usercode.functions import as_iterable
from mr.workers.usercode.tracebacks import describe


def run_reduce(attempt: Attempt) -> TaskResult:
    """Run a reduce attempt to the end. Raises TaskError, InputLost, OSError."""
    attempt.meter.reach("fetch", 0.0, 0)
    sources = open_sources(attempt.run_task, attempt.index, lambda more: _note_input(attempt.meter, more))
    group_bytes = attempt.buffer_bytes(attempt.buffers.group_bytes)
    grouped = Grouped(sources, group_bytes=group_bytes, work_dir=attempt.work_dir)
    sink = PartSink(attempt)
    try:
        with _blaming_inputs(sources):
            records = sum(map(value_count, sources))
            Reducer(attempt, grouped, sink, records).run()
        attempt.meter.reach("write", 1.0, records)
        part, figures = sink.finish()
    except BaseException:
        sink.abort()
        raise
    stats = attempt.stats(
        records_in=records,
        bytes_in=sum(source.bytes for source in sources),
        fetched_bytes=sum(source.bytes for source in sources if source.fetched),
        **figures,
    )
    return TaskResult(part, stats)


def _note_input(meter: Meter, more_bytes: int) -> None:
    """Take in how much there is to read: much input excuses a slow attempt."""
    meter.bytes_in += more_bytes


@contextlib.contextmanager
def _blaming_inputs(sources: Sequence[ShuffleSource]) -> Iterator[None]:
    """Turn a failure to read segments into InputLost, which names those that are damaged or gone."""
    try:
        yield
    except (SegmentCorrupt, OSError) as error:
        # What was fetched was whole when it came: then it is our own disk that lost it.
        damaged = [source.output for source in find_corrupt(sources) if not source.fetched]
        if not damaged:
            raise
        raise lost_inputs([(output, Loss.DAMAGED) for output in damaged], describe(error)) from error


class Reducer:
    """The loop over the groups of one partition."""

    def __init__(self, attempt: Attempt, grouped: Grouped, sink: PartSink, records: int) -> None:
        self._attempt = attempt
        self._grouped = grouped
        self._sink = sink
        #: Values there are in all, for progress.
        self._records = records
        self._emitter = Emitter(attempt, sink.add)

    def run(self) -> None:
        """Run the hooks and the reducer over all keys, in order."""
        self._reach(0)
        self._attempt.call_hook("reduce_init")
        aggregation = self._attempt.code.aggregation("reduce_fn")
        if aggregation is not None:
            self._aggregate(aggregation)
        else:
            self._reduce_groups()
        self._emitter.drain_hook("reduce_final")

    def _reach(self, done: int) -> None:
        self._attempt.meter.reach("reduce", self._share(done), done)

    def _share(self, done: int) -> float:
        return done / max(1, self._records)

    def _aggregate(self, aggregation: Aggregation) -> None:
        """Reduce by a built-in, table by table, without leaving Arrow where its columns are native."""
        self._attempt.meter.begin(Chunk(self._records, 1.0, lambda: self._grouped.values_read))
        with blaming(self._attempt):
            for table in self._grouped.aggregate(aggregation):
                self._write(table)
        self._reach(self._records)

    def _write(self, table: pa.Table) -> None:
        try:
            self._sink.add_table(table)
        except (UnencodableKey, UnencodableValue) as error:
            complaint = f"gave a pair that cannot be stored: {error}"
            raise wrong_result(self._attempt.run_task, "reduce_fn", complaint) from error

    def _reduce_groups(self) -> None:
        """Call `reduce_fn` for every key in order."""
        call = as_iterable(self._attempt.code.get("reduce_fn"))
        done = 0
        for group in self._grouped.batches():
            done += self._reduce_batch(group, call, done)
            self._reach(done)

    def _reduce_batch(self, group: GroupBatch, call: Callable[[Any, Any], Iterable[Any]], done: int) -> int:
        """Reduce one batch of groups; one too large for memory comes as an iterator. Returns its values.

        `done`: the values before it.
        """
        lists = [values for values in group.values if isinstance(values, list)]
        if len(lists) == len(group.values):
            return self._reduce_lists(group.keys, lists, call, done)
        streams = [StreamedValues(values) for values in group.values]

        def finished() -> int:
            return sum(values.read() for values in group.values if isinstance(values, LazyValues))

        source = CallSource("reduce_fn", call, group.keys, lambda: streams, _place)
        self._attempt.meter.begin(Chunk(self._records - done, 1.0, finished, source.current))
        try:  # a second call, made only to find the record of a failure, gets what is used up and raises
            self._emitter.drain(source)
        finally:
            for stream in streams:
                stream.finish()
        return finished()

    def _reduce_lists(
        self, keys: list[Any], lists: list[list[Any]], call: Callable[[Any, Any], Iterable[Any]], done: int
    ) -> int:
        """Reduce groups that are in memory. Returns their values."""
        reading: list[Iterator[Any]] = []

        def values() -> Iterator[GroupValues]:
            reading[:] = map(iter, lists)
            return map(GroupValues, reading)

        def finished() -> int:
            at = source.finished()
            begun = len(lists[at]) - length_hint(reading[at]) if reading else 0
            return sum(map(len, lists[:at])) + begun

        source = CallSource("reduce_fn", call, keys, values, _place)
        count = sum(map(len, lists))
        self._attempt.meter.begin(Chunk(count, self._share(done + count), finished, source.current))
        self._emitter.drain(source)
        return count


def _place(key: Any) -> tuple[str, None]:
    return place_of_key(key), None
