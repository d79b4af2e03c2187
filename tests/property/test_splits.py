"""However a file is cut, every record comes exactly once, at the offset of an unsplit read."""

import io
import random
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import fastavro
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mr.formats.input.files import InputFile
from mr.formats.input.splits import plan_splits
from mr.protocol.jobs import FileRange, Split
from tests.support.reading import batch_records, records

PIECES = st.sampled_from(
    [
        b"\n",
        b"\r\n",
        b"\r",
        b"\n\n",
        b"a",
        b"bc ",
        "ä€😀".encode(),
        "\u2028".encode(),
        b"\xef\xbb\xbf",
        b"x" * 30,
    ]
)
CONTENTS = st.lists(PIECES, max_size=40).map(b"".join)


@pytest.fixture(scope="module")
def scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory)


def reference(data: bytes) -> list[tuple[int, str]]:
    """Cut lines at \\n, without our code."""
    expected = []
    position = 0
    for line in data.split(b"\n"):
        ended = position + len(line) < len(data)
        if ended or line:
            text = line.removesuffix(b"\r") if ended else line
            if position == 0:
                text = text.removeprefix(b"\xef\xbb\xbf")
            expected.append((position, text.decode()))
        position += len(line) + 1
    if data == b"\xef\xbb\xbf":
        expected = []
    return expected


def cut(path: Path, data: bytes, edges: list[int]) -> list[Split]:
    marks = sorted({0, len(data), *(edge % (len(data) + 1) for edge in edges)})
    return [
        Split(index, (FileRange(str(path), start, end - start, len(data)),))
        for index, (start, end) in enumerate(pairwise(marks))
    ]


@settings(max_examples=300, deadline=None)
@given(
    data=CONTENTS,
    edges=st.lists(st.integers(0, 1000), max_size=12),
    read_bytes=st.integers(1, 40),
    rows=st.integers(1, 5),
)
def test_lines_of_any_ranges(
    scratch: Path, data: bytes, edges: list[int], read_bytes: int, rows: int
) -> None:
    path = scratch / "lines"
    path.write_bytes(data)
    options = {"read_bytes": read_bytes, "chunk_rows": rows}
    splits = cut(path, data, edges)
    assert [pair for split in splits for pair in records(split, **options)] == reference(data)
    assert [pair for split in splits for pair in batch_records(split, **options)] == reference(data)


@settings(max_examples=100, deadline=None)
@given(
    data=st.binary(max_size=60),
    edges=st.lists(st.integers(0, 1000), max_size=6),
    read_bytes=st.integers(1, 20),
    errors=st.sampled_from(["replace", "surrogateescape"]),
    encoding=st.sampled_from(["utf-8", "latin-1", "shift_jis", "gb18030"]),
)
def test_lines_of_any_bytes(
    scratch: Path, data: bytes, edges: list[int], read_bytes: int, errors: str, encoding: str
) -> None:
    path = scratch / "bytes"
    path.write_bytes(data)
    options = {"read_bytes": read_bytes, "encoding": encoding, "encoding_errors": errors}
    keys = [key for split in cut(path, data, edges) for key, _ in records(split, **options)]
    ends = [index + 1 for index, byte in enumerate(data) if byte == 10]
    starts = [start for start in (0, *ends) if start < len(data)]
    assert keys == ([] if data == b"\xef\xbb\xbf" and encoding == "utf-8" else starts)


@settings(max_examples=100, deadline=None)
@given(
    values=st.lists(
        st.none() | st.integers(-5, 5) | st.text(max_size=8) | st.lists(st.booleans()), max_size=12
    ),
    blanks=st.sampled_from([b"", b"\n", b" \r\n"]),
    edges=st.lists(st.integers(0, 1000), max_size=8),
    read_bytes=st.integers(1, 40),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_json_lines_of_any_ranges(
    scratch: Path, values: list[object], blanks: bytes, edges: list[int], read_bytes: int, encoding: str
) -> None:
    text = b"".join(msgspec.json.encode(value) + b"\n" + blanks for value in values).decode()
    data = text.encode(encoding) if encoding == "utf-16" else text.encode()
    path = scratch / "json"
    path.write_bytes(data)
    read = [
        value
        for split in cut(path, data, edges)
        for _, value in records(split, "jsonl", read_bytes=read_bytes, encoding=encoding)
    ]
    assert read == values


@settings(max_examples=100, deadline=None)
@given(
    values=st.lists(st.none() | st.integers(-5, 5) | st.binary(max_size=30), max_size=30),
    codec=st.sampled_from(["null", "deflate"]),
    block_bytes=st.integers(1, 60),
    edges=st.lists(st.integers(0, 1000), max_size=12),
    read_bytes=st.integers(1, 200),
    rows=st.integers(1, 5),
)
def test_avro_blocks_of_any_ranges(
    scratch: Path,
    values: list[object],
    codec: str,
    block_bytes: int,
    edges: list[int],
    read_bytes: int,
    rows: int,
) -> None:
    """The sync marker may stand in the data, too: it is never searched for."""
    marker = b"0123456789abcdef"
    values = [marker if value == 0 else value for value in values]
    file = io.BytesIO()
    schema = ["null", "long", "bytes"]
    fastavro.writer(file, schema, values, codec=codec, sync_interval=block_bytes, sync_marker=marker)
    path = scratch / "avro"
    path.write_bytes(file.getvalue())
    options = {"read_bytes": read_bytes, "chunk_rows": rows}
    splits = cut(path, file.getvalue(), edges)
    read = [pair for split in splits for pair in records(split, "avro", **options)]
    assert read == list(enumerate(values))


@settings(max_examples=200, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 300), max_size=8),
    suffixes=st.lists(st.sampled_from(["", ".gz"]), min_size=8, max_size=8),
    split_bytes=st.integers(1, 500),
    maps=st.none() | st.integers(1, 12),
)
def test_plans_cover_every_byte_once_and_in_order(
    sizes: list[int], suffixes: list[str], split_bytes: int, maps: int | None
) -> None:
    files = [InputFile(f"{index}{suffixes[index]}", size) for index, size in enumerate(sizes)]
    splits = plan_splits(files, input_format="text", split_bytes=split_bytes, maps=maps)
    assert splits
    assert [split.index for split in splits] == list(range(len(splits)))
    assert maps is None or len(splits) <= maps
    pieces = [piece for split in splits for piece in split.ranges]
    assert list(dict.fromkeys(piece.path for piece in pieces)) == [file.path for file in files]
    for file in files:
        mine = [piece for piece in pieces if piece.path == file.path]
        if file.path.endswith(".gz"):
            assert [(piece.start, piece.length) for piece in mine] == [(0, -1)]
            continue
        assert sum(piece.length for piece in mine) == file.bytes
        assert all(one.start + one.length == two.start for one, two in pairwise(mine))
        assert maps is not None or all(piece.length <= max(split_bytes, 1) for piece in mine)


def test_many_random_cuts_of_one_large_text(scratch: Path) -> None:
    source = random.Random(5)
    data = b"".join(source.choice([b"word ", b"\n", b"\r\n", "größe ".encode()]) for _ in range(20_000))
    path = scratch / "large"
    path.write_bytes(data)
    for _ in range(5):
        edges = [source.randrange(len(data)) for _ in range(50)]
        read = [
            pair
            for split in cut(path, data, edges)
            for pair in records(split, read_bytes=1000, chunk_rows=100)
        ]
        assert read == reference(data)
