"""Maps and reduces that sleep, and leave a note of every attempt. A job file.

Each input file is one map (format binary), named by its number. Every map gives every reduce one value.
Parameters: `notes`, a directory; `map_seconds`, `reduce_seconds`; `slow` = `map-3` or `reduce-3`, whose
first attempt sleeps `slow_seconds`; `heavy` = the number of the reduce that gets ten times the input, and
takes ten times as long. A map whose file is larger than UNIT_BYTES takes longer in proportion.
"""

import os
import random
import time
from pathlib import Path

import mr

#: Bytes of a file that one `map_seconds` is for, and of a value that a map gives.
UNIT_BYTES = 4096
HEAVY = 10


def _attempt(name, seconds):
    """Note that an attempt starts, and sleep; the first one of a slow task sleeps longer."""
    notes = Path(mr.param("notes"))
    network = Path("/proc/self/ns/net").stat().st_ino
    (notes / f"{name}.{time.time_ns()}.{os.getpid()}.{network}").touch()
    if name == mr.param("slow", ""):
        try:
            (notes / "slow").touch(exist_ok=False)
            seconds = float(mr.param("slow_seconds"))
        except FileExistsError:
            pass
    time.sleep(seconds)


def map_fn(path, content):
    """Give (reduce, bytes) for every reduce."""
    number = int(Path(path).name)
    units = max(1, len(content) // UNIT_BYTES)
    _attempt(f"map-{number}", float(mr.param("map_seconds")) * units)
    heavy = int(mr.param("heavy", "-1"))
    for reduce in range(int(mr.param("reduces"))):
        for part in range(HEAVY if reduce == heavy else 1):
            yield reduce, random.Random(f"{number} {reduce} {part}").randbytes(UNIT_BYTES)


def partition_fn(key, partitions):
    """One key a reduce."""
    return key % partitions


def reduce_fn(key, values):
    """Give (reduce, bytes in)."""
    size_bytes = sum(len(value) for value in values)
    times = HEAVY if key == int(mr.param("heavy", "-1")) else 1
    _attempt(f"reduce-{key}", float(mr.param("reduce_seconds")) * times)
    yield key, size_bytes
