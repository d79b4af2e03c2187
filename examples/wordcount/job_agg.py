"""Word count with a built-in reducer: `mr.agg.sum` adds up in Arrow and combines by itself."""

import mr


def map_fn(offset, line):
    """Give (word, 1) for each word of one line."""
    for word in line.split():
        yield word, 1


reduce_fn = mr.agg.sum
