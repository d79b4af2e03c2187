"""Inverted index: for each word, the files it occurs in."""

import mr


def map_fn(offset, line):
    """Give (word, file) once for each distinct word of one line."""
    path = mr.input_path()
    for word in set(line.split()):
        yield word, path


def combine_fn(word, paths):
    """Give each file of one word once, so that a frequent word costs little to move."""
    for path in sorted(set(paths)):
        yield word, path


def reduce_fn(word, paths):
    """Give (word, its distinct files in order, separated by blanks)."""
    yield word, " ".join(sorted(set(paths)))
