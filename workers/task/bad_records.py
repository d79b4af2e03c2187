"""The bad records of a map attempt: the search for those over which `map_fn` fails, and the list that stays.

An attempt may run several times, each time in another process (`workers/daemon/record_search.py`), and leaves
notes for the next (`workers/task/record_notes.py`).
"""

import io
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from mr.error_text import bounded
from mr.formats.input.bad_records import BadRecords, TooManyBadRecords
from mr.formats.input.reader import RecordChunk
from mr.formats.output.part_writer import OutputUnwritable, PartFile
from mr.formats.registry import output_module
from mr.protocol.bad_records import (
    TRACEBACK_CHARACTERS,
    BadRecordLimit,
    BadRecordsFile,
    first_line,
)
from mr.protocol.failures import Failure, FailureKind
from mr.protocol.part_names import temporary_bad_records
from mr.workers.messages import RunTask
from mr.workers.shuffle.columns import key_column, value_column
from mr.workers.shuffle.key_codec import encode_key
from mr.workers.shuffle.value_codec import encode_value
from mr.workers.task.context import Attempt
from mr.workers.task.emitter import CallSource, Emitter
from mr.workers.task.meter import Chunk
from mr.workers.task.record_notes import add_known, as_line, place_of, read_known
from mr.workers.task.sinks import not_here
from mr.workers.task.type_check import plain_items
from mr.workers.usercode.failures import TaskError


def bad_records_of(run_task: RunTask) -> BadRecords:
    """What the attempt skips: nothing, unless the job allows it."""
    limit = run_task.spec.options.skip_bad_records
    if limit is None:
        return BadRecords()
    most = BadRecordLimit.of(limit).of_one_task
    return BadRecords(skip=True, most=most, known=read_known(run_task.known_bad))


def search(
    attempt: Attempt,
    bad: BadRecords,
    chunks: Iterator[RecordChunk],
    call: Callable[[Any, Any], Iterable[Any]],
    place: Callable[[RecordChunk, Any], tuple[str, str | None]],
) -> int:
    """Map record by record, drop the pairs, and note the records over which `map_fn` raises.

    Returns the number of records. Raises TaskError when there are too many bad ones, or memory runs out.
    """
    run_task = attempt.run_task
    emitter = Emitter(attempt, _checker(run_task))
    records, total = 0, max(1, sum(piece.covered_bytes for piece in _ranges(run_task)))
    attempt.meter.reach("search", 0.0, 0)
    with open(run_task.started, "wb", buffering=0) as started:
        for chunk in chunks:
            attempt.context.input_path = chunk.path
            share = chunk.consumed_bytes / total
            for key, value in zip(chunk.keys, chunk.values, strict=True):
                source = _one(chunk, key, value, call, place)
                attempt.meter.begin(Chunk(1, share, source.finished, source.current))
                started.write(place_of(chunk.number, key))
                try:
                    emitter.drain(source)
                except TaskError as error:
                    _note(run_task, bad, key, value, error)
                records += 1
                attempt.meter.reach("search", share, records)
    return records


def _one(
    chunk: RecordChunk,
    key: Any,
    value: Any,
    call: Callable[[Any, Any], Iterable[Any]],
    place: Callable[[RecordChunk, Any], tuple[str, str | None]],
) -> CallSource:
    return CallSource("map_fn", call, [key], lambda: [value], lambda found: place(chunk, found))


def _note(run_task: RunTask, bad: BadRecords, key: Any, value: Any, error: TaskError) -> None:
    """Note the record over which `map_fn` raised. Raises TaskError if memory ran out: is it this record?"""
    failure = error.failure
    if failure.kind is not FailureKind.USER_ERROR:
        raise error
    try:
        record = bad.failed(
            key,
            value,
            kind=failure.kind,
            message=failure.message,
            function=failure.function,
            traceback=bounded(failure.traceback, TRACEBACK_CHARACTERS),
        )
    except TooManyBadRecords as many:
        raise TaskError(too_many(many)) from error
    add_known(run_task.known_bad, record)


def too_many(error: Exception) -> Failure:
    """The failure of an attempt whose input is not what the job expects."""
    return Failure(FailureKind.BAD_INPUT, str(error))


def _checker(run_task: RunTask) -> Callable[[list[Any], list[Any]], None]:
    """A sink that refuses the pairs which the attempt's own sink would refuse, and drops the others."""
    if run_task.spec.reduces:

        def shuffled(keys: list[Any], values: list[Any]) -> None:
            if keys:
                key_column(keys)
                value_column(values)

        return shuffled
    new_writer = output_module(run_task.spec.options.output_format).Writer

    def written(keys: list[Any], values: list[Any]) -> None:
        writer = new_writer(io.BytesIO())
        writer.pairs(plain_items(keys, encode_key), plain_items(values, encode_value))
        writer.end()

    return written


def write_list(attempt: Attempt, bad: BadRecords) -> BadRecordsFile | None:
    """Write the list of what was skipped, to this attempt's own file. None: nothing was. Raises TaskError."""
    if not bad.skip or not bad.found:
        return None
    spec, run_task = attempt.spec, attempt.run_task
    order = {path: number for number, path in enumerate(dict.fromkeys(p.path for p in _ranges(run_task)))}
    found = sorted(bad.found, key=lambda record: (order[record.path], record.position))
    number, incarnation = run_task.attempt.number, run_task.identity.incarnation
    path = temporary_bad_records(spec.output, spec.job_id, attempt.index, number, incarnation)
    try:
        file = PartFile(path)
    except OutputUnwritable as error:
        raise not_here(attempt, error) from error
    try:
        for record in found:
            file.write(as_line(record))
        checksum = file.finish()
    except BaseException:
        file.abort()
        raise
    return BadRecordsFile(number, incarnation, len(found), file.bytes, checksum, first_line(found[0]))


def _ranges(run_task: RunTask) -> tuple[Any, ...]:
    return run_task.split.ranges if run_task.split is not None else ()
