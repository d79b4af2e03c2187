"""Everything that goes into map buffers comes out of the groups as a dict and `sorted` would have it."""

import math
import statistics
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta, timezone
from decimal import Decimal
from itertools import accumulate
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mr.agg
from mr.agg import Aggregation
from mr.workers.shuffle import segment
from mr.workers.shuffle.buffer import MapBuffer
from mr.workers.shuffle.combine import Combiner, PythonCombiner
from mr.workers.shuffle.group import Grouped
from mr.workers.shuffle.partition import partition_of
from mr.workers.shuffle.result_table import to_pairs
from mr.workers.shuffle.segment_index import SegmentRef, find_segment

TEXT = st.text(st.characters(), max_size=4)
FLOATS = st.floats() | st.sampled_from([0.0, -0.0, math.nan, 1.0, 2.0])
INTEGERS = st.integers(-3, 3) | st.integers() | st.sampled_from([1 << 63, (1 << 63) - 1, -(1 << 63)])
ATOMS = st.none() | st.booleans() | INTEGERS | FLOATS | TEXT | st.binary(max_size=3)
ANY_KEYS = st.recursive(ATOMS, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=4)
KEYS = st.sampled_from([st.sampled_from("abc"), INTEGERS, FLOATS, TEXT, st.booleans(), ANY_KEYS])
VALUES = st.sampled_from(
    [st.integers(-9, 9), INTEGERS, TEXT, ATOMS, st.tuples(st.integers(0, 3), TEXT), st.booleans()]
)
Pairs = list[tuple[Any, Any]]

RANKS = {type(None): 0, bool: 1, int: 2, float: 3, str: 4, bytes: 5, tuple: 6}


def rank(key: Any) -> Any:
    """The documented order and equality of keys."""
    if type(key) is float:
        return (3, (1, 0.0) if math.isnan(key) else (0, key + 0.0))
    if type(key) is tuple:
        return (6, tuple(map(rank, key)))
    return (RANKS[type(key)], 0 if key is None else key)


def reference(maps: list[Pairs], partitions: int) -> list[Pairs]:
    """Keys in order with the values of each, by partition."""
    groups: list[dict[Any, tuple[Any, list[Any]]]] = [{} for _ in range(partitions)]
    for pairs in maps:
        for key, value in pairs:
            groups[partition_of(key, partitions)].setdefault(rank(key), (key, []))[1].append(value)
    return [[group[order] for order in sorted(group)] for group in groups]


@st.composite
def runs(draw: st.DrawFn) -> tuple[list[Pairs], dict[str, int]]:
    """Map tasks' pairs, each task with keys and values of its own kinds, and sizes that force every path."""
    maps = draw(
        st.lists(
            st.tuples(KEYS, VALUES).flatmap(lambda kinds: st.lists(st.tuples(*kinds), max_size=25)),
            max_size=4,
        )
    )
    sizes = {
        "partitions": draw(st.integers(1, 3)),
        "chunk_rows": draw(st.integers(1, 9)),
        "spill_rows": draw(st.sampled_from([1, 3, 10, 1000])),
        "spill_bytes": draw(st.sampled_from([1, 100, 1 << 20])),
        "group_bytes": draw(st.sampled_from([1, 200, 1 << 20])),
        "batch_values": draw(st.sampled_from([1, 2, 5, 1 << 16])),
        "lazy_weight": draw(st.sampled_from([0, 200, 1 << 20])),
    }
    return maps, sizes


class Shuffle:
    """Some map tasks' buffers and the groups of each partition, in a directory of their own."""

    def __init__(
        self, directory: str, maps: list[Pairs], sizes: dict[str, int], combiner: Combiner | None
    ) -> None:
        self.sizes = sizes
        segment.BATCH_VALUES = sizes["batch_values"]
        self.directory = Path(directory)
        self.files = [self._write(f"map-{index}", pairs, combiner) for index, pairs in enumerate(maps)]

    def _write(self, name: str, pairs: Pairs, combiner: Combiner | None) -> Any:
        work = self.directory / name
        work.mkdir()
        sizes = self.sizes
        buffer = MapBuffer(
            partitions=sizes["partitions"],
            work_dir=work,
            spill_rows=sizes["spill_rows"],
            spill_bytes=sizes["spill_bytes"],
            combiner=combiner,
        )
        for start in range(0, len(pairs), sizes["chunk_rows"]):
            chunk = pairs[start : start + sizes["chunk_rows"]]
            buffer.add([key for key, _ in chunk], [value for _, value in chunk])
        file = buffer.finish(work / "output")
        assert [path.name for path in work.iterdir()] == ["output"]
        segments = [find_segment(work / "output", n) for n in range(len(file.partition_bytes))]
        starts = accumulate(file.partition_bytes, initial=0)
        placed = zip(starts, file.partition_bytes, strict=False)
        assert segments == [SegmentRef(work / "output", *each) for each in placed]
        return file

    def grouped(self, partition: int) -> Grouped:
        sources = [file.segment(partition) for file in self.files if file.partition_bytes[partition]]
        return Grouped(
            sources,
            group_bytes=self.sizes["group_bytes"],
            work_dir=self.directory,
            lazy_weight=self.sizes["lazy_weight"],
        )

    def pairs(self, partition: int) -> Pairs:
        return [
            (key, list(values))
            for batch in self.grouped(partition).batches()
            for key, values in zip(batch.keys, batch.values, strict=True)
        ]

    def results(self, partition: int, aggregation: Aggregation) -> Pairs:
        return [
            pair
            for table in self.grouped(partition).aggregate(aggregation)
            for pair in zip(*to_pairs(table), strict=True)
        ]


