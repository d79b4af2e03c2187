"""Fails at one record by its own fault, however often it is tried. A job file."""

import mr


def map_fn(offset, line):
    """Give (word, number); no number of this input is negative, but one has no digits."""
    word, number, _ = line.split()
    if word == "word7" and mr.input_path().endswith("2.txt"):
        raise ValueError(f"{number} is one number too many")
    yield word, float(number)


reduce_fn = mr.agg.sum
