"""The engine against a plain reference: random records, splits, reducers and spills, the same pairs."""

import itertools
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from mr.workers.shuffle.key_codec import encode_key
from tests.support.attempts import Workbench
from tests.support.table import MAP, RECORDS, SEEN

FLAT = """
def flat(parts):
    return [value for part in parts for value in (part["combined"] if type(part) is dict else [part])]
def combine_fn(key, values):
    yield key, {"combined": flat(values)}
def reduce_fn(key, values):
    see(key, flat(values))
"""
REDUCERS = {"plain": "def reduce_fn(key, values):\n    see(key, list(values))\n", "combined": FLAT}

integers = st.integers() | st.integers(-3, 3)
scalars = st.one_of(
    st.none(), st.booleans(), integers, st.floats(allow_nan=False), st.text(max_size=3), st.binary(max_size=3)
)
keys = st.one_of(
    scalars,
    st.tuples(scalars),
    st.tuples(scalars, scalars),
    st.tuples(st.text(max_size=2), st.tuples(integers)),
)
values = st.one_of(scalars, st.lists(scalars, max_size=2), st.tuples(scalars), st.sets(integers, max_size=2))
uniform = st.sampled_from(
    [st.text(max_size=2), st.binary(max_size=2), st.integers(-5, 5), st.floats(-2, 2), st.booleans()]
)
records = st.one_of(
    st.lists(st.tuples(keys, values), max_size=30),
    uniform.flatmap(lambda kind: st.lists(st.tuples(kind, st.integers(-9, 9)), max_size=60)),
)
bounds = {
    "split_bytes": st.sampled_from([1, 7, 40, 1000]),
    "reduces": st.integers(1, 4),
    "spill_rows": st.sampled_from([1, 3, 1000]),
    "group_bytes": st.sampled_from([1, 200, 1 << 20]),
    "chunk_rows": st.sampled_from([1, 5, 4096]),
}


def reference(table: list[tuple[Any, Any]]) -> list[tuple[bytes, list[Any]]]:
    """Each key's values in input order, keys sorted: what a job is."""
    groups: dict[bytes, list[Any]] = {}
    for key, value in table:
        groups.setdefault(encode_key(key), []).append(value)
    return sorted(groups.items())


def exact(item: Any) -> Any:
    """Tell apart what == does not: 1 from True, 0.0 from -0.0, a tuple from a list."""
    if isinstance(item, list | tuple):
        return (type(item), [exact(member) for member in item])
    if isinstance(item, set):
        return (set, sorted(map(repr, item)))
    return (type(item), repr(item))


def run_job(
    source: str,
    table: list[tuple[Any, Any]],
    split_bytes: int,
    reduces: int,
    output_format: str = "text",
    **bound: int,
) -> list[list[str]]:
    """Run a job over the table in this process; returns the lines of each part."""
    RECORDS[:] = table
    SEEN.clear()
    source = MAP + source
    lines = "".join(f"{number}\n" for number in range(len(table)))
    with tempfile.TemporaryDirectory() as directory:
        bench = Workbench(
            Path(directory), source, settings=bound, reduces=reduces, output_format=output_format
        )
        bench.run([bench.write_input("in.txt", lines)], split_bytes)
        return [part.decode("utf-8", "surrogateescape").splitlines() for part in bench.parts().values()]


@settings(max_examples=60, deadline=None)
@given(table=records, kind=st.sampled_from(sorted(REDUCERS)), bound=st.fixed_dictionaries(bounds))
def test_reducers_see_what_a_dict_would_hold(
    table: list[tuple[Any, Any]], kind: str, bound: dict[str, int]
) -> None:
    run_job(REDUCERS[kind], table, **bound)
    expected = reference(table)
    assert sorted(SEEN) == [key for key, _ in expected]
    for key, given_values in expected:
        assert exact(SEEN[key]) == exact(given_values)


words = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S")), max_size=2)
numbers = st.lists(st.tuples(words, st.integers(-9, 9)), max_size=60)
AGGREGATES: dict[str, Callable[[list[int]], Any]] = {
    "sum": sum,
    "count": len,
    "min": min,
    "max": max,
    "mean": lambda values: sum(values) / len(values),
    "collect": list,
    "count_distinct": lambda values: len(set(values)),
    "quantiles(0, 0.5)": lambda values: [float(min(values)), statistics.median(map(float, values))],
    "first": lambda values: values[0],
    "last": lambda values: values[-1],
    "top_k(2)": lambda values: sorted(values, reverse=True)[:2],
}


@settings(max_examples=40, deadline=None)
@given(table=numbers, name=st.sampled_from(sorted(AGGREGATES)), bound=st.fixed_dictionaries(bounds))
def test_built_ins_give_what_python_would(
    table: list[tuple[str, int]], name: str, bound: dict[str, int]
) -> None:
    parts = run_job(f"reduce_fn = mr.agg.{name}\n", table, **bound)
    expected = [f"{key[1:].decode()}\t{AGGREGATES[name](values)}" for key, values in reference(table)]
    assert sorted(itertools.chain.from_iterable(parts)) == sorted(expected)
    for part in parts:
        assert [line for line in expected if line in part] == part


#: A Python reducer that goes on with the partial results of a built-in `combine_fn`.
AFTER_BUILT_IN = {
    "sum": "sum(values)",
    "min": "min(values)",
    "max": "max(values)",
    "first": "next(values)",
    "last": "list(values)[-1]",
}


@settings(max_examples=25, deadline=None)
@given(table=numbers, kind=st.sampled_from(["text", "jsonl"]), bound=st.fixed_dictionaries(bounds))
def test_results_are_written_as_those_of_a_function(
    table: list[tuple[str, int]], kind: str, bound: dict[str, int]
) -> None:
    pairs = [(key, (value, -value)) for key, value in table]
    function = (
        "def reduce_fn(key, values):\n"
        "    given = list(values)\n"
        "    yield key, (sum(v for v, _ in given), sorted((w for _, w in given), reverse=True)[:2])\n"
    )
    built_in = "reduce_fn = mr.agg.each(mr.agg.sum, mr.agg.top_k(2))\n"
    written = [run_job(source, pairs, output_format=kind, **bound) for source in (built_in, function)]
    assert written[0] == written[1]


@settings(max_examples=25, deadline=None)
@given(table=numbers, name=st.sampled_from(sorted(AFTER_BUILT_IN)), bound=st.fixed_dictionaries(bounds))
def test_a_python_reducer_goes_on_with_partial_results(
    table: list[tuple[str, int]], name: str, bound: dict[str, int]
) -> None:
    reducer = f"def reduce_fn(key, values):\n    yield key, {AFTER_BUILT_IN[name]}\n"
    assert run_job(f"{reducer}combine_fn = mr.agg.{name}\n", table, **bound) == run_job(
        reducer, table, **bound
    )


@settings(max_examples=25, deadline=None)
@given(table=records, one=st.fixed_dictionaries(bounds), two=st.fixed_dictionaries(bounds))
def test_same_bytes_whatever_the_bounds(
    table: list[tuple[Any, Any]], one: dict[str, int], two: dict[str, int]
) -> None:
    two = {**two, "reduces": one["reduces"]}
    reducer = "def reduce_fn(key, values):\n    yield key, list(values)\n"
    assert run_job(reducer, table, **one) == run_job(reducer, table, **two)