def same(left: Any, right: Any) -> bool:
    """Equal in type and value, NaN to NaN, 0.0 to -0.0."""
    if isinstance(left, list | tuple) and type(left) is type(right):
        return len(left) == len(right) and all(map(same, left, right))
    if type(left) is float and type(right) is float and math.isnan(left):
        return math.isnan(right)
    return type(left) is type(right) and left == right


@pytest.fixture(autouse=True)
def restore_batch_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """`Shuffle` makes batches tiny; give the module its own bound back afterwards."""
    monkeypatch.setattr(segment, "BATCH_VALUES", segment.BATCH_VALUES)


SETTINGS = settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@SETTINGS
@given(runs())
def test_groups_are_those_of_a_dict(run: tuple[list[Pairs], dict[str, int]]) -> None:
    maps, sizes = run
    expected = reference(maps, sizes["partitions"])
    with tempfile.TemporaryDirectory() as directory:
        shuffle = Shuffle(directory, maps, sizes, None)
        for partition, groups in enumerate(expected):
            assert same(shuffle.pairs(partition), groups)


@SETTINGS
@given(runs(), st.sampled_from(["count", "collect", "count_distinct"]), st.booleans())
def test_aggregates_of_any_value(run: tuple[list[Pairs], dict[str, int]], name: str, combine: bool) -> None:
    maps, sizes = run
    check_aggregate(maps, sizes, getattr(mr.agg, name), combine)


@SETTINGS
@given(runs(), st.sampled_from([(mr.agg.first, 0), (mr.agg.last, -1)]), st.booleans())
def test_first_and_last_are_those_of_a_list(run: Any, end: tuple[Aggregation, int], combine: bool) -> None:
    maps, sizes = run
    aggregation, place = end
    wanted = [
        [(key, given[place]) for key, given in groups] for groups in reference(maps, sizes["partitions"])
    ]
    check_results(maps, sizes, aggregation, wanted, combine)


ZONES = st.sampled_from([UTC, timezone(timedelta(hours=1)), ZoneInfo("Europe/Berlin")])
DECIMALS = st.decimals(-2, 2, places=1) | st.sampled_from(
    list(map(Decimal, ["1", "1.00", "-0", "0E+3", "1E1"]))
)
MOMENTS = st.builds(
    datetime, st.just(2026), st.just(10), st.integers(24, 26), st.integers(0, 3), tzinfo=ZONES
)
TIMES = st.builds(time, st.integers(0, 1), fold=st.integers(0, 1))
COMPLEX = st.builds(complex, st.sampled_from([0.0, -0.0, 1.0]), st.sampled_from([0.0, -0.0]))


#: Values that have an order, by kind, and what orders them in Python.
NUMBERS = INTEGERS | FLOATS | st.booleans()
ORDERED: list[tuple[st.SearchStrategy[Any], Callable[[Any], Any]]] = [
    (st.integers(-9, 9), lambda value: value),
    (INTEGERS, lambda value: value),
    (TEXT, lambda value: value),
    (st.binary(max_size=2), lambda value: value),
    (st.booleans(), lambda value: value),
    (DECIMALS, lambda value: value),
    (MOMENTS, lambda value: value),
    (FLOATS, lambda value: (math.isnan(value), value)),
    (NUMBERS, lambda value: (value != value, value)),
    (st.tuples(st.integers(0, 3), TEXT), lambda value: value),
    (st.tuples(FLOATS, NUMBERS), lambda value: [(number != number, number) for number in value]),
]


