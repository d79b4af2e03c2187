"""The output without bad records is that of an input which never held them, however tasks are cut."""

import tempfile
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from mr.formats.output.directory import publish_part
from mr.protocol.bad_records import BadRecord
from mr.protocol.records import MapOutput, PartOutput, TaskResult
from tests.support.attempts import Workbench
from tests.support.searching import listed, search_map

SOURCE = """
def map_fn(key, line):
    word, number = line.split()
    yield word, float(number)
    if word == "x":
        raise ValueError(line)
    if word == "m":
        raise MemoryError
def reduce_fn(key, values):
    yield key, sum(values)
"""
COMBINE = "combine_fn = reduce_fn\n"

words = st.sampled_from("abc")
good = st.builds(lambda word, number: f"{word} {number}".encode(), words, st.integers(-9, 9))
bad = st.sampled_from([b"x 1", b"m 1", b"no number", b"\xff 1", b"a " + b"1" * 60])


@settings(max_examples=60, deadline=None)
@given(
    lines=st.lists(st.one_of(good.map(lambda line: (True, line)), bad.map(lambda line: (False, line)))),
    reduces=st.integers(0, 3),
    combine=st.booleans(),
    split_bytes=st.sampled_from([1, 20, 1000]),
    chunk_rows=st.sampled_from([1, 3, 4096]),
    read_bytes=st.sampled_from([4, 64, 1 << 20]),
)
def test_the_output_is_that_of_the_input_without_them(
    lines: list[tuple[bool, bytes]], reduces: int, combine: bool, split_bytes: int, **cuts: int
) -> None:
    source = SOURCE + (COMBINE if combine and reduces else "")
    if not reduces:
        source = source.partition("def reduce_fn")[0]
    every = b"".join(line + b"\n" for _, line in lines)
    left = b"".join(line + b"\n" for fine, line in lines if fine)
    parts, records = run(source, every, reduces, split_bytes, cuts)
    expected, none = run(source, left, reduces, 1 << 20, cuts)
    assert none == []
    assert (parts == expected) if reduces else (b"".join(parts) == b"".join(expected))
    offset, places = 0, []
    for fine, line in lines:
        places += [] if fine else [offset]
        offset += len(line) + 1
    assert [record.position for record in records] == places


def run(
    source: str, data: bytes, reduces: int, split_bytes: int, cuts: dict[str, Any]
) -> tuple[list[bytes], list[BadRecord]]:
    """Run a job in this process; returns its parts, and the bad records in order of the maps."""
    with tempfile.TemporaryDirectory() as name:
        bench = Workbench(
            Path(name), source, settings=cuts, reduces=reduces, skip_bad_records=1000, max_record_bytes=40
        )
        maps = []
        for split in bench.plan([bench.write_input("in", data)], split_bytes):
            result = search_map(bench, split)
            assert isinstance(result, TaskResult), result
            maps.append(result)
        outputs = [result.output for result in maps if isinstance(result.output, MapOutput)]
        results = [bench.reduce(partition, outputs) for partition in range(reduces)] or maps
        for result in results:
            if isinstance(result.output, PartOutput):
                publish_part(bench.spec.output, bench.spec.job_id, result.output, "text")
        records = [
            msgspec.json.decode(line, type=BadRecord)
            for path in listed(bench)
            for line in path.read_bytes().splitlines()
        ]
        return list(bench.parts().values()), records
