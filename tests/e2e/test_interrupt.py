"""Ctrl-C and SIGTERM in the middle of an embedded job: it cleans up and exits with 130."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.commands import Commands, write_job
from tests.support.waiting import until

#: Says that it has begun, then takes for ever.
ENDLESS = (
    "import pathlib, time",
    "import mr",
    "",
    "def wait():",
    "    pathlib.Path(mr.param('begun')).touch()",
    "    while True:",
    "        time.sleep(0.1)",
    "",
)
IN_MAP = (*ENDLESS, "def map_fn(offset, line):", "    wait()", "    yield line, 1")
IN_REDUCE = (
    *ENDLESS,
    "def map_fn(offset, line):",
    "    yield line, 1",
    "",
    "def reduce_fn(key, values):",
    "    wait()",
    "    yield key, 1",
)


@pytest.mark.parametrize("lines", [IN_MAP, IN_REDUCE], ids=["map", "reduce"])
@pytest.mark.parametrize("whole_group", [True, False], ids=["terminal", "one process"])
def test_interrupt_cleans_up(mr: Commands, tmp_path: Path, lines: tuple[str, ...], whole_group: bool) -> None:
    job = write_job(tmp_path / "job.py", *lines)
    source = tmp_path / "input.txt"
    source.write_text("a\nb\n")
    begun = tmp_path / "begun"
    output = tmp_path / "output"
    process = mr.start(
        *("run", job, source, "-o", output, "--param", f"begun={begun}"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    until(begun.exists, "the job to begin")
    if whole_group:  # as a terminal does it: to every process of the group
        os.killpg(process.pid, signal.SIGINT)
    else:
        os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors.decode()
    assert b"Traceback" not in errors
    assert not output.exists()
    assert mr.leftovers() == []


def test_what_a_killed_run_left_is_cleared_by_the_next(mr: Commands, tmp_path: Path) -> None:
    endless = write_job(tmp_path / "endless.py", *IN_MAP)
    count = write_job(tmp_path / "count.py", "def map_fn(offset, line):", "    yield line, 1")
    source = tmp_path / "input.txt"
    source.write_text("a\nb\n")
    begun = tmp_path / "begun"
    process = mr.start("run", endless, source, "-o", tmp_path / "one", "--param", f"begun={begun}")
    until(begun.exists, "the job to begin")
    process.kill()
    process.wait(timeout=30)
    until(lambda: not mr.processes(), "the tasks of the killed run to end")
    assert mr.leftovers() != []
    mr.succeed("run", count, source, "-o", tmp_path / "two")
    assert mr.leftovers() == []
