"""Built-in reducers: `reduce_fn = mr.agg.sum`. They combine by themselves and run inside Arrow.

Each is also a plain function that yields the result of a key: `list(mr.agg.sum("a", [1, 2])) == [("a", 3)]`.
A job gives exactly these results, except that a sum of floats is added up in the order of splits and flushes,
which is the same on every run. `min` and `max` of floats give 0.0 for -0.0, and NaN when any value is NaN.

As `combine_fn` of a Python `reduce_fn` some of them hand that function partial results as its values.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from typing import Any

from mr.error_text import safe_repr
from mr.errors import BadAggregate, BadJob
from mr.protocol.aggregation import AggregationSpec
from mr.protocol.bounds import MAX_INT64

#: Most `each` inside one another: values nested deeper are not tuples that somebody wrote.
MAX_EACH_DEPTH = 8


class Aggregation:
    """One built-in reducer. Two are equal when their specs are; `repr` is what a job file writes."""

    def __init__(
        self,
        name: str,
        reduce_values: Callable[[Iterable[Any]], Any],
        summary: str | None,
        *,
        arguments: tuple[int | float | AggregationSpec, ...] = (),
        combines: bool = True,
        feeds_reduce_fn: bool = False,
    ) -> None:
        self.spec = AggregationSpec(name, arguments)
        self._reduce_values = reduce_values
        self.__doc__ = summary
        #: Whether partial results take less room than the values; if not, map outputs hold the values.
        self.combines = combines
        #: Whether it may be the `combine_fn` of a Python `reduce_fn`: partial results are values again.
        self.feeds_reduce_fn = feeds_reduce_fn

    def __call__(self, key: Any, values: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
        """Yield the one pair of this key. Raises BadAggregate for values that it cannot take."""
        yield key, self.reduce_values(values)

    def reduce_values(self, values: Iterable[Any]) -> Any:
        """The result for one key's values, at least one. Raises BadAggregate."""
        return self._reduce_values(values)

    def __repr__(self) -> str:
        return str(self.spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Aggregation) and other.spec == self.spec

    def __hash__(self) -> int:
        return hash(self.spec)


def add(total: Any, value: Any, name: str = "sum") -> Any:
    """`total + value` for numbers. Raises BadAggregate for anything else."""
    if type(value) not in (int, float, bool):
        raise BadAggregate(
            f"mr.agg.{name} adds numbers; it met {safe_repr(value)} of type {type(value).__name__}"
        )
    try:
        return total + value
    except OverflowError as error:
        raise BadAggregate(f"mr.agg.{name}: {error}") from error


def divide(total: Any, count: int) -> float:
    """`total / count`. Raises BadAggregate when the result is beyond a float."""
    try:
        return float(total / count)
    except OverflowError as error:
        raise BadAggregate(f"mr.agg.mean: {error}") from error


def pick(best: Any, value: Any, name: str) -> Any:
    """The smaller value (`name` = min) or the larger (max); the first of equals; NaN if either is."""
    if type(best) is float and math.isnan(best):
        return best
    try:
        if type(value) is float and math.isnan(value) and isinstance(best, int | float):
            return value
        better = value < best if name == "min" else value > best
    except (TypeError, ValueError, ArithmeticError) as error:  # ArithmeticError: Decimal("NaN")
        raise BadAggregate(
            f"mr.agg.{name} cannot compare {safe_repr(best)} with {safe_repr(value)}: {error}"
        ) from error
    return value if better else best


def identity(value: Any) -> Any:
    """A key that is the same for values that count as one: equal and of one type, inside containers too."""
    if type(value) is float and not math.isnan(value):
        return (float, value + 0.0)
    return _inner_identity(value)


def _inner_identity(value: Any) -> Any:
    if type(value) is float:
        return (float, value.hex())
    if isinstance(value, Decimal) and value.is_nan():
        return (Decimal, "NaN")  # equals nothing, and a signalling one has no hash
    if type(value) is complex and value != value:
        return (complex, repr(value))
    if isinstance(value, list | tuple):
        return (type(value), tuple(map(_inner_identity, value)))
    if isinstance(value, set | frozenset):
        return (type(value), frozenset(map(_inner_identity, value)))
    if isinstance(value, dict):
        return (dict, tuple((_inner_identity(k), _inner_identity(v)) for k, v in value.items()))
    return (type(value), value)


