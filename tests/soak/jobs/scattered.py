"""Many small maps, whose outputs every reduce needs. A job file."""

import time

import mr


def map_init():
    """Take as long as the job's `pause` says."""
    time.sleep(float(mr.param("pause", "0")))


def map_fn(offset, line):
    """Give (word, offset) for each word of a line."""
    mr.counter("records").add(1)
    for word in line.split():
        yield word, offset


def reduce_fn(word, offsets):
    """Give (word, all offsets in input order)."""
    yield word, " ".join(map(str, offsets))
