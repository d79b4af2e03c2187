"""Where pairs go: a buffer of segments for the reducers, or an output part."""

import errno
from typing import Any, Protocol

import pyarrow as pa

from mr.error_text import error_text
from mr.errors import UnencodableKey, UnencodableValue
from mr.formats.output.part_writer import OutputUnwritable, PartWriter
from mr.protocol.failures import Failure, FailureKind
from mr.protocol.ids import TaskKind, task_kind
from mr.protocol.part_names import temporary_part
from mr.protocol.records import MapOutput, PartOutput
from mr.workers.shuffle.buffer import MapBuffer
from mr.workers.shuffle.key_codec import encode_key
from mr.workers.shuffle.result_table import is_native, to_pairs
from mr.workers.shuffle.value_codec import encode_value
from mr.workers.task.combiners import blaming, combiner_of, partitioner_of
from mr.workers.task.context import Attempt
from mr.workers.task.type_check import plain_items
from mr.workers.usercode.failures import TaskError, wrong_result

#: Name of the file of segments inside the attempt's directory.
SEGMENTS_NAME = "segments"
#: Errors of a directory that is somewhere else, or somebody else's; waiting does not help.
_NOT_HERE = (errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.EROFS)


class MapSink(Protocol):
    """Where a map's pairs go: towards the reducers, or into an output part."""

    def add(self, keys: list[Any], values: list[Any]) -> None:
        """Take one batch of pairs. Raises UnencodableKey or UnencodableValue with `.row`."""

    def add_batch(self, batch: pa.RecordBatch) -> None:
        """Take a batch with columns key and value. Raises as `add` does."""

    def finish(self) -> tuple[MapOutput | PartOutput, dict[str, int]]:
        """Complete the output; give it and the figures it adds to TaskStats."""

    def abort(self) -> None:
        """Drop what was written."""


class PartSink:
    """One output part, written to this attempt's own file."""

    def __init__(self, attempt: Attempt) -> None:
        spec, run_task = attempt.spec, attempt.run_task
        self._attempt = attempt
        self._path = temporary_part(
            spec.output,
            spec.job_id,
            attempt.index,
            run_task.attempt.number,
            run_task.identity.incarnation,
            spec.options.output_format,
        )
        try:
            self._writer = PartWriter(self._path, spec.options.output_format)
        except OutputUnwritable as error:
            raise not_here(attempt, error) from error

    def add(self, keys: list[Any], values: list[Any]) -> None:
        """Write one batch of pairs, of the same kinds that may travel from map to reduce."""
        self._writer.write_pairs(plain_items(keys, encode_key), plain_items(values, encode_value))

    def add_batch(self, batch: pa.RecordBatch) -> None:
        """Write a batch with columns key and value. Raises UnencodableKey or UnencodableValue."""
        try:
            self._writer.write_table(pa.Table.from_batches([batch]))
        except (ValueError, TypeError, NotImplementedError, KeyError, OverflowError) as error:  # Arrow's too
            raise UnencodableValue(f"{self._attempt.spec.options.output_format} output: {error}") from error

    def add_table(self, table: pa.Table) -> None:
        """Write results of a built-in reducer, in Arrow where their columns are native."""
        if is_native(table):
            self._writer.write_table(table)
        else:
            self._writer.write_pairs(*to_pairs(table))

    def finish(self) -> tuple[PartOutput, dict[str, int]]:
        """Complete the part; say what it holds."""
        run_task = self._attempt.run_task
        try:
            summary = self._writer.close()
        except (UnencodableKey, UnencodableValue) as error:
            complaint = f"gave pairs that cannot be stored: {error}"
            raise wrong_result(run_task, self._function(), complaint) from error
        part = PartOutput(
            attempt=run_task.attempt,
            worker=run_task.identity.worker,
            incarnation=run_task.identity.incarnation,
            rows=summary.rows,
            bytes=summary.bytes,
            checksum=summary.checksum,
        )
        return part, {"records_out": summary.rows, "bytes_out": summary.bytes}

    def _function(self) -> str:
        """The user function that gave the pairs."""
        if task_kind(self._attempt.run_task.attempt.task) is TaskKind.REDUCE:
            return "reduce_fn"
        return "map_fn" if self._attempt.code.get("map_batch") is None else "map_batch"

    def abort(self) -> None:
        """Remove the unfinished part."""
        self._writer.abort()


def not_here(attempt: Attempt, error: OutputUnwritable) -> BaseException:
    """The failure for an output that cannot be opened: the worker lacks the directory, or its disk fails."""
    cause = error.__cause__
    if not isinstance(cause, OSError) or cause.errno not in _NOT_HERE:
        return error
    message = (
        f"worker {attempt.run_task.identity.worker} cannot write into the output {attempt.spec.output}: "
        f"{error_text(cause)}; every worker must see this directory and may write there"
    )
    return TaskError(Failure(FailureKind.OUTPUT_UNWRITABLE, message))


class ShuffleSink:
    """The sink of a job with reducers: a buffer that combines, spills and ends as one file of segments."""

    def __init__(self, attempt: Attempt) -> None:
        if attempt.code.get("reduce_fn") is None:
            entry, reduces = attempt.spec.code.entry, attempt.spec.reduces
            message = f"{entry} has no reduce_fn, but {reduces} reduce tasks are asked for; ask for 0"
            raise TaskError(Failure(FailureKind.BAD_JOB, message))
        self._attempt = attempt
        buffers = attempt.buffers
        self._buffer = MapBuffer(
            partitions=attempt.spec.reduces,
            work_dir=attempt.work_dir,
            spill_rows=buffers.spill_rows,
            spill_bytes=attempt.buffer_bytes(buffers.spill_bytes),
            combiner=combiner_of(attempt),
            partitioner=partitioner_of(attempt),
        )

    def add(self, keys: list[Any], values: list[Any]) -> None:
        """Buffer one batch of pairs; may combine and spill."""
        with blaming(self._attempt):
            self._buffer.add(keys, values)

    def add_batch(self, batch: pa.RecordBatch) -> None:
        """Buffer a batch with columns key and value; may combine and spill."""
        with blaming(self._attempt):
            self._buffer.add_batch(batch)

    def finish(self) -> tuple[MapOutput, dict[str, int]]:
        """Merge the spills into the one file of this attempt."""
        run_task = self._attempt.run_task
        with blaming(self._attempt):
            file = self._buffer.finish(self._attempt.work_dir / SEGMENTS_NAME)
        output = MapOutput(
            attempt=run_task.attempt,
            worker=run_task.identity.worker,
            incarnation=run_task.identity.incarnation,
            address=run_task.identity.address,
            host=run_task.identity.host,
            path=str(file.path),
        )
        figures = {
            "records_out": file.rows,
            "bytes_out": sum(file.partition_bytes),
            "spills": file.spills,
            "spilled_bytes": file.spilled_bytes,
        }
        return output, figures

    def abort(self) -> None:
        """Nothing to do: the attempt's directory is removed with all that lies in it."""
