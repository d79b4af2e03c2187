"""JSON Lines parts."""

import json
from pathlib import Path
from typing import Any

import pytest

from mr.errors import UnencodableKey, UnencodableValue
from mr.formats.output.part_writer import PartWriter
from tests.support.writing import written


class TestJsonLines:
    def test_pairs_are_objects(self, tmp_path: Path) -> None:
        keys = ["ä", b"b", (1, "x"), None, 1.5]
        values = [[1, (2, b"c")], {"a": {3, 1, 2}, 5: None, (1,): 2, None: 3}, 2**70, float("nan"), True]
        data = written(tmp_path / "part", "jsonl", (keys, values))
        assert [json.loads(line) for line in data.splitlines()] == [
            {"key": "ä", "value": [1, [2, "c"]]},
            {"key": "b", "value": {"a": [1, 2, 3], "5": None, "[1]": 2, "null": 3}},
            {"key": [1, "x"], "value": 2**70},
            {"key": None, "value": None},
            {"key": 1.5, "value": True},
        ]
        assert data.startswith('{"key":"ä","value":[1,[2,"c"]]}\n'.encode())

    @pytest.mark.parametrize("bad", [b"\xff", [b"\xff"], {"a": (b"\xff",)}, "\udcff", object()])
    def test_what_json_cannot_hold_is_named(self, tmp_path: Path, bad: Any) -> None:
        writer = PartWriter(str(tmp_path / "part"), "jsonl")
        with pytest.raises(UnencodableValue, match="JSON"):
            writer.write_pairs(["a", "b"], [1, bad])
        with pytest.raises(UnencodableKey, match="JSON"):
            writer.write_pairs(["a", bad], [1, 2])
        writer.abort()
