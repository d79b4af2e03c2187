"""A large shuffle: each map spills several times, each reduce merges more than it may hold. A job file."""

import mr


def map_fn(offset, line):
    """Give (a word made of the line, the line five times) several times."""
    mr.counter("records").add(1)
    word = line.split()[0]
    for copy in range(6):
        yield f"{word}-{copy}", (line + " ") * 5


def reduce_fn(word, lines):
    """Give (word, "number of lines<TAB>a checksum that depends on their order")."""
    count, checksum = 0, 0
    for line in lines:
        count += 1
        checksum = (checksum * 31 + sum(line.encode())) % 1_000_003
    yield word, f"{count}\t{checksum}"
