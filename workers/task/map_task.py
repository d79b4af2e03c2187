"""A map attempt: records of a split through the user's map function, into segments or an output part."""

from collections.abc import Callable, Iterable
from typing import Any

from mr.errors import UnencodableKey, UnencodableValue
from mr.formats.input.bad_records import BadRecords
from mr.formats.input.options import ReadOptions
from mr.formats.input.reader import RecordChunk, read_batches, read_records
from mr.protocol.jobs import Split
from mr.protocol.records import MapOutput, TaskResult
from mr.workers.task.bad_records import bad_records_of, search, write_list
from mr.workers.task.batches import batch_place, mapped_batches, safe_key, wrong_batch
from mr.workers.task.context import Attempt
from mr.workers.task.emitter import CallSource, Emitter
from mr.workers.task.meter import Chunk
from mr.workers.task.sinks import MapSink, PartSink, ShuffleSink
from mr.workers.usercode.functions import as_iterable


def run_map(attempt: Attempt) -> TaskResult:
    """Run a map attempt to the end. Raises TaskError."""
    bad = bad_records_of(attempt.run_task)
    if attempt.run_task.started:
        return _search(attempt, bad)
    sink: MapSink = ShuffleSink(attempt) if attempt.spec.reduces else PartSink(attempt)
    try:
        attempt.meter.reach("map", 0.0, 0)
        attempt.call_hook("map_init")
        emitter = Emitter(attempt, sink.add)
        if attempt.code.get("map_batch") is not None:
            records = _map_batches(attempt, sink, bad)
        else:
            records = _map_records(attempt, emitter, bad)
        attempt.context.input_path = None
        emitter.drain_hook("map_final")
        attempt.meter.reach("spill" if attempt.spec.reduces else "write", 1.0, records)
        listed = write_list(attempt, bad)
        output, figures = sink.finish()
    except BaseException:
        sink.abort()
        raise
    bytes_in = _split(attempt).input_bytes
    figures["bad_records"] = 0 if listed is None else listed.records
    stats = attempt.stats(records_in=records, bytes_in=bytes_in, bad_file=listed, **figures)
    return TaskResult(output, stats)


def _search(attempt: Attempt, bad: BadRecords) -> TaskResult:
    """Run as a search for bad records. The result counts them; its output is none."""
    attempt.call_hook("map_init")
    chunks = attempt.reading(read_records(_split(attempt), _read_options(attempt, bad)))
    records = search(attempt, bad, chunks, as_iterable(attempt.code.get("map_fn")), _place)
    run_task = attempt.run_task
    where = (run_task.identity.worker, run_task.identity.incarnation, "", "", "")
    return TaskResult(MapOutput(run_task.attempt, *where), attempt.stats(records_in=records))


def _split(attempt: Attempt) -> Split:
    """The input of the attempt."""
    split = attempt.run_task.split
    if split is None:
        raise ValueError(f"{attempt.run_task.attempt.task} was sent without a split")
    return split


def _read_options(attempt: Attempt, bad: BadRecords) -> ReadOptions:
    spec = attempt.spec
    return ReadOptions(spec.options, spec.buffers.read_bytes, spec.buffers.chunk_rows, bad)


def _map_records(attempt: Attempt, emitter: Emitter, bad: BadRecords) -> int:
    """Map every record of the split through `map_fn`; returns their number."""
    call = as_iterable(attempt.code.get("map_fn"))
    records = 0
    for chunk in attempt.reading(read_records(_split(attempt), _read_options(attempt, bad))):
        attempt.context.input_path = chunk.path
        source, share = _source(chunk, call), _share(attempt, chunk.consumed_bytes)
        attempt.meter.begin(Chunk(len(chunk.keys), share, source.finished, source.current))
        emitter.drain(source)
        records += len(chunk.keys)
        attempt.meter.reach("map", share, records)
        del chunk, source  # before more is read: a record may be very large
    return records


def _source(chunk: RecordChunk, call: Callable[[Any, Any], Iterable[Any]]) -> CallSource:
    return CallSource(
        "map_fn",
        call,
        chunk.keys,
        lambda: chunk.values,
        lambda key: _place(chunk, key),
    )


def _place(chunk: RecordChunk, key: Any) -> tuple[str, str]:
    """Name a record, and its file."""
    return f"{chunk.path}:{safe_key(key)}", chunk.path


def _share(attempt: Attempt, consumed: int) -> float:
    total = _split(attempt).input_bytes
    return consumed / total if total else 1.0


def _map_batches(attempt: Attempt, sink: MapSink, bad: BadRecords) -> int:
    """Map every batch of the split through `map_batch`; returns the number of records."""
    function = attempt.code.get("map_batch")
    records = 0
    for path, batch, consumed in attempt.reading(read_batches(_split(attempt), _read_options(attempt, bad))):
        attempt.context.input_path = path
        place, share = batch_place(path, batch), _share(attempt, consumed)
        attempt.meter.begin(Chunk(batch.num_rows, share, lambda: 0, place))
        for part in mapped_batches(attempt, function, batch, place):
            try:
                sink.add_batch(part)
            except (UnencodableKey, UnencodableValue) as error:
                complaint = f"gave a pair that cannot be stored: {error}"
                raise wrong_batch(attempt, complaint, place) from error
        records += batch.num_rows
        attempt.meter.reach("map", share, records)
    return records
