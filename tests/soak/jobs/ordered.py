"""Sums of floats and texts in input order: another order of values gives other bytes. A job file."""

import time

import mr


def map_init():
    """Take as long as the job's `pause` says, so that faults meet the task."""
    time.sleep(float(mr.param("pause", "0")))


def map_fn(offset, line):
    """Read `word number text` and give (word, (number, text))."""
    word, number, text = line.split()
    mr.counter("records").add(1)
    yield word, (float(number), text)


def reduce_init():
    """As `map_init`."""
    time.sleep(float(mr.param("pause", "0")))


def reduce_fn(word, values):
    """Give (word, [sum, first letters of all texts])."""
    total, letters = 0.0, []
    for number, text in values:
        total += number
        letters.append(text[0])
    mr.counter("values").add(len(letters))
    yield word, [total, "".join(letters)]
