"""Memory is bounded by bytes, never by rows: what is held of large records, counted to the byte.

What Python allocates is counted by `tracemalloc`, what Arrow does by a memory pool of its own.
"""

import contextlib
import gzip
import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mr.formats.input import text
from mr.formats.input.reader import read_batches, read_records
from mr.workers.shuffle.buffer import MapBuffer
from mr.workers.shuffle.group import Grouped
from mr.workers.shuffle.segment import read_segment
from mr.workers.shuffle.segment_index import SegmentRef
from mr.workers.task.sinks import PartSink
from tests.support.attempts import Workbench
from tests.support.reading import batch_records, chunks, read_options, records, whole

MIB = 1 << 20
READ: dict[str, Any] = {
    "read_bytes": MIB,
    "chunk_rows": 4096,
}


class Peak:
    """The most bytes that Python and Arrow held at a time."""

    python = 0
    arrow = 0


@contextlib.contextmanager
def counted() -> Iterator[Peak]:
    """Count the bytes allocated inside the block."""
    peak, before = Peak(), pa.default_memory_pool()
    pool = pa.proxy_memory_pool(before)
    pa.set_memory_pool(pool)
    tracemalloc.start()
    try:
        yield peak
        peak.python = tracemalloc.get_traced_memory()[1]
        peak.arrow = pool.max_memory() or 0
    finally:
        tracemalloc.stop()
        pa.set_memory_pool(before)


# --- one large record

LINE = 12 * MIB
#: Times its size that one record may take until the user's function has it.
RECORD_FACTOR = 2.2


def hexadecimal(size: int) -> bytes:
    """Text that does not compress well."""
    return os.urandom(size // 2).hex().encode()


@pytest.mark.parametrize(
    ("name", "frame"),
    [
        ("lf.txt", b"%b\n"),
        ("crlf.txt", b"%b\r\n"),
        ("end.txt", b"%b"),
        ("two.txt", b"%b\n%b\nshort\nlines\n"),
        ("after.txt", b"short\nlines\n%b\n%b"),
        ("line.jsonl", b'"%b"\n'),
        ("two.jsonl", b'"%b"\n"%b"\n'),
        ("file.bin", b"%b"),
        ("line.txt.gz", b"%b\n"),
    ],
)
@pytest.mark.parametrize("in_batches", [False, True])
def test_one_record_takes_little_more_than_twice_its_size(
    tmp_path: Path, name: str, frame: bytes, in_batches: bool
) -> None:
    data = frame % ((hexadecimal(LINE),) * frame.count(b"%b"))
    (tmp_path / name).write_bytes(gzip.compress(data, 1) if name.endswith("gz") else data)
    input_format: Any = {"jsonl": "jsonl", "bin": "binary"}.get(name.rpartition(".")[2], "text")
    expected = data.count(b"\n") + (not data.endswith(b"\n"))
    del data
    split = whole(tmp_path / name)
    rows = largest = 0
    with counted() as peak:
        if in_batches:
            for _, batch, _ in read_batches(split, read_options(input_format, **READ)):
                rows += batch.num_rows
                largest = max(largest, batch.nbytes)
                del batch
        else:
            for chunk in read_records(split, read_options(input_format, **READ)):
                rows += len(chunk.keys)
                largest = max(largest, *map(len, chunk.values))
                del chunk
    assert (rows, largest >= LINE) == (expected, True)
    copies = 3 if in_batches and name.endswith("jsonl") else RECORD_FACTOR  # an object, then a column of it
    assert peak.python + peak.arrow < copies * LINE + 3 * MIB


@pytest.mark.parametrize("lines", [[b"a\n", b"bcd\r\n", b"e"], [b"abcdefgh\r\n"], [b"\xef\xbb\xbfab\n"]])
def test_lines_too_long_for_offsets_of_32_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: list[bytes]
) -> None:
    (tmp_path / "in").write_bytes(b"".join(lines))
    for encoding in ("utf-8", "latin-1"):
        expected = records(whole(tmp_path / "in"), encoding=encoding, read_bytes=100)
        monkeypatch.setattr(text, "MAX_STRING_BYTES", 3)
        assert batch_records(whole(tmp_path / "in"), encoding=encoding, read_bytes=100) == expected
        options = {**READ, "encoding": encoding}
        read = [
            batch for _, batch, _ in read_batches(whole(tmp_path / "in"), read_options("text", **options))
        ]
        assert pa.large_string() in {batch.column("value").type for batch in read}
        monkeypatch.undo()


# --- many large records


def test_a_chunk_of_csv_ends_at_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("a,b\n" + f"1,{'x' * 9_998}\n" * 100)
    read = chunks(whole(tmp_path / "in.csv"), "csv", read_bytes=30_000, chunk_rows=4096)
    assert [len(chunk.keys) for chunk in read] == [3] * 33 + [1]


def wide_parquet(path: Path, widths: list[int], **options: Any) -> Any:
    """A split over a file of one row group, with a value of so many bytes in each row."""
    values = [b"%d" % width + os.urandom(width) for width in widths]
    pq.write_table(pa.table({"value": values}), path, row_group_size=len(widths), **options)
    return whole(path)


