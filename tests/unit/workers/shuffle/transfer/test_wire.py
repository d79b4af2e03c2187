"""The table of lengths at the head of an answer."""

import io

import pytest

from mr.errors import SegmentCorrupt
from mr.workers.shuffle.transfer.wire import length_table, read_length_table


def test_a_table_of_lengths_is_read_back_and_nothing_else_is() -> None:
    table = length_table([0, 7, 1 << 40])
    assert read_length_table(io.BytesIO(table + b"rest").read, 3) == (0, 7, 1 << 40)
    damaged = table[:20] + bytes([table[20] ^ 1]) + table[21:]
    for wrong in (b"", table[:-1], length_table([0, 7]), damaged, b"x" + table[1:]):
        with pytest.raises(SegmentCorrupt):
            read_length_table(io.BytesIO(wrong).read, 3)
