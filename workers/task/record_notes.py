"""What the runs of one attempt note for each other: records known to be bad, and those that a search began.

Two files beside the runs' directories outlive a process: known bad records, a line of JSON each, and the
place of every record that the search at work has begun. Both are written without a buffer, so that they are
complete when the process dies.
"""

import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from mr.protocol.bad_records import BadRecord, position_of
from mr.protocol.jobs import Split

#: Number of the range in the split, and the record's position: of each record begun.
_PLACE = struct.Struct("<IQ")
#: More places than this are not read.
_MAX_PLACES = 50_000_000


def read_known(path: str) -> list[BadRecord]:
    """The records that earlier runs of the attempt found to be bad."""
    if not path or not Path(path).exists():
        return []
    return [msgspec.json.decode(line, type=BadRecord) for line in Path(path).read_bytes().splitlines()]


def add_known(path: str, record: BadRecord) -> None:
    """Note one more."""
    with open(path, "ab", buffering=0) as file:
        file.write(as_line(record))


def as_line(record: BadRecord) -> bytes:
    """A bad record as it stands in a list, with lone surrogates spelt out."""
    texts = {
        name: getattr(record, name).encode("utf-8", "backslashreplace").decode()
        for name in ("message", "function", "traceback")
    }
    return msgspec.json.encode(msgspec.structs.replace(record, **texts)) + b"\n"


def read_started(path: str, split: Split) -> list[tuple[int, int]]:
    """The records that a search has begun: number of the range, position."""
    with open(path, "rb") as file:
        data = file.read(_MAX_PLACES * _PLACE.size)
    whole = data[: len(data) // _PLACE.size * _PLACE.size]
    return [place for place in _PLACE.iter_unpack(whole) if place[0] < len(split.ranges)]


def only(split: Split, places: Iterable[tuple[int, int]]) -> Split:
    """The split reduced to these records."""
    wanted: dict[int, list[int]] = {}
    for number, position in places:
        wanted.setdefault(number, []).append(position)
    ranges = (
        msgspec.structs.replace(split.ranges[number], only=tuple(positions))
        for number, positions in sorted(wanted.items())
    )
    return msgspec.structs.replace(split, ranges=tuple(ranges))


def place_of(number: int, key: Any) -> bytes:
    """The note of a record begun: of range `number`, with this key."""
    return _PLACE.pack(number, position_of(key))
