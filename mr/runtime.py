"""What user functions ask the engine while they run: `mr.param`, `mr.counter`, `mr.input_path`.

One task runs at a time in one process, so the context is a plain module variable.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from mr.errors import MrError
from mr.protocol.bounds import clamped

#: Most counters one task may have, and characters of a counter's name: they travel in messages.
MAX_COUNTERS = 1000
MAX_COUNTER_NAME = 200

_REQUIRED: Any = object()


class UsageError(MrError):
    """A function of `mr` was called with a wrong argument, or where it does not work."""


class TaskContext:
    """What user functions can ask for during one task attempt, and what they report to it."""

    __slots__ = ("counters", "input_path", "params", "place")

    def __init__(self, params: Mapping[str, str], place: str = "task") -> None:
        self.params = params
        #: Named totals of this attempt; only a committed attempt's count.
        self.counters: dict[str, int] = {}
        #: The file whose records are being mapped; None outside a map.
        self.input_path: str | None = None
        #: `task`, or `inspection` while the job file is looked at before it is submitted.
        self.place = place


_context: TaskContext | None = None


@contextmanager
def active(context: TaskContext) -> Iterator[TaskContext]:
    """Make `context` the one that `param`, `counter` and `input_path` speak of."""
    global _context
    before, _context = _context, context
    try:
        yield context
    finally:
        _context = before


def param(name: str, default: Any = _REQUIRED) -> Any:
    """Give the job's parameter `name` (`--param NAME=VALUE`), a str, or `default` when it is not set.

    Raises UsageError when it is not set and there is no default.
    """
    params = _context.params if _context is not None else {}
    if name in params:
        return params[name]
    if default is not _REQUIRED:
        return default
    if _context is not None and _context.place == "inspection":
        raise UsageError(
            f"mr.param({name!r}) has no value while the job file is inspected; "
            f"give it with --param {name}=VALUE, give it a default, or call it inside map_init"
        )
    raise UsageError(f"mr.param({name!r}) has no value; give it with --param {name}=VALUE")


class Counter:
    """A named total over all committed tasks of the job."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def add(self, n: int = 1) -> None:
        """Add `n`, an int, to this attempt's total. Outside a task it does nothing.

        A total stops at the largest or smallest int64.
        """
        if _context is None:
            return
        counters = _context.counters
        if type(n) is not int:
            raise UsageError(f"mr.counter({self.name!r}).add() takes an int, not {type(n).__name__}")
        if self.name not in counters and len(counters) >= MAX_COUNTERS:
            raise UsageError(f"mr.counter({self.name!r}): a task has at most {MAX_COUNTERS} counters")
        counters[self.name] = clamped(counters.get(self.name, 0) + n)


def counter(name: str) -> Counter:
    """Give the counter called `name`, a str of at most MAX_COUNTER_NAME characters."""
    if not isinstance(name, str) or not 0 < len(name) <= MAX_COUNTER_NAME:
        raise UsageError(f"mr.counter takes a name of 1 to {MAX_COUNTER_NAME} characters")
    return Counter(name)


def input_path() -> str:
    """Give the path or URL of the file whose record is being mapped. Raises UsageError elsewhere."""
    if _context is None or _context.input_path is None:
        raise UsageError("mr.input_path() is known only inside map_fn and map_batch")
    return _context.input_path
