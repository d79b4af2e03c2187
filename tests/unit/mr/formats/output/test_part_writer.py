"""Output parts of any format: their names, count, checksum, and files that cannot be written."""

import errno
from pathlib import Path

import fsspec
import pytest
import xxhash

from mr.formats.output.part_writer import OutputUnwritable, PartWriter
from mr.protocol.formats import OutputFormatName
from mr.protocol.part_names import part_name
from tests.support.writing import FORMATS, written


def test_parts_are_named_by_number_and_format() -> None:
    assert [part_name(3, output_format) for output_format in FORMATS] == [
        "part-00003",
        "part-00003.jsonl",
        "part-00003.csv",
        "part-00003.parquet",
        "part-00003.avro",
    ]


class TestFiles:
    @pytest.mark.parametrize("output_format", FORMATS)
    def test_a_url_gets_the_same_bytes(self, tmp_path: Path, output_format: OutputFormatName) -> None:
        pairs = (["a", "b"], [1, 2])
        local = written(tmp_path / "part", output_format, pairs)
        writer = PartWriter("memory://formats/part", output_format)
        writer.write_pairs(*pairs)
        summary = writer.close()
        assert fsspec.filesystem("memory").cat_file("/formats/part") == local
        assert summary.checksum == xxhash.xxh3_64(local).hexdigest()

    def test_large_parts_are_written_as_they_come(self, tmp_path: Path) -> None:
        path = tmp_path / "part"
        writer = PartWriter(str(path), "text")
        writer.write_pairs(["x" * 3_000_000], [1])
        assert path.stat().st_size == 3_000_003
        writer.close()

    @pytest.mark.parametrize("target", ["local", "memory"])
    @pytest.mark.parametrize("output_format", FORMATS)
    def test_abort_removes_the_file_and_may_be_repeated(
        self, tmp_path: Path, target: str, output_format: OutputFormatName
    ) -> None:
        path = str(tmp_path / "part") if target == "local" else "memory://formats/aborted"
        writer = PartWriter(path, output_format)
        writer.write_pairs(["x"], [1])
        writer.abort()
        writer.abort()
        assert not (tmp_path / "part").exists()
        assert not fsspec.filesystem("memory").exists("/formats/aborted")

    def test_a_directory_that_is_not_there_is_not_made(self, tmp_path: Path) -> None:
        with pytest.raises(
            OutputUnwritable, match=r"gone/part cannot be written: No such file or directory; .*every worker"
        ):
            PartWriter(str(tmp_path / "gone/part"), "text")
        assert list(tmp_path.iterdir()) == []

    def test_a_full_disk_is_an_os_error(self, tmp_path: Path) -> None:
        (tmp_path / "full").symlink_to("/dev/full")
        writer = PartWriter(str(tmp_path / "full"), "text")
        with pytest.raises(OSError) as caught:
            writer.write_pairs(["x" * 3_000_000], [1])
        assert caught.value.errno == errno.ENOSPC
        writer.abort()
        assert list(tmp_path.iterdir()) == []

    def test_lists_of_different_lengths_are_refused(self, tmp_path: Path) -> None:
        writer = PartWriter(str(tmp_path / "part"), "text")
        with pytest.raises(ValueError, match="2 keys for 1 values"):
            writer.write_pairs(["a", "b"], [1])
        writer.abort()
