"""Text parts: how keys and values are shown."""

from enum import StrEnum
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from mr.errors import UnencodableValue
from mr.formats.output.part_writer import PartWriter
from mr.protocol.formats import OutputFormatName
from tests.support.writing import FORMATS, table, written


class Colour(StrEnum):
    RED = "red"

    def __str__(self) -> str:
        return "rouge"


class TestText:
    @pytest.mark.parametrize(
        ("item", "shown"),
        [
            ("wört", "wört".encode()),
            ("a\tb", b"a\tb"),
            (b"\xff\x00a", b"\xff\x00a"),
            (bytearray(b"\xfe"), b"\xfe"),
            ("\udcff", b"\xff"),
            (None, b"None"),
            (True, b"True"),
            (-(10**30), b"-1000000000000000000000000000000"),
            (0.1, b"0.1"),
            (1e16, b"1e+16"),
            (float("nan"), b"nan"),
            ((1, "a", b"b"), b"(1, 'a', b'b')"),
            ([1, [None]], b"[1, [None]]"),
            ({"a": 1}, b"{'a': 1}"),
            ({10, 9, 8}, b"{8, 9, 10}"),
            (set(), b"set()"),
            (frozenset({"b", "a"}), b"frozenset({'a', 'b'})"),
            (frozenset(), b"frozenset()"),
            (({2, 1},), b"({1, 2},)"),
            ({"k": [{"b", "a"}]}, b"{'k': [{'a', 'b'}]}"),
            ({frozenset({2}), frozenset({1})}, b"{frozenset({1}), frozenset({2})}"),
            ({1, "a", None}, b"{None, 1, 'a'}"),
            (Colour.RED, b"rouge"),
        ],
    )
    def test_how_one_object_is_shown(self, tmp_path: Path, item: Any, shown: bytes) -> None:
        assert (
            written(tmp_path / "part", "text", ([item, "x"], [1, item]))
            == shown + b"\t1\nx\t" + shown + b"\n"
        )

    def test_an_empty_part_has_no_bytes(self, tmp_path: Path) -> None:
        assert written(tmp_path / "part", "text", ([], [])) == b""

    @pytest.mark.parametrize(
        ("keys", "values", "types"),
        [
            (["a", "ä", ""], [1, -2, 3], ()),
            ([1, 2, 3], [0.1, 1e16, float("inf")], ()),
            ([b"\xff", b"", b"x"], [True, False, True], ()),
            ([None, "a", "b"], [None, None, None], ()),
            ([0.5, 2.0, -0.0], [[1], [], [2, 3]], ()),
            (["a", "b", "c"], [1, 2, 3], (pa.large_string(), pa.int32())),
            ([b"a", b"b", b"c"], [1, None, 3], (pa.large_binary(), pa.uint8())),
        ],
    )
    @pytest.mark.parametrize("output_format", FORMATS)
    def test_pairs_and_tables_give_the_same_bytes(
        self,
        tmp_path: Path,
        keys: list[Any],
        values: list[Any],
        types: tuple[Any, ...],
        output_format: OutputFormatName,
    ) -> None:
        if output_format == "jsonl" and b"\xff" in keys:
            keys = [b"f", b"", b"x"]
        whole = table(keys, values, *types)
        parts = [
            written(tmp_path / "pairs", output_format, (keys, values)),
            written(tmp_path / "slices", output_format, (keys[:1], values[:1]), (keys[1:], values[1:])),
            written(tmp_path / "table", output_format, whole),
            written(tmp_path / "tables", output_format, whole.slice(0, 2), whole.slice(2)),
            written(tmp_path / "batch", output_format, whole.to_batches()[0]),
        ]
        assert parts == parts[:1] * len(parts)

    def test_a_lone_surrogate_is_named(self, tmp_path: Path) -> None:
        writer = PartWriter(str(tmp_path / "part"), "text")
        with pytest.raises(UnencodableValue, match=r"lone surrogate '\\ud800'.*here"):
            writer.write_pairs(["here\ud800"], [1])
        writer.abort()

    def test_an_integer_of_too_many_digits_is_named(self, tmp_path: Path) -> None:
        for values in ([10**5000], [10**5000, b""]):
            writer = PartWriter(str(tmp_path / "part"), "text")
            with pytest.raises(UnencodableValue, match="cannot be shown as text"):
                writer.write_pairs(["k"] * len(values), values)
            writer.abort()
