"""The segments of one partition that one worker holds, fetched over HTTP into one file.

A transfer that breaks off resumes at the byte where it stopped, after a growing, jittered delay. A worker
that sends nothing for `fetch_patience_seconds` cannot be reached. The result says for each output what was
found in its place; the coordinator judges whose fault that is.
"""

import contextlib
import http.client
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO

import msgspec

from mr.errors import SegmentCorrupt
from mr.protocol.codec import UNDECODABLE
from mr.protocol.failures import Loss
from mr.protocol.records import MapOutput
from mr.workers.messages import RunTask
from mr.workers.shuffle.segment import SegmentSource, verify_segment
from mr.workers.shuffle.segment_index import SegmentRef
from mr.workers.shuffle.transfer.wire import MSGPACK, FetchRequest, fetch_path, read_length_table

#: How long a connection may take, and how long a worker may be silent in the middle of a transfer.
CONNECT_SECONDS = 1.5
SILENCE_SECONDS = 10.0
#: Delay before the second try; doubles with each further one up to the longest, jittered by half.
RETRY_BASE_SECONDS = 0.25
RETRY_MAX_SECONDS = 2.0
#: Delay before a busy worker is asked again, jittered by half, and how long it may stay busy.
BUSY_RETRY_SECONDS = 1.0
BUSY_SECONDS = 300.0
#: Transfers of segments that fail their checksum: once the network may have damaged them.
CHECKSUM_TRIES = 2
#: Largest error body that is read.
_ERROR_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class ShuffleSource:
    """One segment on this machine's disk, and the map output it comes from."""

    output: MapOutput
    segment: SegmentRef
    #: Whether it came over the network.
    fetched: bool

    @property
    def bytes(self) -> int:
        """Length of the segment in bytes."""
        return self.segment.bytes

    def open(self) -> BinaryIO:
        """The file, at the segment's first byte."""
        return self.segment.open()


@dataclass(frozen=True, slots=True)
class Fetched:
    """What came from one worker: all its segments, or none and the reason."""

    sources: list[ShuffleSource] = field(default_factory=list)
    #: Outputs that are lost as far as this reducer can tell; empty if the worker is only busy.
    lost: tuple[tuple[MapOutput, Loss], ...] = ()
    #: Why there are no sources; empty if there are, or if another worker's losses ended the transfer.
    reason: str = ""


class _Refused(Exception):
    """A worker answered that it does not have what it should have: another try is of no use."""

    def __init__(self, outputs: Sequence[MapOutput], reason: str, found: Loss = Loss.UNREACHABLE) -> None:
        super().__init__(reason)
        self.outputs = outputs
        self.found = found


class _Broken(Exception):
    """A transfer failed; another try may succeed."""


class _Busy(Exception):
    """A worker lives, and has as many transfers under way as it allows."""


class _InVain(Exception):
    """The attempt has lost inputs elsewhere, so it cannot use what comes from here."""


@contextlib.contextmanager
def _network() -> Iterator[None]:
    """Turn errors of the connection into _Broken, so that they differ from errors of this worker's disk."""
    try:
        yield
    except (http.client.HTTPException, OSError) as error:
        raise _Broken(str(error) or type(error).__name__) from error


def find_corrupt(sources: Iterable[ShuffleSource]) -> list[ShuffleSource]:
    """The segments that do not match their checksums, or cannot be read any more."""
    return [source for source in sources if source.bytes and _is_corrupt(source)]


def _is_corrupt(segment: SegmentSource) -> bool:
    try:
        with segment.open() as stream:
            verify_segment(stream, segment.bytes)
    except (SegmentCorrupt, OSError):
        return True
    return False


