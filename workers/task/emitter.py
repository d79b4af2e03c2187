"""Pairs from user functions into columns, a batch at a time and without a Python loop over them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from operator import itemgetter, length_hint
from typing import Any, Protocol

from mr.error_text import safe_repr
from mr.errors import MrError, UnencodableKey, UnencodableValue
from mr.workers.task.context import Attempt
from mr.workers.task.meter import Place
from mr.workers.usercode.failures import TaskError, user_failure, wrong_result
from mr.workers.usercode.tracebacks import has_user_frames

#: Bytes of keys and values that one batch should hold.
BATCH_BYTES = 4 * 1024 * 1024
#: Rows of the first batch, and how much larger the next one may be.
FIRST_ROWS = 256
GROWTH = 4
#: Rows that are looked at to guess the size of a batch.
SAMPLES = 16
#: Most pairs taken before their bytes are counted; the first of all is taken alone.
STEP_ROWS = 256

_PAIR_TYPES = {tuple, list}
_SMALL_TYPES = {int, float, bool, type(None)}
_TEXT_TYPES = {str, bytes}
_KEY, _VALUE = itemgetter(0), itemgetter(1)

Sink = Callable[[list[Any], list[Any]], None]


class Source(Protocol):
    """Where the pairs come from: records of a file, groups of keys, a hook."""

    #: The user function that gives the pairs.
    function: str

    def pairs(self) -> Iterator[Any]:
        """Call the function for all there is; asked once."""

    def current(self) -> Place:
        """The record whose pairs are being taken."""

    def of_pair(self, number: int) -> Place:
        """The record that gave pair `number` of `pairs()`, found by calling the function again."""


class CallSource:
    """One call of a function per key and value, in order."""

    def __init__(
        self,
        function: str,
        call: Callable[[Any, Any], Iterable[Any]],
        keys: Sequence[Any],
        values: Callable[[], Iterable[Any]],
        place: Callable[[Any], Place],
    ) -> None:
        self.function = function
        self._call = call
        self._keys = keys
        #: Gives the second arguments afresh, so that the calls can be repeated.
        self._values = values
        self._place = place
        # `map` takes the next key only when the last call's pairs are used up: what is left in the
        # iterator tells which key is at work.
        self._left = iter(keys)

    def pairs(self) -> Iterator[Any]:
        """Chain what the calls give, in C."""
        return chain.from_iterable(map(self._call, self._left, self._values()))

    def current(self) -> Place:
        """The key taken last."""
        return self._place(self._keys[self.finished()])

    def finished(self) -> int:
        """How many keys the function has finished: all that were taken but the last. For any thread."""
        return max(0, len(self._keys) - length_hint(self._left) - 1)

    def of_pair(self, number: int) -> Place:
        """Call the function again for one key at a time, counting; `current` when that goes wrong."""
        seen = 0
        try:
            for key, value in zip(self._keys, self._values(), strict=False):
                seen += sum(1 for _ in self._call(key, value))
                if seen > number:
                    return self._place(key)
        except Exception:  # noqa: BLE001 - user code, run again only to explain the first failure
            return self.current()
        return self.current()


class HookSource:
    """What a `*_final` hook gave."""

    def __init__(self, function: str, given: Iterable[Any]) -> None:
        self.function = function
        self._given = given

    def pairs(self) -> Iterator[Any]:
        """The hook's own iterable."""
        return iter(self._given)

    def current(self) -> Place:
        """A hook is given no record."""
        return "", None

    def of_pair(self, number: int) -> Place:
        """A hook is given no record."""
        return "", None


