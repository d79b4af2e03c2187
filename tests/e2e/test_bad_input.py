"""Wrong use and broken jobs, embedded: one clear message, the right exit code, nothing left behind."""

import gzip
import os
from pathlib import Path

import pytest

from tests.support.commands import Commands, no_traceback_of_ours, one_line, write_job

GOOD_MAP = ("def map_fn(offset, line):", "    yield line, 1", "")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """An input of three lines; the second begins at byte 6."""
    path = tmp_path / "input.txt"
    path.write_bytes(b"first\nsecond\nthird\n")
    return path


def refuse(mr: Commands, job: Path, source: Path | str, *flags: object, code: int = 2) -> bytes:
    """Run a job that must not succeed; returns its error output, after finding nothing left behind."""
    output = mr.directory / "output"
    done = mr.run("run", job, source, "-o", output, *flags)
    assert done.returncode == code, f"exit code {done.returncode}:\n{done.stderr.decode()}"
    assert not output.exists(), f"{output} was left behind"
    assert mr.leftovers() == []
    no_traceback_of_ours(done.stderr)
    return done.stderr


def test_missing_input(mr: Commands, tmp_path: Path) -> None:
    job = write_job(tmp_path / "job.py", *GOOD_MAP)
    one_line(refuse(mr, job, tmp_path / "absent.txt", "-r", 0), "absent.txt")


def test_glob_without_match(mr: Commands, tmp_path: Path) -> None:
    job = write_job(tmp_path / "job.py", *GOOD_MAP)
    one_line(refuse(mr, job, f"{tmp_path}/*.nothing", "-r", 0), "*.nothing")


def test_unreadable_input(mr: Commands, tmp_path: Path, source: Path) -> None:
    job = write_job(tmp_path / "job.py", *GOOD_MAP)
    source.chmod(0)
    output = mr.directory / "output"
    options = {}
    if os.geteuid() == 0:  # root reads everything, unless it gives that capability up
        drop = "-dac_override,-dac_read_search"
        options = {"prefix": ("setpriv", f"--bounding-set={drop}")}
    done = mr.run("run", job, source, "-o", output, "-r", 0, **options)
    assert done.returncode == 2, done.stderr.decode()
    one_line(done.stderr, str(source), "ermission")
    assert not output.exists()
    assert mr.leftovers() == []


def test_missing_job_file(mr: Commands, tmp_path: Path, source: Path) -> None:
    one_line(refuse(mr, tmp_path / "absent.py", source), "absent.py")


