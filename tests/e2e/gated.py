"""A word count that can be held at a gate, so that tests act at a known moment. A job file.

Parameters: `gate`, a directory; `phase`, `map` or `reduce`. Each task attempt of that phase leaves a file
`begun-<pid>-<n>` in the gate's directory and goes on once the file `open` is there, or after `seconds`.
"""

import os
import select
import time
from pathlib import Path

import mr


def _hold(phase):
    if mr.param("phase", "") != phase:
        return
    gate = Path(mr.param("gate"))
    (gate / f"begun-{os.getpid()}-{time.monotonic_ns()}").touch()
    until = time.monotonic() + float(mr.param("seconds", "inf"))
    while not (gate / "open").exists() and time.monotonic() < until:
        select.select((), (), (), 0.02)  # libfaketime's sleep fails when a test has set the clock


def map_init():
    """Wait at the gate of the maps."""
    _hold("map")


def map_fn(offset, line):
    """Give (word, 1) for each word."""
    for word in line.split():
        yield word, 1


def reduce_init():
    """Wait at the gate of the reduces."""
    _hold("reduce")


def reduce_fn(word, counts):
    """Give (word, total)."""
    yield word, sum(counts)
