"""A job file is looked at in a process of its own: whatever it does there, one line comes out of it."""

import os
import signal
from pathlib import Path

import pytest

import mr.agg
from mr.errors import BadJob
from mr.protocol.aggregation import AggregationSpec
from mr.protocol.jobs import CodeManifest
from mr.protocol.options import JobOptions
from mr.workers.usercode.inspect import inspect_in_subprocess, inspect_job

CODE_ID = "sha256:" + "0" * 64
MAP = "def map_fn(key, value):\n    yield value, 1\n"
LIMIT_SECONDS = 30.0


def inspected(directory: Path, source: str, seconds: float = LIMIT_SECONDS, **params: str) -> CodeManifest:
    (directory / "job.py").write_text(source)
    return inspect_in_subprocess(directory, "job.py", CODE_ID, seconds, params)


def refusal(directory: Path, source: str, seconds: float = LIMIT_SECONDS) -> str:
    with pytest.raises(BadJob) as caught:
        inspected(directory, source, seconds)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_manifest(tmp_path: Path) -> None:
    source = (
        "import mr\nprint('hello')\n" + MAP + "reduce_fn = mr.agg.sum\n"
        "def map_init(): ...\nJOB = mr.Job(name='words', reduces=3)\n"
    )
    manifest = inspected(tmp_path, source)
    assert set(manifest.map_side) == {"map_fn", "map_init"}
    assert manifest == CodeManifest(
        code_id=CODE_ID,
        entry="job.py",
        functions=("map_fn", "reduce_fn", "map_init"),
        reduce_agg=AggregationSpec("sum"),
        combine_agg=None,
        options=JobOptions(name="words", reduces=3),
        map_side=manifest.map_side,
    )


def test_in_this_process_too(tmp_path: Path) -> None:
    (tmp_path / "job.py").write_text(MAP + "import mr\nreduce_fn = combine_fn = mr.agg.max\n")
    manifest = inspect_job(tmp_path, "job.py", CODE_ID)
    assert manifest.reduce_agg == manifest.combine_agg == mr.agg.max.spec


def test_refusal_crosses_the_process_border(tmp_path: Path) -> None:
    assert "job.py, line 1: SyntaxError" in refusal(tmp_path, "def map_fn(:\n")
    assert "rename it to map_fn" in refusal(tmp_path, "def mapper_fn(k, v): ...\n")


def test_param_at_import(tmp_path: Path) -> None:
    source = "import mr\nWORD = mr.param('word')\n" + MAP
    assert "--param word=VALUE" in refusal(tmp_path, source)
    assert inspected(tmp_path, source, word="cat").functions == ("map_fn",)


@pytest.mark.parametrize(
    ("source", "parts"),
    [
        ("import os\nprint('so long', flush=True)\nos._exit(0)\n", ("exit code 0", "os._exit", "so long")),
        ("import os\nos.kill(os.getpid(), 11)\n", ("signal 11 (SIGSEGV)",)),
        ("import os\nos.close(1)\nos.close(2)\nos._exit(7)\n", ("exit code 7",)),
    ],
    ids=["exit", "signal", "closes everything"],
)
def test_process_that_ends_itself(tmp_path: Path, source: str, parts: tuple[str, ...]) -> None:
    text = refusal(tmp_path, source)
    for part in parts:
        assert part in text


def test_import_that_never_ends_is_stopped_with_its_children(tmp_path: Path) -> None:
    source = (
        "import subprocess, sys, pathlib\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()'])\n"
        f"pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(child.pid))\n"
        "child.wait()\n"
    )
    text = refusal(tmp_path, source, seconds=2.0)
    assert "did not finish its import within 2 s" in text
    assert is_gone(int((tmp_path / "pid").read_text()))


def is_gone(pid: int) -> bool:
    """Whether a process has ended; a killed child of a killed parent may linger as a zombie."""
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (ProcessLookupError, FileNotFoundError):
        return True
    return state == "Z" or not os.kill(pid, signal.SIGKILL)


def test_what_it_prints_is_read_but_not_kept(tmp_path: Path) -> None:
    source = "for _ in range(64):\n    print('x' * 1_000_000)\n"
    assert inspected(tmp_path, source + MAP).functions == ("map_fn",)


def test_threads_and_daemons_left_behind_hold_nothing_up(tmp_path: Path) -> None:
    source = (
        "import os, signal, subprocess, sys, threading\n"
        "if os.fork() == 0:\n    signal.pause()\n"
        "threading.Thread(target=threading.Event().wait).start()\n"
        "subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()'])\n"
    )
    assert inspected(tmp_path, source + MAP).functions == ("map_fn",)


def test_modules_of_the_working_directory_are_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "json.py").write_text("raise RuntimeError('shadowed')\n")
    (tmp_path / "mr.py").write_text("raise RuntimeError('shadowed')\n")
    code = tmp_path / "code"
    code.mkdir()
    monkeypatch.chdir(tmp_path)
    assert inspected(code, MAP).functions == ("map_fn",)


def test_the_job_file_sees_no_password_of_the_servers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MR_BROKER_URL", "amqp://u:sesame@host/")
    monkeypatch.setenv("MR_JOB_KEPT", "kept")
    source = "import os\nassert 'sesame' not in str(os.environ) and os.environ['MR_JOB_KEPT'] == 'kept'\n"
    assert inspected(tmp_path, source + MAP).functions == ("map_fn",)
