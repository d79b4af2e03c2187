"""The partitions of keys are fixed, and a job's own are checked."""

import math
from typing import Any

import pytest

from mr.errors import BadPartition
from mr.workers.shuffle.columns import key_column
from mr.workers.shuffle.partition import partition_of, partitions_of


@pytest.mark.parametrize(
    ("key", "partition"),
    [
        (None, 211),
        (True, 637),
        (1, 525),
        (-1, 394),
        (1 << 64, 750),
        (1.0, 118),
        (math.nan, 311),
        ("", 464),
        ("word", 850),
        (b"word", 133),
        (("a", 1), 286),
    ],
)
def test_partitions_never_change(key: Any, partition: int) -> None:
    assert partition_of(key, 1000) == partition


@pytest.mark.parametrize("wrong", [-1, 3, "1", None, True, 1.0])
def test_a_wrong_partition_names_the_call(wrong: Any) -> None:
    with pytest.raises(BadPartition, match=r"partition_fn\('a', 3\) returned .*return an int from 0 to 2"):
        partitions_of(key_column(["a"]), 3, lambda key, partitions: wrong)
