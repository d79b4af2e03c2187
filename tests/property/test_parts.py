"""A part's bytes depend on its pairs alone: not on chunks, nor on whether they came as objects or tables."""

import tempfile
from collections.abc import Iterator
from datetime import UTC
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mr.errors import UnencodableValue
from mr.formats.output import row_groups
from mr.protocol.formats import OUTPUT_FORMATS, OutputFormatName
from tests.support.writing import written

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
KINDS = [
    TEXT,
    st.binary(max_size=4),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.booleans(),
    st.none(),
    st.lists(st.integers(0, 9), max_size=3),
    st.lists(TEXT, max_size=2),
    st.tuples(st.integers(0, 9), TEXT).map(lambda pair: {"a": pair[0], "b": pair[1]}),
]
#: Objects of one kind whose Arrow types differ: the column's type is what holds them all.
DECIMALS = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**12), max_value=10**12, places=3)
WIDENING = [
    DECIMALS | st.integers(-99, 99).map(Decimal) | st.just(Decimal("1e3")),
    st.dictionaries(st.sampled_from("abc"), st.none() | st.integers(0, 9), max_size=3),
    st.lists(st.dictionaries(st.sampled_from("ab"), DECIMALS | st.none(), max_size=2), max_size=2),
    st.lists(st.lists(st.none() | TEXT, max_size=2), max_size=2).map(tuple),
    st.sets(st.integers(0, 9), max_size=3) | st.lists(st.integers(0, 9), max_size=2),
    st.dates(),
    st.datetimes(timezones=st.none() | st.just(UTC)),
]
#: Objects that mostly have no common type.
MIXED = [
    st.sampled_from([1, 1.5, True, "a", b"a", 2**63, None, [1], [1.5], [None], [], {"a": 1}, {"a": "x"}, {}]),
    st.sampled_from([Decimal("NaN"), Decimal("1.5"), {"a": [1]}, {"a": [1.5]}, {1: 2}, ("k", 1), None]),
]


def column(size: int) -> st.SearchStrategy[list[Any]]:
    """Objects of one kind, some of them None, the first of them telling the type."""

    def rows(kind: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
        first = kind.filter(lambda item: item != [])
        rest = st.lists(kind | st.none(), min_size=size, max_size=size) | st.lists(
            kind, min_size=size, max_size=size
        )
        return st.tuples(first, rest).map(lambda drawn: [drawn[0], *drawn[1]][:size])

    return st.sampled_from(KINDS).flatmap(rows)


#: Formats whose columns have one type.
TYPED: list[OutputFormatName] = ["parquet", "avro"]

PAIRS = st.integers(0, 12).flatmap(lambda size: st.tuples(column(size), column(size)))


@pytest.fixture(scope="module")
def scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory)


@pytest.fixture(autouse=True, scope="module")
def small_row_groups() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_groups, "ROW_GROUP_ROWS", 5)
        patch.setattr(row_groups, "ROW_GROUP_BYTES", 70)
        yield


@pytest.mark.parametrize("output_format", [*OUTPUT_FORMATS])
@settings(max_examples=60, deadline=None)
@given(pairs=PAIRS, cuts=st.lists(st.integers(0, 12), max_size=4), data=st.data())
def test_chunks_and_tables_give_the_same_bytes(
    scratch: Path,
    output_format: OutputFormatName,
    pairs: tuple[list[Any], list[Any]],
    cuts: list[int],
    data: st.DataObject,
) -> None:
    keys, values = pairs
    if output_format == "jsonl":
        keys, values = ([b"x" if isinstance(item, bytes) else item for item in items] for items in pairs)
    edges = [0, *sorted(min(cut, len(keys)) for cut in cuts), len(keys)]
    table = pa.table({"key": pa.array(keys), "value": pa.array(values)})
    chunks: list[Any] = []
    for start, stop in pairwise(edges):
        in_arrow = data.draw(st.booleans())
        chunks.append(
            table.slice(start, stop - start) if in_arrow else (keys[start:stop], values[start:stop])
        )
    whole = written(scratch / "whole", output_format, (keys, values))
    assert written(scratch / "chunks", output_format, *chunks) == whole
    assert written(scratch / "table", output_format, table) == whole


@pytest.mark.parametrize("output_format", TYPED)
@settings(max_examples=100, deadline=None)
@given(
    values=st.sampled_from([*WIDENING, *MIXED]).flatmap(lambda kind: st.lists(kind | st.none(), max_size=12)),
    cuts=st.lists(st.integers(0, 12), max_size=4),
)
def test_a_typed_part_and_its_refusal_do_not_depend_on_chunks(
    scratch: Path, output_format: OutputFormatName, values: list[Any], cuts: list[int]
) -> None:
    keys = list(range(len(values)))
    edges = [0, *sorted(min(cut, len(keys)) for cut in cuts), len(keys)]
    chunks = [(keys[start:stop], values[start:stop]) for start, stop in pairwise(edges)]
    try:
        whole = written(scratch / "whole", output_format, (keys, values))
    except UnencodableValue:
        with pytest.raises(UnencodableValue):
            written(scratch / "chunks", output_format, *chunks)
    else:
        assert written(scratch / "chunks", output_format, *chunks) == whole


@pytest.mark.parametrize("output_format", TYPED)
@settings(max_examples=60, deadline=None)
@given(kind=st.sampled_from(WIDENING), data=st.data())
def test_what_a_typed_column_can_hold_it_holds(
    scratch: Path, output_format: OutputFormatName, kind: Any, data: st.DataObject
) -> None:
    """Within the first row group, which tells the type of the column."""
    values = data.draw(st.lists(kind, max_size=2))
    try:
        written(scratch / "part", output_format, *(([n], [value]) for n, value in enumerate(values)))
    except UnencodableValue:
        mixed = len({getattr(value, "tzinfo", None) for value in values}) > 1
        assert mixed or any(value == {} or {} in value for value in values if isinstance(value, dict | list))
        return
    for read, value in zip(read_back(scratch / "part", output_format)["value"], values, strict=True):
        assert _found(read, value) == value


def read_back(path: Path, output_format: OutputFormatName) -> dict[str, list[Any]]:
    """Read the columns of a typed part."""
    if output_format == "parquet":
        return pq.read_table(path).to_pydict()  # type: ignore[no-any-return]
    with path.open("rb") as file:
        rows: list[Any] = list(fastavro.reader(file))
    return {name: [row[name] for row in rows] for name in ("key", "value")}


def _found(read: Any, value: Any) -> Any:
    """Bring what was read to the shape of what was written: lists for sets and tuples, None for no member."""
    if isinstance(value, dict):
        return {name: _found(member, value[name]) for name, member in read.items() if name in value}
    if isinstance(value, list | tuple):
        return type(value)(_found(*pair) for pair in zip(read, value, strict=True))
    return set(read) if isinstance(value, set) else read


@pytest.mark.parametrize("output_format", TYPED)
@settings(max_examples=40, deadline=None)
@given(pairs=PAIRS)
def test_a_typed_part_gives_back_what_went_in(
    scratch: Path, output_format: OutputFormatName, pairs: tuple[list[Any], list[Any]]
) -> None:
    keys, values = pairs
    written(scratch / "part", output_format, (keys, values))
    assert repr(read_back(scratch / "part", output_format)) == repr({"key": keys, "value": values})
    if output_format == "avro":
        return
    metadata = pq.ParquetFile(scratch / "part").metadata
    assert all(metadata.row_group(index).num_rows <= 5 for index in range(metadata.num_row_groups))