def top(items: Iterable[Any], k: int, value_of: Callable[[Any], Any] = lambda item: item) -> list[Any]:
    """The `k` items with the largest values, descending, equal ones in their order; NaN above every number.

    Raises BadAggregate for values that do not compare, or have no order of their own.
    """
    given = list(items)
    try:
        return sorted(given, key=lambda item: order_key(value_of(item)), reverse=True)[:k]
    except TypeError as error:
        raise BadAggregate(f"mr.agg.top_k cannot order {_unordered(map(value_of, given))}") from error


def order_key(value: Any) -> Any:
    """A sort key for values of one type, or numbers of any type. Keys of other mixtures do not compare."""
    if isinstance(value, int | float | Decimal):
        nan = value.is_nan() if isinstance(value, Decimal) else value != value
        return (True, 0) if nan else (False, value)
    if isinstance(value, list | tuple):
        kind: Any = 0 if isinstance(value, tuple) else "list"
        return [kind, *map(order_key, value)]
    if value is None or isinstance(value, set | frozenset | dict | complex):
        raise TypeError(f"a {type(value).__name__} has no order")
    return value


def _unordered(values: Iterable[Any]) -> str:
    """Name the first value without an order, or the first two neighbours that do not compare."""
    before: Any = ()
    for value in values:
        try:
            key = order_key(value)
        except TypeError:
            return f"{safe_repr(value)} of type {type(value).__name__}"
        try:
            sorted((key, *before[1:]))
        except TypeError:
            return f"{safe_repr(before[0])} beside {safe_repr(value)}"
        before = (value, key)
    return "values of different types"


def as_float(value: Any) -> float:
    """A number as a float, 0.0 for -0.0. Raises BadAggregate for anything else, or one beyond a float."""
    if type(value) not in (int, float, bool):
        raise BadAggregate(
            f"mr.agg.quantiles takes numbers; it met {safe_repr(value)} of type {type(value).__name__}"
        )
    try:
        return float(value) + 0.0
    except OverflowError as error:
        raise BadAggregate(f"mr.agg.quantiles: {error}") from error


def _quantile(ordered: list[float], share: float) -> float:
    place = share * (len(ordered) - 1)
    below = int(place)
    low, high = ordered[below], ordered[below + 1 if below + 1 < len(ordered) else below]
    weight = place - below
    if weight == 0 or low == high:
        return low
    step = high - low
    return low + step * weight if weight < 0.5 else high - step * (1 - weight)


def checked_tuple(value: Any, length: int) -> tuple[Any, ...]:
    """The value, if it is a tuple of that length. Raises BadAggregate for anything else."""
    if type(value) is tuple and len(value) == length:
        return value
    shape = f"{len(value)} items" if type(value) is tuple else f"type {type(value).__name__}"
    raise BadAggregate(f"mr.agg.each takes tuples of {length} items; it met {safe_repr(value)} of {shape}")


def _sum(values: Iterable[Any]) -> Any:
    total: Any = 0
    for value in values:
        total = add(total, value)
    return total


def _mean(values: Iterable[Any]) -> float:
    total: Any = 0
    count = 0
    for value in values:
        total = add(total, value, "mean")
        count += 1
    return divide(total, count)


def _pick_of(name: str) -> Callable[[Iterable[Any]], Any]:
    def reduce_values(values: Iterable[Any]) -> Any:
        items = iter(values)
        best = next(items)
        for value in items:
            best = pick(best, value, name)
        return best + 0.0 if type(best) is float else best

    return reduce_values


def _count(values: Iterable[Any]) -> int:
    total = 0
    for _ in values:
        total += 1
    return total


def _count_distinct(values: Iterable[Any]) -> int:
    return len({identity(value) for value in values})


