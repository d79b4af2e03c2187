"""The end of a segment file: which bytes of it are which partition's segment. The one place that knows.

After the segments comes one entry a partition (start, bytes, xxh3-64 of both seeded with the partition),
then the tail (mark, number of partitions). So one segment of a file is found by two small reads, whatever
the number of partitions, and nobody keeps or sends the lengths of maps x reduces segments. The worker's
daemon finds segments by it, so nothing of Arrow is imported here.
"""

import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO, Final

from xxhash import xxh3_64_intdigest

from mr.errors import SegmentCorrupt

_PLACE: Final = struct.Struct("<QQ")
_CHECK: Final = struct.Struct("<Q")
_TAIL: Final = struct.Struct("<4sI")
_MARK: Final = b"MRIX"
_ENTRY_BYTES: Final = _PLACE.size + _CHECK.size


@dataclass(frozen=True, slots=True)
class SegmentRef:
    """One segment: which bytes of which file on this host."""

    path: Path
    start: int
    bytes: int

    def open(self) -> BinaryIO:
        """The file, at the segment's first byte."""
        stream = self.path.open("rb")
        stream.seek(self.start)
        return stream


def write_index(file: BinaryIO, sizes: Sequence[int]) -> None:
    """End a file that holds segments of these sizes, one a partition, from its first byte on."""
    for partition, start in enumerate(accumulate(sizes[:-1], initial=0)):
        place = _PLACE.pack(start, sizes[partition])
        file.write(place + _CHECK.pack(xxh3_64_intdigest(place, partition)))
    file.write(_TAIL.pack(_MARK, len(sizes)))


def find_segment(path: Path, partition: int) -> SegmentRef:
    """Where one partition's segment lies. Raises SegmentCorrupt where the file does not say, OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        tail_at = os.fstat(descriptor).st_size - _TAIL.size
        tail = os.pread(descriptor, _TAIL.size, max(tail_at, 0))
        mark, partitions = _TAIL.unpack(tail) if len(tail) == _TAIL.size else (b"", 0)
        index_at = tail_at - partitions * _ENTRY_BYTES
        if mark != _MARK or index_at < 0 or not 0 <= partition < partitions:
            raise SegmentCorrupt(f"{path.name} has no index of partition {partition} at its end")
        entry = os.pread(descriptor, _ENTRY_BYTES, index_at + partition * _ENTRY_BYTES)
    finally:
        os.close(descriptor)
    place, check = entry[: _PLACE.size], entry[_PLACE.size :]
    if check != _CHECK.pack(xxh3_64_intdigest(place, partition)):
        raise SegmentCorrupt(f"{path.name}: the index of partition {partition} does not match its checksum")
    start, length = _PLACE.unpack(place)
    if start + length > index_at:
        raise SegmentCorrupt(f"{path.name}: partition {partition} lies beyond the segments")
    return SegmentRef(path, start, length)
