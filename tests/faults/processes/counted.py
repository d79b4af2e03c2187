"""A word count that counts what it is given, so that a record counted twice would show. A job file."""

import sys

import mr


def _hold():
    """Wait at a point of a test's worker. The embedded run has none."""
    child = sys.modules.get("tests.faults.processes.child")
    if child is not None:
        child.hold("mid-work")


def map_fn(offset, line):
    """Give (word, 1) for each word."""
    if offset:  # a record before this one is done
        _hold()
    mr.counter("lines").add(1)
    for word in line.split():
        yield word, 1


def reduce_fn(word, counts):
    """Give (word, total)."""
    _hold()
    total = sum(counts)
    mr.counter("words").add(total)
    yield word, total
