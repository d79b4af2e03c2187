"""Pairs out of what user functions return."""

from mr.workers.task import emitter
from mr.workers.task.emitter import all_pairs, next_rows


def test_all_pairs() -> None:
    assert all_pairs([("a", 1), ["b", 2]])
    assert not all_pairs([("a", 1), "ab"])
    assert not all_pairs([("a", 1), ("a", 1, 2)])
    assert not all_pairs([("a", 1), None])
    assert not all_pairs([{"a": 1, "b": 2}])


def test_batches_shrink_with_large_values_and_grow_with_small_ones() -> None:
    small, large = ["x"] * 256, ["x" * 1_000_000] * 256
    assert next_rows(256, small, small, 4096) == 1024
    assert next_rows(4096, small, small, 4096) == 4096
    assert next_rows(256, large, large, 4096) == emitter.BATCH_BYTES // 2_000_032
    assert next_rows(1, ["k"], [b"x" * (1 << 24)], 4096) == 1
