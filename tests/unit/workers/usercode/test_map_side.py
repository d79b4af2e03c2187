"""Which changes of a job file change what its maps make."""

from pathlib import Path

from mr.workers.usercode.functions import load
from mr.workers.usercode.map_side import map_side_digests

JOB = """
import mr
from functools import partial
def map_fn(key, line):
    yield line, 1
def _place(extra, key, partitions):
    return 0
partition_fn = partial(_place, 1)
combine_fn = mr.agg.sum
def reduce_fn(key, values):
    yield key, sum(values)
"""


def digests(directory: Path, text: str) -> dict[str, str]:
    directory.mkdir(exist_ok=True)
    (directory / "job.py").write_text(text)
    return map_side_digests(load(directory, "job.py"))


def test_only_functions_of_the_map_side_count(tmp_path: Path) -> None:
    before = digests(tmp_path / "before", JOB)
    assert set(before) == {"map_fn", "partition_fn"}
    repaired = digests(tmp_path / "repaired", JOB.replace("sum(values)", "2 * sum(values)"))
    assert repaired["map_fn"] == before["map_fn"]
    changed = digests(tmp_path / "changed", JOB.replace("line, 1", "line, 2"))
    assert changed["map_fn"] != before["map_fn"]


def test_comments_and_lines_above_change_nothing(tmp_path: Path) -> None:
    before = digests(tmp_path / "before", JOB)
    moved = digests(tmp_path / "moved", "\n\n" + JOB.replace("line, 1", "line, 1  # one"))
    assert moved["map_fn"] == before["map_fn"]


def test_a_function_without_a_text_of_its_own_stands_for_the_whole_file(tmp_path: Path) -> None:
    before = digests(tmp_path / "before", JOB)
    repaired = digests(tmp_path / "repaired", JOB.replace("sum(values)", "2 * sum(values)"))
    assert repaired["partition_fn"] != before["partition_fn"]
