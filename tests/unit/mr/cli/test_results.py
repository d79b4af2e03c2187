"""What `mr results --cat` and `--head` print of a job's parts."""

from pathlib import Path
from typing import Any

import pytest

from mr.cli.results import _print_content
from mr.formats.output.part_writer import PartWriter
from mr.protocol.formats import OUTPUT_FORMATS
from mr.protocol.ids import TaskId
from mr.protocol.part_names import part_name
from mr.protocol.records import Manifest, ManifestPart


def manifest(directory: Path, output_format: Any, *parts: tuple[list[Any], list[Any]]) -> Manifest:
    written = []
    for index, pairs in enumerate(parts):
        path = directory / part_name(index, output_format)
        writer = PartWriter(str(path), output_format)
        writer.write_pairs(*pairs)
        summary = writer.close()
        task = TaskId(f"reduce-{index:05d}")
        written.append(ManifestPart(task, 1, str(path), summary.rows, summary.bytes, summary.checksum))
    return Manifest(1, "j", "job", 0.0, 0, 0, tuple(written), {})  # type: ignore[arg-type]


@pytest.mark.parametrize("output_format", OUTPUT_FORMATS)
@pytest.mark.parametrize("head", [None, 3])
def test_pairs_are_shown_in_order_of_parts(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes], output_format: str, head: int | None
) -> None:
    found = manifest(tmp_path, output_format, (["ä", "b"], [[1, None], []]), (["c", "d"], [[2], [3]]))
    _print_content(found, head)
    printed = capfdbinary.readouterr().out.splitlines()
    if OUTPUT_FORMATS[output_format].lines:
        whole = b"".join((tmp_path / part_name(index, output_format)).read_bytes() for index in (0, 1))  # type: ignore[arg-type]
        assert printed == whole.splitlines()[:head]
    else:
        expected = ["ä\t[1, None]", "b\t[]", "c\t[2]", "d\t[3]"][:head]
        assert [line.decode() for line in printed] == expected
