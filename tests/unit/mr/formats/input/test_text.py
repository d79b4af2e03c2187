"""Text input: lines, offsets, encodings and compressed streams."""

import bz2
import gzip
import io
import itertools
import lzma
from pathlib import Path

import pytest
import zstandard

from mr.errors import BadInput
from mr.formats import storage
from mr.formats.input.compression import Stream
from mr.protocol.jobs import FileRange, Split
from tests.support.reading import batch_records, chunks, planned_records, records, whole

COMPRESSORS = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": zstandard.ZstdCompressor(write_checksum=True).compress,
}


def write(tmp_path: Path, data: bytes, name: str = "in.txt") -> Path:
    path = tmp_path / name
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("read_bytes", [1, 2, 7, 1000])
@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", []),
        (b"\n", [(0, "")]),
        (b"a", [(0, "a")]),
        (b"a\nb", [(0, "a"), (2, "b")]),
        (b"a\r\nb\r\n", [(0, "a"), (3, "b")]),
        (b"a\r\r\n\rb\r", [(0, "a\r"), (4, "\rb\r")]),
        (b"\n\r\n\n", [(0, ""), (1, ""), (3, "")]),
        ("a\x0bb\x0cc\x1cd\x85e\u2028f\n".encode(), [(0, "a\x0bb\x0cc\x1cd\x85e\u2028f")]),
        ("äö\n€\n😀".encode(), [(0, "äö"), (5, "€"), (9, "😀")]),
        (b"\xef\xbb\xbfa\nb\n", [(0, "a"), (5, "b")]),
        (b"\xef\xbb\xbf", []),
        (b"\xef\xbb\xbf\n", [(0, "")]),
        (b"x\n\xef\xbb\xbfa\n", [(0, "x"), (2, "\ufeffa")]),
    ],
)
def test_lines_and_offsets(
    tmp_path: Path, data: bytes, expected: list[tuple[int, str]], read_bytes: int
) -> None:
    path = write(tmp_path, data)
    assert records(whole(path), read_bytes=read_bytes) == expected
    assert batch_records(whole(path), read_bytes=read_bytes) == expected


def test_chunks_hold_at_most_chunk_rows_and_end_with_all_bytes_consumed(tmp_path: Path) -> None:
    path = write(tmp_path, b"one line\n" * 10)
    read = chunks(whole(path, 90), read_bytes=1000, chunk_rows=4)
    assert [len(chunk.keys) for chunk in read] == [4, 4, 2]
    assert [chunk.consumed_bytes for chunk in read] == [36, 72, 90]
    assert {chunk.path for chunk in read} == {str(path)}


def test_progress_goes_on_over_the_files_of_a_split(tmp_path: Path) -> None:
    first, second = write(tmp_path, b"a\nb\n", "1"), write(tmp_path, b"c\n", "2")
    split = Split(0, (FileRange(str(first), 0, 4, 4), FileRange(str(second), 0, 2, 2)))
    assert [(chunk.path, chunk.consumed_bytes) for chunk in chunks(split)] == [
        (str(first), 4),
        (str(second), 6),
    ]


def test_a_line_much_longer_than_a_block_and_than_its_split(tmp_path: Path) -> None:
    long = "ä" * 200_000
    path = write(tmp_path, f"a\n{long}\nb\n".encode())
    expected = [(0, "a"), (2, long), (400_003, "b")]
    assert planned_records([str(path)], maps=50, read_bytes=100) == expected