@pytest.mark.parametrize(
    ("lines", "parts"),
    [
        (("def map_fn(offset, line):", "    yield line, 1)"), ("line 2",)),
        (("def reduce_fn(key, values):", "    yield key, 1"), ("map_fn",)),
        (("def mapper_fn(offset, line):", "    yield line, 1"), ("mapper_fn", "map_fn")),
        (("def map_fn(line):", "    yield line, 1"), ("map_fn", "parameter")),
        (("map_fn = 3",), ("map_fn",)),
        (("import no_such_module_at_all", *GOOD_MAP), ("no_such_module_at_all",)),
        (("raise SystemExit(0)",), ("SystemExit",)),
        ((*GOOD_MAP, "JOB = {'reduces': 2}"), ("JOB", "mr.Job")),
        (("import mr", *GOOD_MAP, "JOB = mr.Job(reduce=2)"), ("reduce",)),
        (("import mr", *GOOD_MAP, "JOB = mr.Job(reduces='many')"), ("reduces",)),
    ],
    ids=[
        "syntax error",
        "no map_fn",
        "misspelt",
        "parameters",
        "not callable",
        "import error",
        "exits",
        "JOB is a dict",
        "unknown option",
        "wrong option",
    ],
)
def test_job_file_is_refused(
    mr: Commands, tmp_path: Path, source: Path, lines: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    job = write_job(tmp_path / "job.py", *lines)
    one_line(refuse(mr, job, source), "job.py", *parts)


def test_output_that_is_not_empty_is_kept(mr: Commands, tmp_path: Path, source: Path) -> None:
    job = write_job(tmp_path / "job.py", *GOOD_MAP)
    output = tmp_path / "output"
    output.mkdir()
    (output / "precious").write_text("mine")
    done = mr.run("run", job, source, "-o", output, "-r", 0)
    assert done.returncode == 2
    one_line(done.stderr, str(output), "not empty")
    assert [p.name for p in output.iterdir()] == ["precious"]
    assert (output / "precious").read_text() == "mine"
    assert mr.leftovers() == []


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        (("--output-format", "xml"), ("xml", "--output-format")),
        (("--reduces", "-1"), ("reduces",)),
        (("--maps", "many"), ("--maps",)),
        (("--split-size", "64 parsecs"), ("64 parsecs",)),
        (("--priority", "9"), ("priority",)),
        (("--param", "no-equals-sign"), ("--param",)),
        (("--no-such-flag",), ("--no-such-flag",)),
        (("--encoding", "klingon"), ("klingon",)),
    ],
    ids=lambda value: value[0].strip("-") if isinstance(value, tuple) else None,
)
def test_unknown_flag_value(
    mr: Commands, tmp_path: Path, source: Path, flags: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    job = write_job(tmp_path / "job.py", *GOOD_MAP)
    one_line(refuse(mr, job, source, *flags), *parts)


def test_wrong_setting(tmp_path: Path, source: Path) -> None:
    mr = Commands(tmp_path / "home", settings={"MR_LEASE_SECONDS": "soon"})
    job = write_job(tmp_path / "job.py", *GOOD_MAP)
    one_line(refuse(mr, job, source), "lease_seconds")


def test_a_variable_that_is_no_setting_is_told_and_stops_nothing(tmp_path: Path, source: Path) -> None:
    others = {"MR_NO_SUCH_THING": "soon", "MR_BROKER_PORT": "tcp://10.0.0.1:5672"}
    mr = Commands(tmp_path / "home", settings=others)
    job = write_job(tmp_path / "job.py", *GOOD_MAP)
    done = mr.succeed("run", job, source, "-o", tmp_path / "out", "--quiet")
    one_line(done.stderr, "ignored", "MR_NO_SUCH_THING")


@pytest.mark.parametrize(
    ("statement", "parts"),
    [
        ("yield line", ("map_fn", "pair")),
        ("yield line, 1, 2", ("map_fn", "pair")),
        ("yield {line: 1}, 1", ("key", "dict")),
        ("yield object(), 1", ("key", "object")),
        ("yield line, object()", ("value", "object")),
        ("raise ValueError('bad luck')", ("map_fn", "ValueError", "bad luck")),
    ],
    ids=["no pair", "triple", "dict as key", "object as key", "object as value", "exception"],
)
@pytest.mark.parametrize("reduces", [0, 2])
def test_wrong_record_is_named(
    mr: Commands, tmp_path: Path, source: Path, statement: str, parts: tuple[str, ...], reduces: int
) -> None:
    lines = (
        "def map_fn(offset, line):",
        "    if line == 'second':",
        f"        {statement}",
        "    yield line, 1",
    )
    job = write_job(tmp_path / "job.py", *lines, "def reduce_fn(key, values):", "    yield key, sum(values)")
    errors = refuse(mr, job, source, "-r", reduces, "--max-attempts", 2, code=1).decode()
    for part in (*parts, f"{source}:6"):
        assert part in errors, f"{part!r} is not in:\n{errors}"


def test_failing_reducer_names_its_key(mr: Commands, tmp_path: Path, source: Path) -> None:
    job = write_job(
        tmp_path / "job.py", *GOOD_MAP, "def reduce_fn(key, values):", "    yield key, 1 // (key != 'second')"
    )
    errors = refuse(mr, job, source, "--max-attempts", 1, code=1).decode()
    for part in ("reduce_fn", "ZeroDivisionError", "second", "job.py"):
        assert part in errors, f"{part!r} is not in:\n{errors}"


def test_bytes_that_are_not_utf8_are_named(mr: Commands, tmp_path: Path) -> None:
    source = tmp_path / "latin.txt"
    source.write_bytes(b"plain\ncaf\xe9\n")
    job = write_job(tmp_path / "job.py", *GOOD_MAP)
    errors = refuse(mr, job, source, "-r", 0, "--max-attempts", 1, code=1).decode()
    assert str(source) in errors
    assert "9" in errors, "the offset of the wrong byte is not named"


def test_truncated_gzip_is_named(mr: Commands, tmp_path: Path) -> None:
    source = tmp_path / "text.gz"
    source.write_bytes(gzip.compress(b"some words\n" * 1000)[:-20])
    job = write_job(tmp_path / "job.py", *GOOD_MAP)
    errors = refuse(mr, job, source, "-r", 0, "--max-attempts", 1, code=1).decode()
    assert str(source) in errors


def test_killed_process_is_told_by_its_signal(mr: Commands, tmp_path: Path, source: Path) -> None:
    job = write_job(
        tmp_path / "job.py",
        "import os, signal",
        "",
        *GOOD_MAP[:1],
        "    os.kill(os.getpid(), signal.SIGKILL)",
    )
    errors = refuse(mr, job, source, "-r", 0, "--max-attempts", 2, code=1).decode()
    assert "SIGKILL" in errors or "signal 9" in errors, errors


@pytest.mark.parametrize("where", ["import", "map_fn"])
def test_a_gigabyte_of_prints_is_bounded(mr: Commands, tmp_path: Path, source: Path, where: str) -> None:
    shout = (
        "import os",
        "def shout():",
        "    for _ in range(1024):",
        "        os.write(1, b'x' * (1 << 20))",
    )
    call = ("shout()",) if where == "import" else ()
    body = "    shout()" if where == "map_fn" else "    noop = None"
    job = write_job(
        tmp_path / "job.py", *shout, *call, "def map_fn(offset, line):", body, "    yield line, 1"
    )
    one = tmp_path / "one.txt"
    one.write_text("only\n")
    output = tmp_path / "output"
    done = mr.succeed("run", job, one, "-o", output, "-r", 0)
    assert (output / "part-00000").read_text() == "only\t1\n"
    assert len(done.stdout) + len(done.stderr) < 1_000_000
    assert mr.leftovers() == []