@pytest.mark.parametrize("in_batches", [False, True])
@pytest.mark.parametrize("repeated", [False, True])
def test_wide_rows_of_parquet_are_read_a_few_at_a_time(
    tmp_path: Path, in_batches: bool, repeated: bool
) -> None:
    """Also where a dictionary makes them small in the file."""
    path = tmp_path / "in.parquet"
    if repeated:
        values = [os.urandom(50_000) for _ in range(4)] * 100
        pq.write_table(pa.table({"value": values}), path, row_group_size=len(values))
        split = whole(path)
    else:
        split = wide_parquet(path, [50_000] * 400, use_dictionary=False, write_batch_size=4)
    most = 0
    with counted() as peak:
        if in_batches:
            for _, batch, _ in read_batches(split, read_options("parquet", **READ)):
                most = max(most, batch.nbytes)
                del batch
        else:
            for chunk in read_records(split, read_options("parquet", **READ)):
                most = max(most, sum(len(row["value"]) for row in chunk.values))
                del chunk
    assert most < 1.5 * MIB
    assert peak.python + peak.arrow < 8 * MIB  # the rows are 20 MB


def test_wide_rows_behind_narrow_ones_are_cut(tmp_path: Path) -> None:
    split = wide_parquet(tmp_path / "in.parquet", [1] * 5000 + [100_000] * 100)
    read = list(read_records(split, read_options("parquet", **READ)))
    assert max(sum(len(row["value"]) for row in chunk.values) for chunk in read) < 3 * MIB
    assert [key for chunk in read for key in chunk.keys] == list(range(5100))


@pytest.mark.parametrize("reduces", [0, 1])
@pytest.mark.parametrize("value", ["'x' * 500_000", "['x' * 50_000] * 10", "('k', {'a': b'x' * 500_000})"])
def test_pairs_are_taken_by_their_bytes_from_the_first_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str, reduces: int
) -> None:
    sizes: list[int] = []

    def measure(_: Any, keys: list[Any], values: list[Any]) -> None:
        sizes.append(len(values))

    monkeypatch.setattr(MapBuffer, "add", measure)
    monkeypatch.setattr(PartSink, "add", measure)
    source = f"""
def map_fn(key, line):
    for number in range(100):
        yield number, {value}
    for number in range(3000):
        yield number, 1
    for number in range(300):
        yield number, {value}
def reduce_fn(key, values):
    yield key, 1
"""
    bench = Workbench(tmp_path, source, reduces=reduces)
    bench.map(bench.plan([bench.write_input("in.txt", "one line\n")])[0])
    assert sum(sizes) == 3400
    assert max(sizes[:10]) < 20  # 4 MiB of such values
    assert sorted(sizes)[-2] < 1500 and sizes[-1] < 20
    assert len(sizes) > 30


def test_a_small_job_is_flushed_where_it_always_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches decide where a buffer is flushed, hence how partial sums of floats round."""
    sizes: list[int] = []
    monkeypatch.setattr(MapBuffer, "add", lambda _, keys, values: sizes.append(len(keys)))
    source = "def map_fn(k, line):\n    yield line, 1\ndef reduce_fn(k, vs):\n    yield k, 1\n"
    bench = Workbench(tmp_path, source)
    bench.map(bench.plan([bench.write_input("in.txt", "word\n" * 9472)])[0])
    assert sizes == [256, 1024, 2816, 4096, 1280]


# --- the shuffle


def runs(directory: Path, count: int, values: int, value_bytes: int) -> list[SegmentRef]:
    """Segments of random values, each of them a batch of its own, all with the same keys."""
    segments = []
    for number in range(count):
        buffer = MapBuffer(partitions=1, work_dir=directory, spill_rows=1000, spill_bytes=1 << 30)
        chunk = [np.random.default_rng(number * 100 + n).bytes(value_bytes) for n in range(values)]
        buffer.add(list(range(values)), chunk)
        segments.append(buffer.finish(directory / f"map-{number}").segment(0))
    return segments


def test_a_merge_of_many_runs_with_large_values_stays_in_its_budget(tmp_path: Path) -> None:
    budget = 16 * MIB
    segments = runs(tmp_path, 16, 3, 2 * MIB)
    work = tmp_path / "work"
    work.mkdir()
    seen = []
    with counted() as peak:
        for batch in Grouped(segments, group_bytes=budget, work_dir=work).batches():
            for key, values in zip(batch.keys, batch.values, strict=True):
                seen.append((key, sum(1 for _ in values)))
            del batch
    assert seen == [(0, 16), (1, 16), (2, 16)]
    # 16 runs with a value each at a time were over 64 MiB, payloads included
    assert peak.python + peak.arrow < 1.5 * budget
    assert list(work.iterdir()) == []


def test_a_run_does_not_hold_the_payload_beside_the_rows(tmp_path: Path) -> None:
    (segment,) = runs(tmp_path, 1, 1, 4 * MIB)
    tracemalloc.start()
    try:
        batches = read_segment(segment)
        rows = next(batches)
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert rows.nbytes > 4 * MIB
    assert held < MIB
