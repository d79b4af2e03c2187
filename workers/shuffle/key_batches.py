"""Cutting sorted keys into batches that are small enough to become Python objects."""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from mr.workers.shuffle.sort import Sorted, cut

#: Keys of one batch at most.
BATCH_KEYS: Final = 4096
#: Weight of one batch: Arrow bytes plus what a Python object costs for each value.
BATCH_WEIGHT: Final = 8 << 20
OBJECT_WEIGHT: Final = 64

Weights = np.ndarray[Any, Any]


def key_weights(view: Sorted) -> Weights:
    """What each key's values cost as Python objects, roughly, in bytes."""
    if not len(view.keys):
        return np.zeros(0, np.int64)
    weights: Weights = np.add.reduceat(view.sizes, view.offsets[:-1])
    weights += np.diff(view.offsets) * OBJECT_WEIGHT
    return weights


def cut_keys(weights: Weights) -> Iterator[tuple[int, int]]:
    """The first and the last key (exclusive) of each batch; a key that is too heavy for any stands alone."""
    yield from cut(weights, BATCH_WEIGHT, BATCH_KEYS)
