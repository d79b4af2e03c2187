"""A reducer's way to its inputs: the segments of one partition out of all committed map outputs.

On the same host the file is opened where it lies. From any other, ONE request a worker brings all
its segments as one stream into one file of the attempt's directory; memory in flight is
`fetch_bytes` a worker. A transfer that breaks off is taken up at the byte where it stopped, after a
growing, jittered delay, and every segment's checksum is checked before any of them is used.
"""

import contextlib
import http.client
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO

import msgspec

from mr.errors import SegmentCorrupt, ShuffleError
from mr.protocol.failures import LostInput
from mr.protocol.ids import task_sort_key
from mr.protocol.records import MapOutput
from mr.settings import Settings
from workers.orders import TaskOrder
from workers.shuffle.segment import FileSegment, SegmentSource, verify_segment
from workers.shuffle.segment_index import find_segment
from workers.shuffle.wire import MSGPACK, FetchRequest, fetch_path, read_length_table

#: Workers fetched from at once.
MAX_HOSTS = 8
#: Longest silence of a worker in the middle of a transfer.
SILENCE_SECONDS = 30.0
#: Delay before the second try; doubles with each further one, jittered by half.
RETRY_BASE_SECONDS = 0.25
#: Delay before a busy worker is asked again, jittered by half, and how long it may stay busy.
BUSY_RETRY_SECONDS = 1.0
BUSY_SECONDS = 300.0
#: Largest error body that is read.
_ERROR_BYTES = 1024 * 1024


class InputLost(ShuffleError):
    """Map outputs cannot be had from where they should be. Their map tasks will be run again."""

    def __init__(self, lost: Sequence[LostInput], message: str | None = None) -> None:
        super().__init__(message)
        self.lost = tuple(lost)


@dataclass(frozen=True, slots=True)
class ShuffleSource:
    """One segment on this machine's disk, and the map output it comes from."""

    output: MapOutput
    segment: FileSegment
    #: Whether it came over the network.
    fetched: bool

    @property
    def bytes(self) -> int:
        """Length of the segment in bytes."""
        return self.segment.bytes

    def open(self) -> BinaryIO:
        """The file, at the segment's first byte."""
        return self.segment.open()


class _Refused(Exception):
    """A worker answered that it does not have what it should have: asking again is of no use."""

    def __init__(self, outputs: Sequence[MapOutput], reason: str) -> None:
        super().__init__(reason)
        self.outputs = outputs


class _Broken(Exception):
    """A transfer failed in a way that another try may mend."""


class _Busy(Exception):
    """A worker lives, and has as many transfers under way as it allows."""


@contextlib.contextmanager
def _network() -> Iterator[None]:
    """Around what talks to the other worker, so that its errors are told from those of our own disk."""
    try:
        yield
    except (http.client.HTTPException, OSError) as error:
        raise _Broken(str(error) or type(error).__name__) from error


#: Called with each further number of bytes that are known to be the attempt's input, and with 0 now and then.
OnInput = Callable[[int], None]


def open_sources(
    order: TaskOrder, partition: int, on_input: OnInput = lambda more: None
) -> list[ShuffleSource]:
    """Bring this partition of all map outputs within reach, in map order; empty segments are left out.

    `on_input` is called by one thread at a time. Raises InputLost, naming every output that could not be
    had, OSError when the attempt's own directory cannot be written, and BadMessage.
    """
    outputs = order.map_outputs.unpack()
    sources: dict[str, ShuffleSource] = {}
    remote: dict[str, list[MapOutput]] = {}
    for output in outputs:
        segment = _local_segment(order, output, partition)
        if segment is not None:
            sources[output.task_id] = ShuffleSource(output, segment, fetched=False)
        else:
            remote.setdefault(output.address, []).append(output)
    on_input(sum(source.bytes for source in sources.values()))
    reasons: list[str] = []
    lost: list[MapOutput] = []
    for fetched, missing, reason in _fetch_all(order, partition, remote, on_input):
        sources.update({source.output.task_id: source for source in fetched})
        lost.extend(missing)
        reasons.extend([reason] if reason else [])
    if lost:
        raise lost_inputs(lost, "; ".join(sorted(set(reasons))))
    return [source for output in outputs if (source := sources[output.task_id]).bytes]


def lost_inputs(outputs: Iterable[MapOutput], reason: str) -> InputLost:
    """The exception that names these map outputs as lost."""
    lost = [
        LostInput(output.task_id, output.attempt, output.worker, output.incarnation)
        for output in sorted(outputs, key=lambda output: task_sort_key(output.task_id))
    ]
    names = ", ".join(item.task_id for item in lost[:5]) + (" ..." if len(lost) > 5 else "")
    return InputLost(lost, f"{len(lost)} map outputs are lost ({names}): {reason}")


def find_corrupt(sources: Iterable[ShuffleSource]) -> list[MapOutput]:
    """The outputs whose segments do not match their checksums, or cannot be read any more.

    For a reducer that met SegmentCorrupt while it merged all of them.
    """
    return [source.output for source in sources if source.bytes and _complaint(source)]


def _complaint(source: SegmentSource) -> str:
    """What is wrong with a segment; empty when nothing is."""
    try:
        with source.open() as stream:
            verify_segment(stream, source.bytes)
    except (SegmentCorrupt, OSError) as error:
        return str(error)
    return ""


