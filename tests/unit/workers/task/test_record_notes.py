"""What the runs of one attempt note for each other."""

from pathlib import Path

from mr.protocol.bad_records import BadRecord
from mr.protocol.failures import FailureKind
from mr.protocol.jobs import FileRange, Split
from mr.workers.task.record_notes import add_known, only, place_of, read_known, read_started

SPLIT = Split(3, (FileRange("a", 0, 10, 20), FileRange("b", 0, -1, 5), FileRange("c", 0, -1, 5)))


def test_known_records_come_back_in_order(tmp_path: Path) -> None:
    path = str(tmp_path / "known")
    assert read_known(path) == read_known("") == []
    for position in (7, 3):
        add_known(path, BadRecord(path="a", position=position, kind=FailureKind.KILLED, message="a\ud800 b"))
    assert [(record.position, record.message) for record in read_known(path)] == [
        (7, "a\\ud800 b"),
        (3, "a\\ud800 b"),
    ]


def test_places_begun_are_read_up_to_the_last_whole_one(tmp_path: Path) -> None:
    path = tmp_path / "started"
    path.write_bytes(place_of(0, 2**40) + place_of(2, "a whole file") + place_of(9, 1) + b"\x01\x00")
    assert read_started(str(path), SPLIT) == [(0, 2**40), (2, 0)]


def test_a_split_of_some_records_alone() -> None:
    assert only(SPLIT, [(2, 4), (0, 6), (0, 1)]).ranges == (
        FileRange("a", 0, 10, 20, (6, 1)),
        FileRange("c", 0, -1, 5, (4,)),
    )