@SETTINGS
@given(runs(), st.sampled_from(ORDERED), st.integers(1, 4), st.booleans(), st.data())
def test_top_k_is_a_sorted_slice(run: Any, kind: Any, k: int, combine: bool, data: st.DataObject) -> None:
    maps, sizes = run
    values, order = kind
    ordered = [[(key, data.draw(values)) for key, _ in pairs] for pairs in maps]
    wanted = [
        [(key, sorted(given, key=order, reverse=True)[:k]) for key, given in groups]
        for groups in reference(ordered, sizes["partitions"])
    ]
    check_results(ordered, sizes, mr.agg.top_k(k), wanted, combine)


FINITE = st.floats(-1e300, 1e300) | st.floats(-2, 2)
SHARES = st.lists(st.floats(0, 1) | st.sampled_from([0, 1, 0.5, 0.25]), min_size=1, max_size=3)


@SETTINGS
@given(runs(), SHARES, st.booleans(), st.booleans(), st.data())
def test_quantiles_are_those_of_numpy(
    run: Any, shares: list[float], with_nan: bool, combine: bool, data: st.DataObject
) -> None:
    maps, sizes = run
    kinds = st.sampled_from([FINITE, INTEGERS, st.booleans(), FINITE | INTEGERS | st.booleans()])
    kind = FINITE | st.just(math.nan) if with_nan else data.draw(kinds)
    numbers = [[(key, data.draw(kind)) for key, _ in pairs] for pairs in maps]
    wanted = [
        [(key, np.quantile(np.array(given, np.float64), shares).tolist()) for key, given in groups]
        for groups in reference(numbers, sizes["partitions"])
    ]
    check_results(numbers, sizes, mr.agg.quantiles(*shares), wanted, combine)


#: Parts for `each`: the values they take, and what each is in Python.
PARTS: list[tuple[Aggregation, st.SearchStrategy[Any], Callable[[list[Any]], Any]]] = [
    (mr.agg.sum, INTEGERS, sum),
    (mr.agg.max, st.integers(-9, 9) | st.booleans(), max),
    (mr.agg.min, TEXT, min),
    (mr.agg.count, ATOMS, len),
    (mr.agg.mean, st.integers(-9, 9), lambda values: sum(values) / len(values)),
    (mr.agg.first, ATOMS, lambda values: values[0]),
    (mr.agg.last, FLOATS, lambda values: values[-1]),
    (mr.agg.collect, ATOMS, list),
    (mr.agg.count_distinct, TEXT, lambda values: len(set(values))),
    (mr.agg.top_k(2), st.integers(-9, 9), lambda values: sorted(values, reverse=True)[:2]),
    (mr.agg.quantiles(0.5), st.integers(-9, 9), lambda values: [float(statistics.median(values))]),
    (
        mr.agg.each(mr.agg.sum, mr.agg.top_k(1)),
        st.tuples(st.integers(-9, 9), TEXT),
        lambda pairs: (sum(number for number, _ in pairs), [max(text for _, text in pairs)]),
    ),
]


@SETTINGS
@given(runs(), st.lists(st.sampled_from(PARTS), min_size=1, max_size=3), st.booleans(), st.data())
def test_each_is_its_parts(run: Any, parts: Any, combine: bool, data: st.DataObject) -> None:
    maps, sizes = run
    value = st.tuples(*(values for _, values, _ in parts))
    tuples = [[(key, data.draw(value)) for key, _ in pairs] for pairs in maps]
    wanted = [
        [
            (key, tuple(part([item[at] for item in given]) for at, (_, _, part) in enumerate(parts)))
            for key, given in groups
        ]
        for groups in reference(tuples, sizes["partitions"])
    ]
    check_results(tuples, sizes, mr.agg.each(*(aggregation for aggregation, _, _ in parts)), wanted, combine)


@SETTINGS
@given(runs(), st.sampled_from([DECIMALS, MOMENTS, TIMES, COMPLEX]), st.booleans(), st.booleans(), st.data())
def test_distinct_values_are_those_of_a_set(
    run: Any, kind: Any, nested: bool, combine: bool, data: st.DataObject
) -> None:
    maps, sizes = run
    kind = st.tuples(kind) if nested else kind
    values = [[(key, data.draw(kind)) for key, _ in pairs] for pairs in maps]
    with tempfile.TemporaryDirectory() as directory:
        shuffle = Shuffle(directory, values, sizes, mr.agg.count_distinct if combine else None)
        for partition, groups in enumerate(reference(values, sizes["partitions"])):
            found = shuffle.results(partition, mr.agg.count_distinct)
            assert [count for _, count in found] == [len(set(given)) for _, given in groups]