sum = Aggregation(
    "sum",
    _sum,
    "The sum of the values: int, float, bool. Integers are exact however large.",
    feeds_reduce_fn=True,
)
count = Aggregation("count", _count, "How many values there are.")
min = Aggregation(
    "min",
    _pick_of("min"),
    "The smallest value, of any types that compare; the first of equals.",
    feeds_reduce_fn=True,
)
max = Aggregation(
    "max",
    _pick_of("max"),
    "The largest value, of any types that compare; the first of equals.",
    feeds_reduce_fn=True,
)
mean = Aggregation("mean", _mean, "The sum of the values divided by their number, as a float.")
first = Aggregation(
    "first", lambda values: next(iter(values)), "The first value in input order.", feeds_reduce_fn=True
)
last = Aggregation(
    "last", lambda values: deque(values, maxlen=1)[0], "The last value in input order.", feeds_reduce_fn=True
)
collect = Aggregation("collect", list, "All values in a list, in input order.", combines=False)
count_distinct = Aggregation(
    "count_distinct",
    _count_distinct,
    "How many different values there are, by Python's equality; but 1, 1.0 and True are three, every NaN is "
    "one, and order counts in dicts.",
)


def top_k(k: int) -> Aggregation:
    """The `k` largest values, or all where there are fewer, in a list from the largest down.

    Values of any one type that compares, or numbers of all types; others are refused, naming the key. Equal
    values come in input order. NaN counts as larger than every number.
    """
    if type(k) is not int or not 1 <= k <= MAX_INT64:
        raise BadJob(f"mr.agg.top_k({safe_repr(k)}): k must be a whole number, at least 1")
    return Aggregation("top_k", lambda values: top(values, k), top_k.__doc__, arguments=(k,))


def quantiles(*shares: float) -> Aggregation:
    """Exact quantiles of numbers, a list of floats: `quantiles(0, 0.5, 1)` is smallest, median, largest.

    Between two values a quantile is interpolated linearly, as NumPy does by default. It is NaN when any value
    of the key is. Like `collect` it sends all values to the reducer, and holds those of one key in memory
    there, with some 50 bytes for each (90 where int and float are mixed).
    """
    for share in shares:
        if type(share) not in (int, float) or not 0 <= share <= 1:
            raise BadJob(f"mr.agg.quantiles: {safe_repr(share)} is not a number from 0 to 1")
    if not shares:
        raise BadJob("mr.agg.quantiles() needs at least one number from 0 to 1")
    wanted = tuple(map(float, shares))

    def reduce_values(values: Iterable[Any]) -> list[float]:
        ordered = sorted(map(as_float, values))
        if any(map(math.isnan, ordered)):
            return [math.nan] * len(wanted)
        return [_quantile(ordered, share) for share in wanted]

    return Aggregation("quantiles", reduce_values, quantiles.__doc__, arguments=wanted, combines=False)


def _depth(spec: AggregationSpec) -> int:
    """How many `each` lie around the innermost aggregation."""
    inner = sorted(_depth(part) for part in spec.arguments if isinstance(part, AggregationSpec))
    return 1 + inner[-1] if inner else 0


def each(*parts: Aggregation) -> Aggregation:
    """One aggregation for each position of tuples: `each(mr.agg.sum, mr.agg.max)` gives (sum, max).

    Values must be tuples of that many items. It combines if all its parts do.
    """
    for part in parts:
        if not isinstance(part, Aggregation):
            raise BadJob(f"mr.agg.each: {safe_repr(part)} is not an aggregation such as mr.agg.sum")
    if not parts:
        raise BadJob("mr.agg.each() needs at least one aggregation, such as mr.agg.sum")
    if any(_depth(part.spec) >= MAX_EACH_DEPTH for part in parts):
        raise BadJob(f"mr.agg.each can be nested {MAX_EACH_DEPTH} deep at most")

    def reduce_values(values: Iterable[Any]) -> tuple[Any, ...]:
        given = [checked_tuple(value, len(parts)) for value in values]
        return tuple(part.reduce_values([v[place] for v in given]) for place, part in enumerate(parts))

    return Aggregation(
        "each",
        reduce_values,
        each.__doc__,
        arguments=tuple(part.spec for part in parts),
        combines=all(part.combines for part in parts),
        feeds_reduce_fn=all(part.feeds_reduce_fn for part in parts),
    )
