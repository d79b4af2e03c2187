"""A part's bytes depend on its pairs alone: not on chunks, nor on whether they came as objects or tables."""

import tempfile
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mr.formats import parquet_part
from mr.formats.results import PartWriter
from mr.protocol.jobs import OutputFormat

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


def column(size: int) -> st.SearchStrategy[list[Any]]:
    """Objects of one kind, some of them None, the first of them telling the type."""

    def rows(kind: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
        first = kind.filter(lambda item: item != [])
        rest = st.lists(kind | st.none(), min_size=size, max_size=size) | st.lists(
            kind, min_size=size, max_size=size
        )
        return st.tuples(first, rest).map(lambda drawn: [drawn[0], *drawn[1]][:size])

    return st.sampled_from(KINDS).flatmap(rows)


PAIRS = st.integers(0, 12).flatmap(lambda size: st.tuples(column(size), column(size)))


@pytest.fixture(scope="module")
def scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory)


@pytest.fixture(autouse=True, scope="module")
def small_row_groups() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet_part, "ROW_GROUP_ROWS", 5)
        patch.setattr(parquet_part, "ROW_GROUP_BYTES", 70)
        yield


def part(path: Path, output_format: OutputFormat, chunks: Sequence[Any]) -> bytes:
    writer = PartWriter(str(path), output_format)
    try:
        for chunk in chunks:
            if isinstance(chunk, pa.Table):
                writer.write_table(chunk)
            else:
                writer.write_pairs(*chunk)
        writer.close()
    except BaseException:
        writer.abort()
        raise
    return path.read_bytes()


@pytest.mark.parametrize("output_format", ["text", "jsonl", "csv", "parquet"])
@settings(max_examples=60, deadline=None)
@given(pairs=PAIRS, cuts=st.lists(st.integers(0, 12), max_size=4), data=st.data())
def test_chunks_and_tables_give_the_same_bytes(
    scratch: Path,
    output_format: OutputFormat,
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
    whole = part(scratch / "whole", output_format, [(keys, values)])
    assert part(scratch / "chunks", output_format, chunks) == whole
    assert part(scratch / "table", output_format, [table]) == whole


@settings(max_examples=40, deadline=None)
@given(pairs=PAIRS)
def test_parquet_gives_back_what_went_in(scratch: Path, pairs: tuple[list[Any], list[Any]]) -> None:
    keys, values = pairs
    part(scratch / "part", "parquet", [(keys, values)])
    read = pq.read_table(scratch / "part").to_pydict()
    assert repr(read) == repr({"key": keys, "value": values})
    metadata = pq.ParquetFile(scratch / "part").metadata
    assert all(metadata.row_group(index).num_rows <= 5 for index in range(metadata.num_row_groups))
