"""The ranges of numbers that come from outside: decoding refuses what lies beyond. Pure.

No real job reaches these limits. They keep an absurd number in a message or a stored record from causing an
overflow or an endless loop in the code that computes with it.
"""

from typing import Annotated

from msgspec import Meta

MAX_INT64 = 2**63 - 1
MIN_INT64 = -(2**63)
#: Largest size: exact as a double, which is what Lua and JSON readers use. 8 PiB.
MAX_BYTES = 2**53
#: Largest time or sum of times, in seconds.
MAX_REAL = 1e15
#: Longest duration: 31 years, which every timer accepts.
MAX_SECONDS = 1e9
#: Most tasks of one kind that a job may ask for.
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
