"""The index at the end of a segment file: found again, or refused."""

from pathlib import Path

import pytest

from mr.errors import SegmentCorrupt
from mr.workers.shuffle.segment_index import SegmentRef, find_segment, write_index

SIZES = [3, 0, 5, 1]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "segments"
    with path.open("wb") as file:
        file.write(b"aaaCCCCCd")
        write_index(file, SIZES)
    return path


def test_every_partition_is_found(path: Path) -> None:
    starts = [0, 3, 3, 8]
    found = [find_segment(path, partition) for partition in range(4)]
    assert found == [SegmentRef(path, *each) for each in zip(starts, SIZES, strict=True)]


@pytest.mark.parametrize("partition", [-1, 4, 1 << 40])
def test_a_partition_that_is_not_there_is_refused(path: Path, partition: int) -> None:
    with pytest.raises(SegmentCorrupt, match="no index of partition"):
        find_segment(path, partition)


def test_a_file_of_any_other_length_is_refused(path: Path) -> None:
    whole = path.read_bytes()
    for kept in range(len(whole)):
        path.write_bytes(whole[:kept])
        with pytest.raises(SegmentCorrupt):
            find_segment(path, 2)


def test_a_flipped_bit_of_the_index_finds_no_other_bytes(path: Path) -> None:
    whole, right = path.read_bytes(), find_segment(path, 1)
    for place in range(sum(SIZES), len(whole)):
        for bit in range(8):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << bit
            path.write_bytes(damaged)
            try:
                assert find_segment(path, 1) == right
            except SegmentCorrupt:
                continue
