"""The tutorial up to the cluster, typed as it stands: each command prints what the page says."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.support.documents import ROOT

TUTORIAL = (ROOT / "docs/tutorial.md").read_text()


def test_the_embedded_part(tmp_path: Path) -> None:
    steps = TUTORIAL.partition("## 2. ")[2].partition("## 7. ")[0]
    files = iter((_write_log, _write_job, _skip_bad_lines, _add_combiner))
    asked = 0
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```$", steps, re.DOTALL | re.MULTILINE):
        if language == "python":
            next(files)(tmp_path, block)
            continue
        for command, printed in re.findall(r"^\$ (.+)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE):
            assert _normal(_typed(command, tmp_path), tmp_path) == _normal(printed, tmp_path), command
            asked += 1
    assert asked > 8
    assert next(files, None) is None


def _write_log(directory: Path, block: str) -> None:
    (directory / "make_log.py").write_text(block)


def _write_job(directory: Path, block: str) -> None:
    (directory / "access.py").write_text(block)


def _skip_bad_lines(directory: Path, block: str) -> None:
    job = (directory / "access.py").read_text()
    after = "    fields = line.split()\n"
    assert after in job
    (directory / "access.py").write_text(job.replace(after, after + block))


def _add_combiner(directory: Path, block: str) -> None:
    with (directory / "access.py").open("a") as job:
        job.write(f"\n\n{block}")


def _typed(command: str, directory: Path) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environ = {"PATH": path, "HOME": str(directory), "LANG": "C.UTF-8", "COLUMNS": "200"}
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=directory,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout


def _normal(text: str, directory: Path) -> list[str]:
    """The lines, without what differs from run to run and from place to place."""
    text = text.replace(str(directory), "/tmp/tutorial")
    text = re.sub(r"access-\d{8}-\d{6}-[0-9a-f]{6}", "JOB", text)
    text = re.sub(r"done in [\d.]+ s", "done in TIME", text)
    return [line.rstrip() for line in text.strip().splitlines()]