def _local_segment(order: TaskOrder, output: MapOutput, partition: int) -> FileSegment | None:
    """The segment where the mapper wrote it, if that is on this host and can be read."""
    if output.address and not (order.settings.shuffle_local_reads and output.host == order.origin.host):
        return None
    try:
        return find_segment(Path(output.path), partition)
    except (OSError, SegmentCorrupt):  # gone, damaged, or another user's: the worker itself may serve it
        return None


_Fetched = tuple[list[ShuffleSource], Sequence[MapOutput], str]


def _fetch_all(
    order: TaskOrder, partition: int, remote: dict[str, list[MapOutput]], on_input: OnInput
) -> list[_Fetched]:
    """Fetch from several workers at once: what came, what did not, and why."""
    if not remote:
        return []
    lock = threading.Lock()

    def tell(more: int) -> None:
        with lock:
            on_input(more)

    jobs = [
        _HostFetch(order, partition, address, outputs, Path(order.work_dir) / f"fetched-{number}", tell)
        for number, (address, outputs) in enumerate(sorted(remote.items()))
    ]
    with ThreadPoolExecutor(min(MAX_HOSTS, len(jobs))) as pool:
        return list(pool.map(_HostFetch.run, jobs))


class _HostFetch:
    """One partition's segments of all outputs of one worker, into one file."""

    def __init__(
        self,
        order: TaskOrder,
        partition: int,
        address: str,
        outputs: Sequence[MapOutput],
        path: Path,
        on_input: OnInput,
    ) -> None:
        self._order = order
        self._settings: Settings = order.settings
        self._partition = partition
        self._address = address
        self._outputs = outputs
        self._path = path
        self._on_input = on_input
        #: Of each segment, as the worker's first answer told it.
        self._lengths: tuple[int, ...] | None = None
        self._rng = random.Random(f"{order.task_id}/{order.attempt}/{address}")

    def run(self) -> _Fetched:
        """Fetch, with `fetch_tries` tries in a row that bring nothing. Raises OSError for our own disk."""
        who = f"worker {self._outputs[0].worker} at {self._address}"
        if not self._address:
            return [], self._outputs, f"worker {self._outputs[0].worker} serves none and their files are gone"
        patience = time.monotonic() + BUSY_SECONDS
        had = failures = 0
        while True:
            try:
                self._transfer(had)
                missing: Sequence[MapOutput] = find_corrupt(self._sources())
                if not missing:
                    return self._sources(), (), ""
                reason, had = "it sent segments that fail their checksum", 0
            except _Refused as error:
                return [], error.outputs, f"{who}: {error}"
            except _Busy:
                if time.monotonic() > patience:
                    return [], self._outputs, f"{who}: busy for {BUSY_SECONDS:g} s"
                time.sleep(BUSY_RETRY_SECONDS * self._rng.uniform(0.5, 1.5))
                continue
            except _Broken as error:
                reason, missing = str(error), self._outputs
                before, had = had, self._path.stat().st_size
                failures = 0 if had > before else failures
            failures += 1
            if failures >= self._settings.fetch_tries:
                return [], missing, f"{who}: {reason} ({failures} tries)"
            time.sleep(RETRY_BASE_SECONDS * 2**failures * self._rng.uniform(0.5, 1.5))

    def _sources(self) -> list[ShuffleSource]:
        lengths = self._lengths or ()
        starts = accumulate(lengths, initial=0)
        return [
            ShuffleSource(output, FileSegment(self._path, start, length), fetched=True)
            for output, start, length in zip(self._outputs, starts, lengths, strict=False)
        ]

    def _transfer(self, had: int) -> None:
        """Ask for everything from byte `had` on and append it to the file. Raises _Refused, _Broken."""
        host, port = _split_address(self._address)
        connection = http.client.HTTPConnection(host, port, timeout=SILENCE_SECONDS)
        with open(self._path, "r+b" if had else "wb") as file:
            file.seek(had)
            with contextlib.closing(connection), self._ask(connection, had) as response:
                self._receive(response, file, self._learn(response) - had)

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
            raise _Refused(self._outputs, "its segments have other lengths than a moment ago")
        return sum(lengths)

    def _ask(self, connection: http.client.HTTPConnection, had: int) -> http.client.HTTPResponse:
        request = FetchRequest(tuple((output.task_id, output.attempt) for output in self._outputs), had)
        spec = self._order.spec
        headers = {"Authorization": f"Bearer {spec.token}", "Content-Type": MSGPACK}
        with _network():
            connection.request(
                "POST", fetch_path(spec.job_id, self._partition), msgspec.msgpack.encode(request), headers
            )
            response = connection.getresponse()
            if response.status == 200:
                return response
            with response:  # the connection's end is not that of an answer read in part
                body = response.read(_ERROR_BYTES)
        if response.status == 404:
            raise _Refused(self._named(body), "it does not have the map output")
        if response.status == 503:
            raise _Busy
        if response.status in (429, 500, 502, 504):
            raise _Broken(f"HTTP status {response.status}")
        raise _Refused(self._outputs, f"HTTP status {response.status} {body[:200]!r}")

    def _named(self, body: bytes) -> Sequence[MapOutput]:
        """The outputs that a 404 names; all of them when it names none."""
        try:
            missing = set(msgspec.msgpack.decode(body, type=list[tuple[str, int]]))
        except msgspec.DecodeError:
            missing = set()
        named = [output for output in self._outputs if (output.task_id, output.attempt) in missing]
        return named or self._outputs

    def _receive(self, response: http.client.HTTPResponse, file: BinaryIO, expected: int) -> None:
        if response.length != expected:
            raise _Refused(self._outputs, f"it promises {response.length} bytes of {expected}")
        left = expected
        while left:
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