@SETTINGS
@given(
    runs(),
    st.lists(
        st.sampled_from([INTEGERS, st.booleans(), INTEGERS | st.booleans(), st.integers(-9, 9)]), min_size=4
    ),
    st.sampled_from(["sum", "mean", "min", "max"]),
    st.booleans(),
    st.data(),
)
def test_aggregates_of_numbers(run: Any, kinds: Any, name: str, combine: bool, data: st.DataObject) -> None:
    maps, sizes = run
    numbers = [[(key, data.draw(kind)) for key, _ in pairs] for pairs, kind in zip(maps, kinds, strict=False)]
    check_aggregate(numbers, sizes, getattr(mr.agg, name), combine)


@SETTINGS
@given(runs(), st.sampled_from(["sum", "mean", "min", "max"]), st.booleans(), st.data())
def test_aggregates_of_floats(run: Any, name: str, combine: bool, data: st.DataObject) -> None:
    """In memory and uncombined: exactly the plain function. Else sums are taken in parts, always the same."""
    maps, sizes = run
    kinds = st.sampled_from([st.floats(-1e6, 1e6), st.floats(-1e6, 1e6) | st.integers(-99, 99)])
    numbers = [
        [(key, data.draw(kind)) for key, _ in pairs]
        for pairs, kind in ((pairs, data.draw(kinds)) for pairs in maps)
    ]
    aggregation = getattr(mr.agg, name)
    whole = not combine and sizes["group_bytes"] == 1 << 20
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        shuffles = [
            Shuffle(path, numbers, sizes, aggregation if combine else None) for path in (first, second)
        ]
        for partition, groups in enumerate(reference(numbers, sizes["partitions"])):
            found, again = (shuffle.results(partition, aggregation) for shuffle in shuffles)
            assert repr(found) == repr(again)
            wanted = [(key, aggregation.reduce_values(values)) for key, values in groups]
            if whole or name in ("min", "max"):
                assert same(found, wanted)
            assert same([key for key, _ in found], [key for key, _ in wanted])
            for (_, left), (_, right) in zip(found, wanted, strict=True):
                assert type(left) is type(right)
                assert math.isclose(left, right, rel_tol=1e-9, abs_tol=1e-6)


def check_aggregate(
    maps: list[Pairs], sizes: dict[str, int], aggregation: Aggregation, combine: bool
) -> None:
    wanted = [
        [(key, aggregation.reduce_values(values)) for key, values in groups]
        for groups in reference(maps, sizes["partitions"])
    ]
    check_results(maps, sizes, aggregation, wanted, combine)


def check_results(
    maps: list[Pairs], sizes: dict[str, int], aggregation: Aggregation, wanted: list[Pairs], combine: bool
) -> None:
    """The engine's results in each partition, and those of the plain function."""
    for groups, expected in zip(reference(maps, sizes["partitions"]), wanted, strict=True):
        assert same([(key, aggregation.reduce_values(values)) for key, values in groups], expected)
    with tempfile.TemporaryDirectory() as directory:
        shuffle = Shuffle(directory, maps, sizes, aggregation if combine else None)
        for partition, expected in enumerate(wanted):
            assert same(shuffle.results(partition, aggregation), expected)


@SETTINGS
@given(runs(), st.booleans())
def test_python_combiner(run: tuple[list[Pairs], dict[str, int]], stray: bool) -> None:
    """A combiner that joins lists; a stray one also moves some of its keys to others of its choice."""
    maps, sizes = run

    def call(keys: list[Any], values: list[list[Any]]) -> tuple[list[Any], list[Any]]:
        moved = [("moved",) if stray and type(key) is int and key % 2 else key for key in keys]
        return moved, [[item for value in items for item in value] for items in values]

    lists = [[(key, [value]) for key, value in pairs] for pairs in maps]
    with tempfile.TemporaryDirectory() as directory:
        shuffle = Shuffle(directory, lists, sizes, PythonCombiner(call))
        found = [shuffle.pairs(partition) for partition in range(sizes["partitions"])]
    if not stray:
        flat = [[(key, [v for value in values for v in value]) for key, values in pairs] for pairs in found]
        assert same(flat, reference(maps, sizes["partitions"]))
        return
    for partition, pairs in enumerate(found):
        orders = [rank(key) for key, _ in pairs]
        assert orders == sorted(orders)
        assert len(set(orders)) == len(orders)
        assert all(partition_of(key, sizes["partitions"]) == partition for key, _ in pairs)
    assert sum(len(v) for pairs in found for _, values in pairs for v in values) == sum(map(len, maps))
