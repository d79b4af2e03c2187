"""How far an attempt is, to be read at any moment and from any thread."""

from collections.abc import Callable
from dataclasses import dataclass

from mr.error_text import bounded, printable_line
from mr.workers.messages import Progress

#: Longest name of a record that is told; from a longer one the middle is left out.
RECORD_CHARACTERS = 1000

#: A record (`file:offset`, `key ...`) and the input file it is from, None in a reduce.
Place = tuple[str, str | None]


@dataclass(frozen=True, slots=True)
class Chunk:
    """Records that are on their way through a user function, consumed in C."""

    #: How many there are; in a reduce, values.
    records: int
    #: Share of the input consumed when all of them are finished.
    share: float
    #: How many of them are finished.
    finished: Callable[[], int]
    #: The one that the function was given last.
    current: Callable[[], Place] | None = None


@dataclass(frozen=True, slots=True)
class _Point:
    """What was finished before the present chunk. Replaced as a whole, so a reader never sees half of it."""

    phase: str = ""
    share: float = 0.0
    records: int = 0
    chunk: Chunk | None = None


class Meter:
    """The position of an attempt. The loop moves it chunk by chunk; inside a chunk its iterators tell."""

    def __init__(self) -> None:
        self._point = _Point()
        #: Bytes of a reduce's partition, as far as they are known.
        self.bytes_in = 0

    def reach(self, phase: str, share: float, records: int) -> None:
        """Note that this many records in all are finished, and no other is begun."""
        self._point = _Point(phase, share, records)

    def begin(self, chunk: Chunk) -> None:
        """Note that the function is given a chunk now."""
        before = self._point
        self._point = _Point(before.phase, before.share, before.records, chunk)

    def read(self) -> Progress:
        """Say how far the attempt is."""
        point = self._point
        share, records, record, chunk = point.share, point.records, "", point.chunk
        if chunk is not None:
            finished = chunk.finished()
            records += finished
            share += (chunk.share - share) * finished / max(1, chunk.records)
            if chunk.current is not None:
                record = printable_line(bounded(chunk.current()[0], RECORD_CHARACTERS))
        return Progress(round(min(1.0, max(0.0, share)), 4), records, point.phase, self.bytes_in, record)
