"""Compressed input: one stream with its offsets, damage, padding, bounded memory."""

import io
import itertools
from pathlib import Path

import pytest

from mr.errors import BadInput
from mr.formats import storage
from mr.formats.input.compression import Stream
from tests.support.reading import COMPRESSORS, batch_records, chunks, planned_records, records, whole, write


class TestCompressed:
    @pytest.mark.parametrize("suffix", COMPRESSORS)
    def test_a_compressed_file_is_one_stream_with_decompressed_offsets(
        self, tmp_path: Path, suffix: str
    ) -> None:
        data = "".join(f"line {n} ä\r\n" for n in range(1000)).encode()
        plain = write(tmp_path, data)
        packed = write(tmp_path, COMPRESSORS[suffix](data), f"in.{suffix.upper()}")
        expected = records(whole(plain), read_bytes=100)
        assert planned_records([str(packed)], maps=4, read_bytes=100) == expected
        assert batch_records(whole(packed), read_bytes=100) == expected
        assert chunks(whole(packed))[-1].consumed_bytes == packed.stat().st_size

    @pytest.mark.parametrize("suffix", COMPRESSORS)
    def test_concatenated_members_are_read_on(self, tmp_path: Path, suffix: str) -> None:
        compress = COMPRESSORS[suffix]
        packed = write(tmp_path, compress(b"a\nb") + compress(b"") + compress(b"c\nd\n"), f"in.{suffix}")
        assert records(whole(packed)) == [(0, "a"), (2, "bc"), (5, "d")]

    @pytest.mark.parametrize("suffix", COMPRESSORS)
    def test_an_empty_file_has_no_records(self, tmp_path: Path, suffix: str) -> None:
        assert records(whole(write(tmp_path, b"", f"in.{suffix}"))) == []

    @pytest.mark.parametrize("suffix", COMPRESSORS)
    @pytest.mark.parametrize("damage", ["truncated", "garbage", "flipped", "other format"])
    def test_damage_is_refused_by_name(self, tmp_path: Path, suffix: str, damage: str) -> None:
        packed = bytearray(COMPRESSORS[suffix](bytes(range(256)).replace(b"\n", b"") * 50))
        if damage == "truncated":
            del packed[-len(packed) // 3 :]
        elif damage == "garbage":
            packed[:4] = b"what"
        elif damage == "flipped":
            packed[len(packed) // 2 : len(packed) // 2 + 8] = b"\xff" * 8
        else:
            packed[:] = b"plain text\n" * 30
        path = write(tmp_path, bytes(packed), f"in.{suffix}")
        with pytest.raises(BadInput, match=rf"in\.{suffix} is truncated or not a valid {suffix} file"):
            records(whole(path), encoding="latin-1", read_bytes=1000)

    @pytest.mark.parametrize("suffix", COMPRESSORS)
    @pytest.mark.parametrize("damage", ["magic", "flipped", "cut in the magic", "cut", "garbage", "a zero"])
    @pytest.mark.parametrize("streams", [1, 2])
    def test_damage_after_the_first_stream_is_refused(
        self, tmp_path: Path, suffix: str, damage: str, streams: int
    ) -> None:
        """What follows a stream is never taken for the end of the data."""
        first = COMPRESSORS[suffix](b"a line\n" * 100) * streams
        second = bytearray(COMPRESSORS[suffix](bytes(range(256)) * 50))
        if damage == "magic":
            second[0] ^= 0xFF
        elif damage == "flipped":
            second[len(second) // 2 : len(second) // 2 + 8] = b"\xff" * 8
        elif damage.startswith("cut"):
            del second[1 if damage == "cut in the magic" else len(second) // 2 :]
        else:
            second[:] = b"what" if damage == "garbage" else b"\0"
        if (suffix, damage) == ("gz", "a zero"):
            pytest.skip("zero bytes after a gzip member are padding")
        path = write(tmp_path, first + second, f"in.{suffix}")
        with pytest.raises(BadInput, match=rf"in\.{suffix} is truncated or .* near byte \d+: ") as caught:
            records(whole(path), encoding="latin-1", read_bytes=1000)
        if suffix != "zst":
            near = int(str(caught.value).partition("near byte ")[2].partition(":")[0])
            assert len(first) <= near <= len(first + second)

    @pytest.mark.parametrize("suffix", ["gz", "xz"])
    def test_zero_bytes_pad_streams_where_their_tools_pad(self, tmp_path: Path, suffix: str) -> None:
        compress = COMPRESSORS[suffix]
        padded = compress(b"a\n") + bytes(8) + compress(b"b\n") + bytes(200_000)
        assert records(whole(write(tmp_path, padded, f"in.{suffix}"))) == [(0, "a"), (2, "b")]

    @pytest.mark.parametrize("suffix", COMPRESSORS)
    def test_little_that_stands_for_much_is_read_in_bounded_blocks(self, tmp_path: Path, suffix: str) -> None:
        path = write(tmp_path, COMPRESSORS[suffix](bytes(3_000_000)), f"in.{suffix}")
        with Stream(whole(path).ranges[0]) as stream:
            blocks = list(iter(lambda: stream.read(70_000), b""))
        assert [len(block) for block in blocks] == [70_000] * 42 + [60_000]
        assert not any(map(any, blocks))


class Reluctant(io.RawIOBase):
    """A file that gives 1, 2, 3, 1, ... bytes at a time, as a network file system may."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)
        self._sizes = itertools.cycle([1, 2, 3])

    def read(self, size: int = -1, /) -> bytes:
        return self._data.read(min(size, next(self._sizes)))

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return self._data.seek(offset, whence)


@pytest.mark.parametrize("suffix", ["txt", *COMPRESSORS])
@pytest.mark.parametrize("input_format", ["text", "jsonl", "csv"])
def test_short_reads_leave_the_chunks_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, input_format: str
) -> None:
    """Chunks decide where a map's buffer is flushed, hence how partial sums of floats round."""
    data = b"".join(b"%d\n" % n for n in range(300))
    path = write(tmp_path, COMPRESSORS.get(suffix, bytes)(data), f"in.{suffix}")
    read = chunks(whole(path), input_format, read_bytes=50)
    monkeypatch.setattr(storage, "open_read", lambda name: Reluctant(Path(name).read_bytes()))
    again = chunks(whole(path), input_format, read_bytes=50)
    assert [chunk.keys for chunk in again] == [chunk.keys for chunk in read]
