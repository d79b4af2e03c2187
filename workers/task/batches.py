"""What `map_batch` gives, checked and cut into record batches of bounded size."""

from collections.abc import Callable, Iterator
from typing import Any, Final

import pyarrow as pa

from mr.error_text import safe_repr
from mr.workers.task.context import Attempt
from mr.workers.usercode.failures import TaskError, wrong_result

#: A batch of more bytes is cut: an Arrow column of strings ends at 2 GiB.
MAX_BATCH_BYTES: Final = 1 << 28
_END: Final[Any] = object()
_COLUMNS: Final = ("key", "value")
_WANTED: Final = "return a pyarrow.RecordBatch (or Table) with columns key and value"

#: A record (`file:offset`) and the input file it is from.
Place = tuple[str, str]


def batch_place(path: str, batch: pa.RecordBatch) -> Callable[[], Place]:
    """Make what names a batch by the keys of its first and its last record."""

    def place() -> Place:
        if not batch.num_rows:
            return path, path
        shown = [safe_key(batch.column("key")[row].as_py()) for row in (0, batch.num_rows - 1)]
        if batch.num_rows == 1:
            return f"{path}:{shown[0]}", path
        return f"{path}:{shown[0]} (to {shown[1]}, a batch of {batch.num_rows} records)", path

    return place


def safe_key(key: Any) -> str:
    """Show a record's key: plain when it is an offset, else bounded."""
    return str(key) if type(key) is int else safe_repr(key)


def mapped_batches(
    attempt: Attempt, function: Callable[[Any], Any], batch: pa.RecordBatch, place: Callable[[], Place]
) -> Iterator[pa.RecordBatch]:
    """Call `map_batch` and give its batches with the columns key and value alone. Raises TaskError."""
    given = _call(attempt, function, batch, place)
    while True:
        with attempt.user_code("map_batch", place):
            part = next(given, _END)
        if part is _END:
            return
        try:
            found = _checked(part)
        except (ValueError, NotImplementedError) as error:  # Arrow's are kinds of them
            raise wrong_batch(attempt, f"gave a batch that is not valid: {error}", place) from error
        if found is None:
            shown = f"columns {part.schema.names}" if _is_table(part) else f"a {type(part).__name__}"
            raise wrong_batch(attempt, f"gave {shown}; {_WANTED}", place)
        for piece in found:
            yield from _cut(piece)


def wrong_batch(attempt: Attempt, complaint: str, place: Callable[[], Place]) -> TaskError:
    """Describe what `map_batch` gave that the engine cannot take, naming the batch it was given."""
    record, path = place()
    return wrong_result(attempt.run_task, "map_batch", complaint, record=record, input_path=path)


def _call(
    attempt: Attempt, function: Callable[[Any], Any], batch: pa.RecordBatch, place: Callable[[], Place]
) -> Iterator[Any]:
    """Call `map_batch`; give what it returned as an iterator of batches or tables."""
    with attempt.user_code("map_batch", place):
        given = function(batch)
        if given is None:
            return iter(())
        return iter((given,)) if _is_table(given) else iter(given)


def _is_table(part: Any) -> bool:
    return isinstance(part, pa.RecordBatch | pa.Table)


def _checked(part: Any) -> list[pa.RecordBatch] | None:
    """Give a batch or table as valid batches of the two columns; None when it is of another shape.

    Raises ArrowInvalid for buffers that contradict each other and for text that is no UTF-8: found later,
    in the shuffle or in a reduce, they would look like the engine's fault.
    """
    if not _is_table(part) or any(part.schema.names.count(name) != 1 for name in _COLUMNS):
        return None
    part = part.select(list(_COLUMNS))
    part.validate(full=True)
    if isinstance(part, pa.RecordBatch):
        return [part]
    # a large table stays as it is: together its chunks may be more than a column can hold
    return (part.combine_chunks() if part.nbytes <= MAX_BATCH_BYTES else part).to_batches()  # type: ignore[no-any-return]


def _cut(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Halve a batch until no piece is over the limit, unless it is one row."""
    if batch.nbytes <= MAX_BATCH_BYTES or batch.num_rows <= 1:
        yield batch
        return
    half = batch.num_rows // 2
    yield from _cut(batch.slice(0, half))
    yield from _cut(batch.slice(half))
