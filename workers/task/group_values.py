"""The values of one key as `reduce_fn` and `combine_fn` get them: to be read once, whether few or many."""

from collections.abc import Iterable, Iterator
from typing import Any

from mr.runtime import UsageError
from mr.workers.task.context import EngineError

_READ_AGAIN = (
    "the values of a key can be read only once, and they were read before; "
    "to read them several times, begin with values = list(values)"
)


class GroupValues:
    """Values that are iterated over once; `next` may take some first.

    A second `for` over a plain iterator would find it empty and say nothing. A list would serve a second
    one, but not every group fits into memory: so small groups behave as large ones do. Raises UsageError.
    """

    __slots__ = ("_values",)

    def __init__(self, values: Iterable[Any]) -> None:
        self._values: Iterable[Any] | None = values

    def __iter__(self) -> Iterator[Any]:
        values = self._values
        if values is None:
            raise UsageError(_READ_AGAIN)
        self._values = None
        return iter(values)

    def __next__(self) -> Any:
        if self._values is None:
            raise UsageError(_READ_AGAIN)
        self._values = values = iter(self._values)
        return next(values)


class StreamedValues(GroupValues):
    """The values of a group too large for memory; remembers an engine failure that user code may hide."""

    __slots__ = ("_failure",)

    def __init__(self, values: Iterable[Any]) -> None:
        super().__init__(self._flow(values))
        self._failure: Exception | None = None

    def _flow(self, values: Iterable[Any]) -> Iterator[Any]:
        try:
            yield from values
        except Exception as error:
            self._failure = error
            raise EngineError(error) from error

    def finish(self) -> None:
        """Raise the failure that user code may have swallowed or wrapped as its own."""
        if self._failure is not None:
            raise self._failure
