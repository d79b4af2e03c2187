"""How far an attempt is, as it can be read at any moment."""

import pytest

from mr.workers.messages import Progress
from mr.workers.task.meter import RECORD_CHARACTERS, Chunk, Meter


def test_a_chunk_counts_from_what_was_reached_before_it() -> None:
    meter, done = Meter(), [0]
    meter.reach("map", 0.2, 10)
    meter.begin(Chunk(4, 0.6, lambda: done[0], lambda: ("file:7", "file")))
    assert meter.read() == Progress(0.2, 10, "map", record="file:7")
    done[0] = 3
    assert meter.read() == Progress(0.5, 13, "map", record="file:7")
    meter.reach("map", 0.6, 14)
    assert meter.read() == Progress(0.6, 14, "map")


def test_the_share_stays_a_share() -> None:
    meter = Meter()
    meter.reach("map", 1.7, 1)
    assert meter.read().share == 1.0


@pytest.mark.parametrize("name", ["a\nb", "caf\udce9", "x" * 10_000])
def test_any_name_can_be_sent_and_shown_in_one_line(name: str) -> None:
    meter = Meter()
    meter.begin(Chunk(1, 1.0, lambda: 0, lambda: (name, None)))
    record = meter.read().record
    assert record.encode().decode().isprintable() and 0 < len(record) <= RECORD_CHARACTERS
