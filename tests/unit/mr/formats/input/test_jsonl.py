"""JSON Lines: objects with their offsets, and what is refused."""

from pathlib import Path

import pytest

from mr.errors import BadInput
from tests.support.reading import batch_records, planned_records, records, whole, write


class TestJsonLines:
    def test_objects_come_with_their_offsets_and_blank_lines_are_skipped(self, tmp_path: Path) -> None:
        path = write(
            tmp_path, '\ufeff{"a": [1, 2.5, null]}\r\n\n  \n"ä"\n12345678901234567890123\ntrue'.encode()
        )
        expected = [(0, {"a": [1, 2.5, None]}), (30, "ä"), (35, 12345678901234567890123), (59, True)]
        assert records(whole(path), "jsonl") == expected
        assert planned_records([str(path)], "jsonl", maps=5) == expected

    def test_a_file_of_a_byte_order_mark_has_no_records(self, tmp_path: Path) -> None:
        assert records(whole(write(tmp_path, b"\xef\xbb\xbf")), "jsonl") == []

    @pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
    @pytest.mark.parametrize("line", [b"{'a': 1}", b"[1", b"[" * 100_000, b"1 2"])
    def test_what_is_not_json_is_named_by_file_and_offset(
        self, tmp_path: Path, line: bytes, encoding: str
    ) -> None:
        path = write(tmp_path, b'{"a": 1}\n\n' + line + b"\n2\n")
        with pytest.raises(BadInput, match=r"in:10: not a JSON value: ."):
            records(whole(path), "jsonl", read_bytes=1_000_000, encoding=encoding)

    @pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
    def test_half_a_surrogate_pair_is_a_string_as_pythons_own_parser_has_it(
        self, tmp_path: Path, encoding: str
    ) -> None:
        lines = [r'{"a": "\ud800"}', r'"\uDC00x"', r'["\ud83d\ude00", "\ud800\u0041"]', r'"\\ud800"']
        path = write(tmp_path, "\n".join(lines).encode())
        values = [value for _, value in records(whole(path), "jsonl", encoding=encoding)]
        assert values == [{"a": "\ud800"}, "\udc00x", ["\U0001f600", "\ud800A"], r"\ud800"]

    @pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
    @pytest.mark.parametrize("line", [r'"\ud800', r'["\ud800" 1]', r'["\ud800", 1e999]', "NaN", "1e999"])
    def test_what_python_alone_takes_is_refused(self, tmp_path: Path, line: str, encoding: str) -> None:
        path = write(tmp_path, f'"a"\n{line}\n'.encode())
        with pytest.raises(BadInput, match=r"in:4: not a JSON value: ."):
            records(whole(path), "jsonl", encoding=encoding)

    def test_bytes_that_are_no_text_follow_the_encoding_flags(self, tmp_path: Path) -> None:
        path = write(tmp_path, b'"a"\n"\xff"\n')
        with pytest.raises(BadInput, match=r"in:5: byte 0xff is not utf-8"):
            records(whole(path), "jsonl")
        assert records(whole(path), "jsonl", encoding_errors="replace") == [(0, "a"), (4, "\ufffd")]
        assert records(whole(path), "jsonl", encoding_errors="surrogateescape") == [(0, "a"), (4, "\udcff")]
        assert records(whole(path), "jsonl", encoding="latin-1") == [(0, "a"), (4, "ÿ")]

    def test_batches_hold_structs(self, tmp_path: Path) -> None:
        path = write(tmp_path, b'{"a": 1, "b": "x"}\n{"a": 2, "b": null}\n')
        expected = [(0, {"a": 1, "b": "x"}), (19, {"a": 2, "b": None})]
        assert batch_records(whole(path), "jsonl") == expected

    def test_batches_refuse_what_is_no_column(self, tmp_path: Path) -> None:
        path = write(tmp_path, b'1\n"a"\n')
        with pytest.raises(BadInput, match=r"in:0: no Arrow column holds these records .*use map_fn"):
            batch_records(whole(path), "jsonl", read_bytes=100)