class HostFetch:
    """One partition's segments of all outputs of one worker, into one file.

    `doomed` is set when outputs of any worker are lost. Then the others are asked once, to learn what else
    is lost, but the attempt does not wait for what they would send.
    """

    def __init__(
        self,
        run_task: RunTask,
        partition: int,
        outputs: Sequence[MapOutput],
        path: Path,
        on_input: Callable[[int], None],
        doomed: threading.Event,
    ) -> None:
        self._run_task = run_task
        self._settings = run_task.settings
        self._partition = partition
        self._address = outputs[0].address
        self._who = f"worker {outputs[0].worker} at {self._address}"
        self._outputs = outputs
        self._path = path
        self._on_input = on_input
        self._doomed = doomed
        #: Length of each segment, by the worker's first answer.
        self._lengths: tuple[int, ...] | None = None
        self._rng = random.Random(f"{run_task.attempt.task}/{run_task.attempt.number}/{self._address}")

    def run(self) -> Fetched:
        """Fetch everything, or find out why not. Raises OSError for this worker's disk."""
        if not self._address:
            reason = f"worker {self._outputs[0].worker} serves none and their files are gone"
            return self._give_up(self._outputs, Loss.MISSING, reason)
        try:
            return self._fetch()
        except _Refused as error:
            return self._give_up(error.outputs, error.found, f"{self._who}: {error}")
        except _InVain:
            return Fetched()

    def _give_up(self, outputs: Iterable[MapOutput], found: Loss, reason: str) -> Fetched:
        self._doomed.set()
        return Fetched(lost=tuple((output, found) for output in outputs), reason=reason)

    def _fetch(self) -> Fetched:
        """Try until all is here and whole. Raises _Refused, _InVain, OSError."""
        begun = useful_at = time.monotonic()
        had = tries = damaged = 0
        while True:
            try:
                self._transfer(had)
                sources = self._sources()
                corrupt = [source.output for source in find_corrupt(sources)]
                if not corrupt:
                    return Fetched(sources)
                damaged, had = damaged + 1, 0
                if damaged == CHECKSUM_TRIES:
                    raise _Refused(corrupt, "it sent segments that fail their checksum", Loss.DAMAGED)
            except _Busy:
                if time.monotonic() - begun > BUSY_SECONDS:
                    self._doomed.set()
                    return Fetched(reason=f"{self._who}: busy for {BUSY_SECONDS:g} s")
                if self._doomed.wait(self._jittered(BUSY_RETRY_SECONDS)):
                    raise _InVain from None
                useful_at = time.monotonic()
            except _Broken as error:
                before, had = had, self._path.stat().st_size
                if had > before:
                    useful_at, tries = time.monotonic(), 0
                tries += 1
                self._wait_or_give_up(error, had, tries, useful_at)

    def _wait_or_give_up(self, error: _Broken, had: int, tries: int, useful_at: float) -> None:
        """Wait before the next try. Raises _Refused when the worker has had time enough.

        A doomed attempt does not wait: it reports what it knows. Raises _InVain if something came.
        """
        waited_seconds = time.monotonic() - useful_at
        enough = tries > 1 and waited_seconds >= self._settings.fetch_patience_seconds
        delay_seconds = min(RETRY_BASE_SECONDS * 2.0**tries, RETRY_MAX_SECONDS)
        if self._doomed.is_set() or enough or self._doomed.wait(self._jittered(delay_seconds)):
            if had and not enough:
                raise _InVain
            raise _Refused(self._outputs, f"{error} (tried for {waited_seconds:.1f} s)") from error

    def _jittered(self, seconds: float) -> float:
        return seconds * self._rng.uniform(0.5, 1.5)

    def _sources(self) -> list[ShuffleSource]:
        lengths = self._lengths or ()
        starts = accumulate(lengths, initial=0)
        return [
            ShuffleSource(output, SegmentRef(self._path, start, length), fetched=True)
            for output, start, length in zip(self._outputs, starts, lengths, strict=False)
        ]

    # --- one transfer

    def _transfer(self, had: int) -> None:
        """Ask for everything from byte `had` on and append it to the file. Raises all of the above."""
        host, port = _split_address(self._address)
        connection = http.client.HTTPConnection(host, port, timeout=CONNECT_SECONDS)
        with open(self._path, "r+b" if had else "wb") as file:
            file.seek(had)
            with contextlib.closing(connection), self._ask(connection, had) as response:
                self._receive(response, file, self._learn(response) - had)

    def _ask(self, connection: http.client.HTTPConnection, had: int) -> http.client.HTTPResponse:
        """Send the request; the answer's head has come. Raises _Refused, _Broken, _Busy."""
        request = FetchRequest(tuple(output.attempt[1:] for output in self._outputs), had)
        spec = self._run_task.spec
        headers = {"Authorization": f"Bearer {spec.token}", "Content-Type": MSGPACK}
        with _network():
            connection.connect()
            connection.sock.settimeout(SILENCE_SECONDS)
            connection.request(
                "POST", fetch_path(spec.job_id, self._partition), msgspec.msgpack.encode(request), headers
            )
            response = connection.getresponse()
            if response.status == 200:
                return response
            with response:  # closing the connection does not close an answer that was read in part
                body = response.read(_ERROR_BYTES)
        if response.status == 404:
            raise self._missing(body)
        if response.status == 503:
            raise _Busy
        if response.status in (429, 500, 502, 504):
            raise _Broken(f"HTTP status {response.status}")
        raise _Refused(self._outputs, f"HTTP status {response.status} {body[:200]!r}")

    def _missing(self, body: bytes) -> _Refused:
        """The outputs that a 404 names; all of them if it names none. Another server's 404 proves nothing."""
        try:
            names = set(msgspec.msgpack.decode(body, type=list[tuple[str, int]]))
        except UNDECODABLE:
            return _Refused(self._outputs, "HTTP status 404 from what is no worker")
        named = [output for output in self._outputs if output.attempt[1:] in names]
        return _Refused(named or self._outputs, "it does not have the map output", Loss.MISSING)

    def _learn(self, response: http.client.HTTPResponse) -> int:
        """Read the lengths of the segments; returns the bytes of all. Raises _Refused, _Broken."""
        try:
            with _network():
                lengths = read_length_table(response.read, len(self._outputs))
        except SegmentCorrupt as error:
            raise _Broken(str(error)) from error
        if self._lengths is None:
            self._lengths = lengths
            self._on_input(sum(lengths))
        elif lengths != self._lengths:
            raise _Refused(self._outputs, "its segments have other lengths than a moment ago", Loss.DAMAGED)
        return sum(lengths)

    def _receive(self, response: http.client.HTTPResponse, file: BinaryIO, expected: int) -> None:
        """Write what comes to the file. Raises _Refused, _Broken, _InVain, OSError."""
        if response.length != expected:
            raise _Refused(self._outputs, f"it promises {response.length} bytes of {expected}", Loss.DAMAGED)
        left = expected
        while left:
            if self._doomed.is_set():
                raise _InVain
            with _network():
                data = response.read(min(left, self._settings.fetch_bytes))
            if not data:
                raise _Broken(f"the transfer broke off {left} bytes before its end")
            file.write(data)
            left -= len(data)
            self._on_input(0)


def _split_address(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)
