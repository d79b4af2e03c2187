"""A reduce attempt: one partition of all map outputs, grouped by key, through the reducer, into a part."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from mr.errors import SegmentCorrupt
from mr.formats.results import PartWriter
from mr.protocol.records import TaskResult
from workers.attempt import Attempt, EngineError
from workers.combining import blaming, place_of_key
from workers.pairs import CallSource, Emitter
from workers.shuffle.fetch import ShuffleSource, find_corrupt, lost_inputs, open_sources
from workers.shuffle.group import GroupBatch, Grouped
from workers.sinks import close_part, open_part
from workers.tracebacks import describe
from workers.usercode import aggregation_name, as_iterable


def run_reduce(attempt: Attempt) -> TaskResult:
    """Run a reduce attempt to the end. Raises TaskError, InputLost, OSError."""
    attempt.progress("fetch", 0.0, 0)
    sources = open_sources(attempt.order, attempt.index)
    grouped = Grouped(sources, group_bytes=attempt.settings.group_bytes, work_dir=attempt.work_dir)
    writer = open_part(attempt)
    try:
        with _blaming_inputs(sources):
            records = _reduce(attempt, grouped, writer)
        attempt.progress("write", 1.0, records)
        part = close_part(attempt, writer)
    except BaseException:
        writer.abort()
        raise
    stats = attempt.stats(
        records_in=records,
        records_out=part.rows,
        bytes_in=sum(source.bytes for source in sources),
        bytes_out=part.bytes,
        fetched_bytes=sum(source.bytes for source in sources if source.fetched),
    )
    return TaskResult(part, stats)


@contextlib.contextmanager
def _blaming_inputs(sources: Sequence[ShuffleSource]) -> Iterator[None]:
    """Turn a failure to read segments into InputLost, which names those that are damaged or gone."""
    try:
        yield
    except (SegmentCorrupt, OSError) as error:
        damaged = find_corrupt(sources)
        if not damaged:
            raise
        raise lost_inputs(damaged, describe(error)) from error


def _reduce(attempt: Attempt, grouped: Grouped, writer: PartWriter) -> int:
    """Run the hooks and the reducer; returns the number of records it was given."""
    attempt.call_hook("reduce_init")
    emitter = Emitter(attempt, writer.write_pairs)
    if aggregation_name(attempt.code.get("reduce_fn")):
        records = _aggregate(attempt, grouped, writer.write_table)
    else:
        records = _reduce_groups(attempt, grouped, emitter)
    emitter.drain_hook("reduce_final")
    return records


def _aggregate(attempt: Attempt, grouped: Grouped, write: Callable[[Any], None]) -> int:
    """Reduce by a built-in, table by table, without leaving Arrow; returns the number of keys."""
    rows = 0
    with blaming(attempt):
        for table in grouped.aggregate(attempt.code.get("reduce_fn")):
            write(table)
            rows += table.num_rows
            attempt.progress("reduce", 0.5, rows)
    return rows


def _reduce_groups(attempt: Attempt, grouped: Grouped, emitter: Emitter) -> int:
    """Call `reduce_fn` for every key in order; returns the number of values it was given."""
    call = as_iterable(attempt.code.get("reduce_fn"))
    values = 0
    for group in grouped.batches():
        values += _reduce_batch(group, call, emitter)
        attempt.progress("reduce", 0.5, values)
    return values


def _reduce_batch(group: GroupBatch, call: Callable[[Any, Any], Iterable[Any]], emitter: Emitter) -> int:
    """Reduce one batch of groups; a group too large for memory comes alone, as an iterator."""
    if all(type(values) is list for values in group.values):
        emitter.drain(CallSource("reduce_fn", call, group.keys, lambda: map(iter, group.values), _place))
        return sum(map(len, group.values))
    streams = [_Stream(values) for values in group.values]
    source = CallSource("reduce_fn", call, group.keys, lambda: map(iter, streams), _place)
    try:
        emitter.drain(source)
    finally:
        for stream in streams:
            stream.finish()
    return sum(stream.count for stream in streams)


def _place(key: Any) -> tuple[str, None]:
    return place_of_key(key), None


class _Stream:
    """The values of one large group, counted; a failure of ours is remembered, whatever user code does."""

    def __init__(self, values: Iterable[Any]) -> None:
        self._values = iter(values)
        self._failure: Exception | None = None
        self._given = False
        self.count = 0

    def __iter__(self) -> Iterator[Any]:
        if self._given:  # a second pass, made only to find the record of a failure: nothing is left
            return iter(())
        self._given = True
        return self._flow()

    def _flow(self) -> Iterator[Any]:
        try:
            for value in self._values:
                self.count += 1
                yield value
        except Exception as error:
            self._failure = error
            raise EngineError(error) from error

    def finish(self) -> None:
        """Raise the failure that user code may have swallowed or dressed up as its own."""
        if self._failure is not None:
            raise self._failure
