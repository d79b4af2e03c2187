"""The HTTP protocol between reducers and shuffle servers.

POST /v1/jobs/{job_id}/partitions/{partition}, `Authorization: Bearer TOKEN`, body = msgpack
FetchRequest. The answer is a table of the segments' lengths, then the segments one after the other, as
they lie in the files:

  200  the table, whole each time, then the segments' bytes from `offset` on; with Content-Length
  401  no token · 403 not this job's · 400 not a request, or an output twice · 416 an offset beyond the end
  404  body = msgpack list of [task, attempt]: these outputs are not here (all of them: unknown job)
  503  as many transfers as allowed are under way: try again

One request a connection; one that has not come whole after some seconds is not waited for.
"""

import array
import re
import struct
import sys
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
from xxhash import xxh3_64_intdigest

from mr.errors import SegmentCorrupt
from mr.protocol.ids import JobId, TaskId

MSGPACK = "application/msgpack"

#: Largest request: some 300,000 outputs of one worker.
MAX_REQUEST_BYTES = 4 * 1024 * 1024

_PATH: Final = re.compile(r"/v1/jobs/([^/]+)/partitions/([0-9]{1,9})")
#: Mark, number of lengths, xxh3-64 of the lengths; each of them takes eight bytes, little-endian.
_TABLE_HEAD: Final = struct.Struct("<4sIQ")
_TABLE_MARK: Final = b"MRLT"
_LENGTH_BYTES: Final = 8


class FetchRequest(msgspec.Struct, frozen=True):
    """One partition's segments of several map outputs of one worker, concatenated."""

    #: Map task and attempt, in the order in which the segments are wanted; each once.
    outputs: tuple[tuple[TaskId, int], ...]
    #: Bytes of all segments that an earlier transfer brought before it broke off.
    offset: int = 0


def fetch_path(job: JobId, partition: int) -> str:
    """The path of the URL for one partition of one job."""
    return f"/v1/jobs/{job}/partitions/{partition}"


def parse_path(path: str) -> tuple[JobId, int] | None:
    """Read such a path; None for any other text."""
    match = _PATH.fullmatch(path)
    return (JobId(match[1]), int(match[2])) if match else None


def length_table(lengths: Sequence[int]) -> bytes:
    """The table that begins an answer."""
    body = _little(array.array("Q", lengths)).tobytes()
    return _TABLE_HEAD.pack(_TABLE_MARK, len(lengths), xxh3_64_intdigest(body)) + body


def read_length_table(read: Callable[[int], bytes], count: int) -> tuple[int, ...]:
    """Read the lengths that begin an answer about `count` segments.

    `read(n)` gives n bytes, or fewer at the end. Raises SegmentCorrupt for anything but that table.
    """
    head = read(_TABLE_HEAD.size)
    mark, found, checksum = _TABLE_HEAD.unpack(head) if len(head) == _TABLE_HEAD.size else (b"", 0, 0)
    if mark != _TABLE_MARK or found != count:
        raise SegmentCorrupt(f"the answer does not begin with the lengths of {count} segments")
    body = read(_LENGTH_BYTES * count)
    if len(body) < _LENGTH_BYTES * count or xxh3_64_intdigest(body) != checksum:
        raise SegmentCorrupt("the lengths of the segments do not match their checksum")
    return tuple(_little(array.array("Q", body)))


def _little(numbers: "array.array[int]") -> "array.array[int]":
    """Convert numbers between this machine's byte order and that of the wire."""
    if sys.byteorder != "little":
        numbers.byteswap()
    return numbers
