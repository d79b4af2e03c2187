"""One map takes long in its first attempt, so that it gets a backup. A job file."""

import os
import time

import mr


def map_init():
    """Take as long as the job's `pause` says."""
    time.sleep(float(mr.param("pause", "0")))


def map_fn(offset, line):
    """Give (word, number); the first record of one file waits when nobody has waited there before."""
    mark = mr.param("mark", "")
    if mark and offset == 0 and mr.input_path().endswith("3.txt"):
        try:
            os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            mr.counter("records").add(0)
        else:
            time.sleep(20)
    word, number, _ = line.split()
    mr.counter("records").add(1)
    yield word, float(number)


def reduce_init():
    """As `map_init`."""
    time.sleep(float(mr.param("pause", "0")))


reduce_fn = mr.agg.sum
