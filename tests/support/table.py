"""A table that job files in this process map from, and what their reducers were given."""

from typing import Any

from mr.workers.shuffle.key_codec import encode_key

#: Each input line is a number: the record it stands for is taken from here.
RECORDS: list[tuple[Any, Any]] = []
#: What the reducers were given, by key as bytes (1, 1.0 and True are three keys).
SEEN: dict[bytes, list[Any]] = {}

#: A job file's map function over the table.
MAP = """
import mr
from tests.support.table import RECORDS, see
def map_fn(key, line):
    yield RECORDS[int(line)]
"""


def see(key: Any, given: list[Any]) -> None:
    """Called by a job's reducer, once a key."""
    encoded = encode_key(key)
    assert encoded not in SEEN
    SEEN[encoded] = given
