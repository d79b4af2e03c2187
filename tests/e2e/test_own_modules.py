"""A job's own modules may have the names of the repository's directories: only `mr` is taken."""

from pathlib import Path

import pytest

from tests.support.cluster import Cluster
from tests.support.commands import Commands, write_job

NAMES = ("workers", "coordinator", "tests")


@pytest.fixture
def arguments(tmp_path: Path) -> list[object]:
    """What `mr run` and `mr submit` are given: a job that uses each of its modules, included by name."""
    code = tmp_path / "code"
    code.mkdir()
    for name in NAMES:
        write_job(code / f"{name}.py", f"def in_{name}(word):", f"    return word + ' {name}'")
    job = write_job(
        code / "job.py",
        *(f"from {name} import in_{name}" for name in NAMES),
        "def map_fn(offset, line):",
        f"    return [(name(line), 1) for name in ({', '.join(f'in_{name}' for name in NAMES)})]",
        "def reduce_fn(word, counts):",
        "    yield word, sum(counts)",
    )
    source = tmp_path / "input.txt"
    source.write_text("seen\n")
    includes = [option for name in NAMES for option in ("--include", code / f"{name}.py")]
    return [job, source, "-o", tmp_path / "output", "-r", 1, *includes]


def check(output: Path) -> None:
    assert (output / "part-00000").read_text() == "".join(f"seen {name}\t1\n" for name in sorted(NAMES))


def test_embedded(mr: Commands, tmp_path: Path, arguments: list[object]) -> None:
    mr.succeed("run", *arguments)
    check(tmp_path / "output")


def test_on_a_cluster(cluster: Cluster, tmp_path: Path, arguments: list[object]) -> None:
    cluster.succeed("submit", *arguments, "--wait")
    check(tmp_path / "output")
