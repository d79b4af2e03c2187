"""Segment files: the rows of one partition, sorted by key, in frames that each carry a checksum.

A segment is a sequence of frames. A frame is a header (tag, payload bytes, xxh3-64 of the payload,
seeded with the frame's number) and its payload. `ROWS`: an Arrow IPC stream of one record batch, lz4,
bounded in rows and bytes. `END.`: the weight of the largest batch and the number of values, last. So a
reader holds one batch at a time and may know its size before, uses no byte before its checksum matched, and
sees a truncated segment for what it is. A map output and a spill are the segments of all partitions one
after the other, then an index (`segment_index.py`); a partition without records has no bytes.
"""

import io
import struct
from collections.abc import Iterator
from typing import BinaryIO, Final, Protocol

import numpy as np
import pyarrow as pa
from xxhash import xxh3_64_intdigest

from mr.errors import SegmentCorrupt
from mr.workers.shuffle.rows import Rows, from_batch, to_batch
from mr.workers.shuffle.sort import Sorted, cut

#: Uncompressed bytes and values of one batch, unless a single value is larger.
BATCH_BYTES: Final = 1 << 20
BATCH_VALUES = 1 << 16

_HEADER: Final = struct.Struct("<4sIQ")
_TOTALS: Final = struct.Struct("<QQ")
_ROWS: Final = b"ROWS"
_END: Final = b"END."
#: A task has one slot, hence one core.
_OPTIONS: Final = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)
_READ_OPTIONS: Final = pa.ipc.IpcReadOptions(use_threads=False)


class SegmentSource(Protocol):
    """Where one segment's bytes are, to be opened as often as needed."""

    @property
    def bytes(self) -> int:
        """Length of the segment in bytes."""

    def open(self) -> BinaryIO:
        """A stream that begins with the segment's bytes; the caller closes it."""


class SegmentWriter:
    """Writes one segment to a file that is open for writing."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._frames = 0
        #: Bytes written, including frames' headers.
        self.bytes = 0
        #: Values (or partial states) written.
        self.values = 0
        #: What the heaviest batch weighs.
        self.largest = 0

    def write(self, rows: Rows) -> None:
        """Write rows in key order as one batch; see `pieces` for how large it should be."""
        buffer = io.BytesIO()
        batch = to_batch(rows)
        with pa.ipc.new_stream(buffer, batch.schema, options=_OPTIONS) as stream:
            stream.write_batch(batch)
        self._frame(_ROWS, buffer.getbuffer())
        self.values += rows.values
        self.largest = max(self.largest, rows.weight)

    def close(self) -> int:
        """Write the end and return the segment's bytes. A segment without rows has none at all."""
        if self._frames:
            self._frame(_END, memoryview(_TOTALS.pack(self.largest, self.values)))
        return self.bytes

    def _frame(self, tag: bytes, payload: memoryview) -> None:
        self._file.write(_HEADER.pack(tag, len(payload), xxh3_64_intdigest(payload, self._frames)))
        self._file.write(payload)
        self._frames += 1
        self.bytes += _HEADER.size + len(payload)


def pieces(view: Sorted, first: int, last: int) -> Iterator[Rows]:
    """The keys from `first` up to `last` as rows of bounded size; a long run of values is cut in several."""
    offset, end = int(view.offsets[first]), int(view.offsets[last])
    for start, stop in cut(view.sizes[offset:end], BATCH_BYTES, BATCH_VALUES):
        low, high = offset + start, offset + stop
        columns = view.values_of(low, high)
        key_first = int(np.searchsorted(view.offsets, low, side="right")) - 1
        key_last = int(np.searchsorted(view.offsets, high, side="left"))
        keys = view.keys.slice(key_first, key_last)
        bounds = np.clip(view.offsets[key_first : key_last + 1], low, high) - low
        if view.state is not None:
            repeats = np.repeat(np.arange(len(keys)), np.diff(bounds))
            yield Rows(keys.take(repeats), columns, None, view.state)
        else:
            yield Rows(keys, columns, bounds)


def _frames(stream: BinaryIO, bytes_: int | None) -> Iterator[tuple[bytes, bytes]]:
    """Checked frames up to and including the end. Raises SegmentCorrupt."""
    left = 1 << 62 if bytes_ is None else bytes_
    number = 0
    tag = b""
    while tag != _END:
        header = _read(stream, _HEADER.size)
        if len(header) < _HEADER.size:
            raise SegmentCorrupt(f"a segment ends after {number} frames without its end mark")
        tag, length, checksum = _HEADER.unpack(header)
        left -= _HEADER.size + length
        if tag not in (_ROWS, _END) or left < 0 or length >= 1 << 31:
            raise SegmentCorrupt(f"frame {number} of a segment has a damaged header")
        yield tag, _payload(stream, length, checksum, number)
        number += 1
    if bytes_ is not None and left:
        raise SegmentCorrupt(f"a segment has {left} bytes after its end mark")


def _payload(stream: BinaryIO, length: int, checksum: int, number: int) -> bytes:
    """The payload of a frame, which nobody else holds on to. Raises SegmentCorrupt."""
    payload = _read(stream, length)
    if len(payload) < length or xxh3_64_intdigest(payload, number) != checksum:
        raise SegmentCorrupt(f"frame {number} of a segment does not match its checksum")
    return payload


def _read(stream: BinaryIO, length: int) -> bytes:
    """`length` bytes, or fewer at the end of the stream, also from streams that give less than asked."""
    data = stream.read(length)
    while len(data) < length and (more := stream.read(length - len(data))):
        data += more
    return data


def read_segment(source: SegmentSource) -> Iterator[Rows]:
    """The batches of a segment in key order, each checked before use. Raises SegmentCorrupt, OSError."""
    if not source.bytes:
        return
    values = 0
    with source.open() as stream:
        for tag, payload in _frames(stream, source.bytes):
            if tag == _END:
                _check_count(payload, values)
                continue
            rows = _decoded(payload)
            del payload
            values += rows.values
            yield rows
            del rows


def _decoded(payload: bytes) -> Rows:
    with pa.ipc.open_stream(payload, options=_READ_OPTIONS) as batches:
        return from_batch(batches.read_next_batch())


def segment_totals(source: SegmentSource) -> tuple[int, int]:
    """The weight of a segment's heaviest batch, and its values; unchecked. Raises OSError."""
    with source.open() as stream:
        stream.seek(source.bytes - _TOTALS.size, io.SEEK_CUR)
        totals = _read(stream, _TOTALS.size)
    return _TOTALS.unpack(totals) if len(totals) == _TOTALS.size else (0, 0)


def value_count(source: SegmentSource) -> int:
    """The values (or partial states) in a segment, as its end says; unchecked. Raises OSError."""
    return segment_totals(source)[1] if source.bytes else 0


def _check_count(payload: bytes, values: int) -> None:
    expected = _TOTALS.unpack(payload)[1] if len(payload) == _TOTALS.size else -1
    if expected != values:
        raise SegmentCorrupt(f"a segment holds {values} values; its end mark says {expected}")


def verify_segment(stream: BinaryIO, segment_bytes: int | None = None) -> None:
    """Read one segment from `stream` to its end and check every frame, one in memory at a time.

    With `segment_bytes`, its length has to match too. Raises SegmentCorrupt.
    """
    for _ in _frames(stream, segment_bytes):
        continue