class TestEncodings:
    def test_bytes_that_are_not_utf8_are_named_by_file_and_offset(self, tmp_path: Path) -> None:
        path = write(tmp_path, b"good\nstill\nna\xefve\n")
        for read in (records, batch_records):
            with pytest.raises(BadInput) as caught:
                read(whole(path))
            assert f"{path}:13: byte 0xef is not utf-8" in str(caught.value)
            assert "--encoding" in str(caught.value)
            assert "--encoding-errors" in str(caught.value)

    def test_the_offset_counts_a_byte_order_mark(self, tmp_path: Path) -> None:
        path = write(tmp_path, b"\xef\xbb\xbfab\xff\n")
        with pytest.raises(BadInput, match=r":5: byte 0xff"):
            records(whole(path), read_bytes=100)

    @pytest.mark.parametrize(("errors", "value"), [("replace", "a\ufffdb"), ("surrogateescape", "a\udcffb")])
    def test_errors_can_be_replaced_or_escaped(self, tmp_path: Path, errors: str, value: str) -> None:
        path = write(tmp_path, b"a\xffb\nc\n")
        assert records(whole(path), encoding_errors=errors) == [(0, value), (4, "c")]

    def test_batches_hold_replaced_text_and_refuse_escaped(self, tmp_path: Path) -> None:
        path = write(tmp_path, b"a\xffb\nc\n")
        assert batch_records(whole(path), encoding_errors="replace") == [(0, "a\ufffdb"), (4, "c")]
        with pytest.raises(BadInput, match="--encoding-errors replace"):
            batch_records(whole(path), encoding_errors="surrogateescape")

    def test_a_replaced_lead_byte_does_not_swallow_the_line_end(self, tmp_path: Path) -> None:
        path = write(tmp_path, b"a\x81\nb\n\xe2\x82\nc")
        for encoding in ("shift_jis", "gb18030", "utf-8", "big5"):
            read = records(whole(path), encoding=encoding, encoding_errors="replace", read_bytes=100)
            assert [key for key, _ in read] == [0, 3, 5, 8], encoding

    @pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "shift_jis", "koi8-r", "utf-8-sig"])
    def test_encodings_with_a_one_byte_line_end_are_split(self, tmp_path: Path, encoding: str) -> None:
        lines = ["abc", "", "def"] if encoding not in ("latin-1", "cp1252") else ["äöü", "", "ß"]
        path = write(tmp_path, "\r\n".join(lines).encode(encoding))
        values = [value for _, value in planned_records([str(path)], maps=4, encoding=encoding)]
        assert values == lines

    @pytest.mark.parametrize(
        "encoding",
        ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be", "cp037", "cp500", "iso2022_jp", "utf-7"],
    )
    @pytest.mark.parametrize("read_bytes", [1, 3, 1000])
    def test_other_encodings_are_one_stream_with_exact_offsets(
        self, tmp_path: Path, encoding: str, read_bytes: int
    ) -> None:
        lines = ["one", "", "two three", "end"]
        if encoding.startswith("utf"):
            lines[2] = "två 😀 \u0a0a"
        data = "\n".join(lines).replace("two", "two\r").encode(encoding)
        path = write(tmp_path, data)
        expected = [line.replace("two", "two\r") for line in lines]
        read = planned_records([str(path)], maps=3, encoding=encoding, read_bytes=read_bytes)
        assert [value for _, value in read] == expected
        for key, value in read[1:]:
            tail = data[key:].decode(
                "utf-16-le" if encoding == "utf-16" else "utf-32-le" if encoding == "utf-32" else encoding
            )
            assert tail.startswith(value), (key, value)
        assert read[0][0] == 0

    def test_a_byte_order_mark_is_dropped_in_streams_too(self, tmp_path: Path) -> None:
        path = write(tmp_path, "\ufeffa\nb\n".encode("utf-16-le"))
        assert records(whole(path), encoding="utf-16-le") == [(0, "a"), (6, "b")]
        path = write(tmp_path, "a\nb\n".encode("utf-16"))
        assert records(whole(path), encoding="utf-16") == [(0, "a"), (6, "b")]

    def test_a_broken_stream_is_named_by_offset(self, tmp_path: Path) -> None:
        path = write(tmp_path, "ab\n".encode("utf-16-le") + b"\x00\xdc" + b"x\0")
        with pytest.raises(BadInput, match=r"in\.txt:6: byte 0x00 is not utf-16-le"):
            records(whole(path), encoding="utf-16-le", read_bytes=3)

    @pytest.mark.parametrize("encoding", ["nosuch", "rot13", "base64", "u\0"])
    def test_an_unknown_encoding_is_refused(self, tmp_path: Path, encoding: str) -> None:
        path = write(tmp_path, b"a\n")
        with pytest.raises(BadInput, match="is not a text encoding"):
            records(whole(path), encoding=encoding)


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


class TestChangedFiles:
    def test_a_file_that_is_gone_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(BadInput, match="gone cannot be read: No such file or directory"):
            records(Split(0, (FileRange(str(tmp_path / "gone"), 0, 5, 5),)))

    @pytest.mark.parametrize("suffix", ["txt", "gz", "zst"])
    def test_a_file_that_shrank_is_refused(self, tmp_path: Path, suffix: str) -> None:
        data = COMPRESSORS.get(suffix, bytes)(b"a\nb\n")
        path = write(tmp_path, data, f"in.{suffix}")
        length = len(data) + 3
        split = Split(0, (FileRange(str(path), 0, length if suffix == "txt" else -1, length),))
        with pytest.raises(BadInput, match="inputs must not change while a job runs"):
            records(split)

    def test_a_file_that_grew_is_read_as_it_was(self, tmp_path: Path) -> None:
        path = write(tmp_path, b"a\nb\nc\nd\n")
        assert records(Split(0, (FileRange(str(path), 0, 3, 3),))) == [(0, "a"), (2, "b")]
