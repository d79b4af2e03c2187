"""Word count: how often each word occurs in the input."""


def map_fn(offset, line):
    """Give (word, 1) for each word of one line."""
    for word in line.split():
        yield word, 1


def reduce_fn(word, counts):
    """Give (word, total)."""
    yield word, sum(counts)


#: Adding up in parts and then adding the parts is the same sum, so the reducer serves as the combiner.
combine_fn = reduce_fn
