"""The ranges of numbers that come from outside: decoding refuses what lies beyond. Pure.

Nothing here is a limit that work meets. It keeps an absurd number in a message or a stored record from
growing into an overflow, an endless loop or a day without end in whoever reckons with it.
"""

from typing import Annotated

from msgspec import Meta

MAX_INT64 = 2**63 - 1
MIN_INT64 = -(2**63)
#: Largest size: exact as a double, as Lua and JSON readers have it. 8 PiB.
MAX_BYTES = 2**53
#: Largest time or sum of times, in seconds.
MAX_REAL = 1e15
#: Longest duration: 31 years, which any timer takes.
MAX_SECONDS = 1e9
#: Most tasks of one kind that may be asked for.
MAX_TASKS = 100_000
#: Most map tasks that a split size may lead to.
MAX_SPLITS = 250_000
#: Most attempts of one task.
MAX_ATTEMPT = 100_000

#: A count or a sum.
Int64 = Annotated[int, Meta(ge=MIN_INT64, le=MAX_INT64)]
#: A size or a position.
Natural = Annotated[int, Meta(ge=0, le=MAX_INT64)]
#: A time, a share or a sum of them: finite, and no NaN.
Real = Annotated[float, Meta(ge=-MAX_REAL, le=MAX_REAL)]
#: A duration in seconds.
Seconds = Annotated[float, Meta(ge=0, le=MAX_SECONDS)]
#: The number of an attempt; 0 for none.
Attempt = Annotated[int, Meta(ge=0, le=MAX_ATTEMPT)]
#: The number of a split or a partition.
Index = Annotated[int, Meta(ge=0, lt=MAX_SPLITS)]
#: Tasks that a worker runs at a time.
Slots = Annotated[int, Meta(ge=0, le=65_535)]


def clamped(value: int) -> int:
    """Bring a whole number into the range of int64."""
    return min(max(value, MIN_INT64), MAX_INT64)


def clamped_real(value: float) -> float:
    """Bring a sum of Reals into the range of one."""
    return min(max(value, -MAX_REAL), MAX_REAL)