class Emitter:
    """Moves the pairs of a source into a sink, in checked batches of bounded size."""

    def __init__(self, attempt: Attempt, sink: Sink) -> None:
        self._attempt = attempt
        self._sink = sink
        self._rows = min(FIRST_ROWS, attempt.buffers.chunk_rows)
        #: Pairs to take before their bytes are counted.
        self._step = 1

    def drain(self, source: Source) -> int:
        """Take all pairs of `source`; returns their number.

        Raises TaskError with the record for an exception of the user's function and for what is no
        pair or cannot be stored.
        """
        taken = 0
        pairs = self._start(source)
        while True:
            keys, values = self._take(source, pairs, taken)
            if not keys:
                return taken
            try:
                self._sink(keys, values)
            except (UnencodableKey, UnencodableValue) as error:
                row = getattr(error, "row", None)
                raise self._unencodable(source, error, taken, row) from error
            taken += len(keys)
            self._rows = next_rows(self._rows, keys, values, self._attempt.buffers.chunk_rows)

    def drain_hook(self, name: str) -> None:
        """Call a `*_final` hook, if there is one, and take the pairs it gives, if any."""
        given = self._attempt.call_hook(name)
        if given is not None:
            self.drain(HookSource(name, given))

    def _start(self, source: Source) -> Iterator[Any]:
        with self._attempt.user_code(source.function):
            return source.pairs()

    def _take(self, source: Source, pairs: Iterator[Any], taken: int) -> tuple[list[Any], list[Any]]:
        """Take the keys and values of the next batch, in steps whose bytes are counted.

        Nothing runs here but the user's function and C code.
        """
        keys: list[Any] = []
        values: list[Any] = []
        held = 0
        try:
            with self._attempt.user_code(source.function, source.current):
                while len(keys) < self._rows and held < BATCH_BYTES:
                    wanted = min(self._step, self._rows - len(keys))
                    step = list(islice(pairs, wanted))
                    if not all_pairs(step):
                        self._refuse(source, step, taken + len(keys))
                    keys += map(_KEY, step)
                    values += map(_VALUE, step)
                    if len(step) < wanted:
                        break
                    step_bytes = pair_bytes(step)
                    held += step_bytes
                    self._step = max(1, min(STEP_ROWS, wanted * GROWTH, wanted * BATCH_BYTES // step_bytes))
        except TaskError as failed:
            error = failed.__cause__
            if isinstance(error, TypeError) and not has_user_frames(error):
                raise self._not_iterable(source, error) from error
            raise
        return keys, values

    def _not_iterable(self, source: Source, error: TypeError) -> TaskError:
        record, path = source.current()
        advice = "yield (key, value) pairs, or return a list of them or None"
        return user_failure(
            self._attempt.run_task, source.function, error, record=record, input_path=path, advice=advice
        )

    def _refuse(self, source: Source, batch: list[Any], taken: int) -> None:
        """Name the first item of `batch` that is no pair, and its record."""
        row = next(i for i, item in enumerate(batch) if not all_pairs([item]))
        record, path = source.of_pair(taken + row)
        raise wrong_result(
            self._attempt.run_task,
            source.function,
            f"gave {safe_repr(batch[row])} (of type {type(batch[row]).__name__}), which is no "
            "(key, value) pair; yield one pair at a time, or return a list of pairs",
            record=record,
            input_path=path,
        )

    def _unencodable(self, source: Source, error: MrError, taken: int, row: int | None) -> TaskError:
        record, path = source.current() if row is None else source.of_pair(taken + row)
        return wrong_result(
            self._attempt.run_task,
            source.function,
            f"gave a pair that cannot be stored: {error}",
            record=record,
            input_path=path,
        )


def all_pairs(batch: list[Any]) -> bool:
    """Say whether all items are tuples or lists (or kinds of them) of two."""
    types = set(map(type, batch))
    if not types <= _PAIR_TYPES and not all(issubclass(kind, tuple | list) for kind in types):
        return False
    return set(map(len, batch)) <= {2}


def columns(pairs: list[Any]) -> tuple[list[Any], list[Any]]:
    """Split checked pairs into their keys and their values."""
    return list(map(_KEY, pairs)), list(map(_VALUE, pairs))


def next_rows(rows: int, keys: list[Any], values: list[Any], most: int) -> int:
    """Choose the rows of the next batch from what a sample of the last one weighs.

    Depends on the data alone, never on measured memory: the same input gives the same batches.
    """
    step = max(1, len(keys) // SAMPLES)
    sample = keys[::step] + values[::step]
    pair_bytes = max(1, 2 * sum(map(weight, sample)) // len(sample))
    return max(1, min(most, rows * GROWTH, BATCH_BYTES // pair_bytes))


def pair_bytes(pairs: list[Any]) -> int:
    """Estimate the bytes of checked pairs, at least one, from some of them."""
    rows = len(pairs)
    # a prime, so that pairs which are large in turns are met as well
    stride = 1 if rows <= SAMPLES else 5 if rows <= 5 * SAMPLES else 17
    sample = pairs[::stride]
    return (_weights(list(map(_KEY, sample))) + _weights(list(map(_VALUE, sample)))) * rows // len(sample)


def _weights(items: list[Any]) -> int:
    kinds = set(map(type, items))
    if kinds <= _SMALL_TYPES:
        return 16 * len(items)
    if kinds <= _TEXT_TYPES:
        return 16 * len(items) + sum(map(len, items))
    return sum(map(weight, items))


def weight(item: Any, depth: int = 3) -> int:
    """Estimate the bytes of a key or value; of a container, from some of its members."""
    if isinstance(item, str | bytes | bytearray):
        return 16 + len(item)
    if isinstance(item, dict):
        item = [*item, *item.values()]
    if isinstance(item, list | tuple | set | frozenset):
        # of a set all members: which of them come first is left to chance
        stride = 1 + len(item) // SAMPLES if isinstance(item, list | tuple) else 1
        inner = sum(weight(member, depth - 1) for member in islice(item, 0, None, stride)) if depth else 0
        return 64 + 32 * len(item) + stride * inner
    return 16
