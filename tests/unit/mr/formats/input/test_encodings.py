"""Encodings of text: what is decoded, replaced, and refused by file and offset."""

from pathlib import Path

import pytest

from mr.errors import BadInput
from tests.support.reading import batch_records, planned_records, records, whole, write


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
        with pytest.raises(BadInput, match=r"in:6: byte 0x00 is not utf-16-le"):
            records(whole(path), encoding="utf-16-le", read_bytes=3)

    @pytest.mark.parametrize("encoding", ["nosuch", "rot13", "base64", "u\0"])
    def test_an_unknown_encoding_is_refused(self, tmp_path: Path, encoding: str) -> None:
        path = write(tmp_path, b"a\n")
        with pytest.raises(BadInput, match="is not a text encoding"):
            records(whole(path), encoding=encoding)
