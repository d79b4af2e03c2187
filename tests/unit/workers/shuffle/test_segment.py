"""Segment files: what is written is read, and damage anywhere is seen before any byte is used."""

import io
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest

from mr.errors import SegmentCorrupt
from mr.workers.shuffle import segment
from mr.workers.shuffle.columns import key_column, key_list, value_column
from mr.workers.shuffle.combine import value_lists
from mr.workers.shuffle.rows import Rows
from mr.workers.shuffle.segment import SegmentWriter, pieces, read_segment, verify_segment
from mr.workers.shuffle.segment_index import SegmentRef
from mr.workers.shuffle.sort import sort_rows


class Bytes:
    """A segment held in memory."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    @property
    def bytes(self) -> int:
        return len(self.data)

    def open(self) -> BinaryIO:
        return io.BytesIO(self.data)


class Dripping(io.BytesIO):
    """A stream that gives one byte at a time, as a socket may."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(1 if size else 0)


def written(keys: list[Any], values: list[Any]) -> bytes:
    file = io.BytesIO()
    writer = SegmentWriter(file)
    view = sort_rows(Rows(key_column(keys), {"value": value_column(values)}))
    for piece in pieces(view, 0, len(view.keys)):
        writer.write(piece)
    assert writer.close() == len(file.getvalue())
    return file.getvalue()


def groups(data: bytes) -> list[tuple[Any, list[Any]]]:
    return [
        pair
        for rows in read_segment(Bytes(data))
        for pair in zip(key_list(rows.keys), value_lists(rows), strict=True)
    ]


def test_rows_come_back_sorted_in_record_order() -> None:
    data = written(["b", "a", "b", "c"], [1, 2, 3, 4])
    assert groups(data) == [("a", [2]), ("b", [1, 3]), ("c", [4])]
    verify_segment(io.BytesIO(data), len(data))
    verify_segment(Dripping(data))


def test_long_runs_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment, "BATCH_VALUES", 3)
    found = groups(written(["a"] * 5 + ["b"] * 2, list(range(7))))
    assert found == [("a", [0, 1, 2]), ("a", [3, 4]), ("b", [5]), ("b", [6])]


def test_batches_are_bounded_in_bytes() -> None:
    texts = [chr(97 + n) * 400_000 for n in range(8)]
    sizes = [len(rows) for rows in read_segment(Bytes(written(texts, [0] * 8)))]
    assert sizes == [2, 2, 2, 2]


def test_no_rows_take_no_bytes() -> None:
    assert written([], []) == b""
    assert list(read_segment(Bytes(b""))) == []


def test_every_damaged_byte_is_seen() -> None:
    data = written(["a", "b"], [1, 2])
    for place in range(len(data)):
        damaged = bytearray(data)
        damaged[place] ^= 0x41
        with pytest.raises(SegmentCorrupt):
            verify_segment(io.BytesIO(damaged), len(damaged))
        with pytest.raises(SegmentCorrupt):
            list(read_segment(Bytes(bytes(damaged))))


def test_a_truncated_or_extended_segment_is_seen() -> None:
    data = written(["a", "b"], [1, 2])
    for length in range(1, len(data)):
        with pytest.raises(SegmentCorrupt):
            verify_segment(io.BytesIO(data[:length]))
        with pytest.raises(SegmentCorrupt):
            list(read_segment(Bytes(data[:length])))
    with pytest.raises(SegmentCorrupt, match="after its end mark"):
        verify_segment(io.BytesIO(data + b"x"), len(data) + 1)
    with pytest.raises(SegmentCorrupt, match="after its end mark"):
        list(read_segment(Bytes(data + b"x")))


def test_frames_out_of_order_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment, "BATCH_VALUES", 1)
    data = written(["a", "b"], [1, 2])
    length = (len(data) - 24) // 2
    swapped = data[length : 2 * length] + data[:length] + data[2 * length :]
    with pytest.raises(SegmentCorrupt, match="frame 0"):
        verify_segment(io.BytesIO(swapped))


def test_a_missing_frame_is_seen_by_the_count() -> None:
    """Frame numbers are seeds, so only a forged file can get as far as the count."""
    two, one = written(["a", "b"], [1, 2]), written(["a"], [1])
    with pytest.raises(SegmentCorrupt, match="holds 2 values; its end mark says 1"):
        list(read_segment(Bytes(two[:-24] + one[-24:])))


def test_a_segment_inside_a_file(tmp_path: Path) -> None:
    data = written(["a"], [1])
    path = tmp_path / "file"
    path.write_bytes(b"before" + data + b"after")
    found = list(read_segment(SegmentRef(path, 6, len(data))))
    assert [key_list(rows.keys) for rows in found] == [["a"]]


def test_slices_of_rows_write_only_themselves() -> None:
    rows = Rows(
        key_column(["a", "b", "c"]), {"value": value_column(list(range(6)))}, np.array([0, 1, 3, 6], np.int64)
    )
    file = io.BytesIO()
    writer = SegmentWriter(file)
    writer.write(rows.slice(1, 2))
    writer.close()
    assert groups(file.getvalue()) == [("b", [1, 2])]
