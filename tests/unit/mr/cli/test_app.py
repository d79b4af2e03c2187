"""The top of the command line: exit codes, one line for each error, settings and their origin."""

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest

from mr.cli import invoke
from mr.cli.app import application
from mr.cli.prepare import absolute_input, parse_params
from mr.cli.settings import hide_password
from mr.errors import BadInput, ClusterUnreachable, Interrupted, MrError


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (MrError("it went wrong"), 1, "mr: it went wrong\n"),
        (BadInput("no such file"), 2, "mr: no such file\n"),
        (ClusterUnreachable("gone"), 3, "mr: gone\n"),
        (Interrupted(), 130, "mr: interrupted\n"),
        (KeyboardInterrupt(), 130, "mr: interrupted\n"),
    ],
)
def test_errors_become_a_line_and_an_exit_code(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: MrError | KeyboardInterrupt,
    code: int,
    line: str,
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr("mr.resolve.job_json_schema", fail)
    assert invoke(["schema"]) == code
    assert capsys.readouterr().err == line


@pytest.mark.parametrize(
    "arguments",
    [["nonsense"], ["run"], ["run", "job.py", "in"], ["jobs", "--colour"], ["jobs", "--last", "0"]],
)
def test_wrong_use_exits_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(arguments) == 2
    assert capsys.readouterr().err.startswith("Usage: mr")


@pytest.mark.parametrize(
    ("flag", "value"),
    [("--split-size", "64 parsecs"), ("--task-memory", "1.2.3"), ("--task-timeout", "soon")],
)
def test_wrong_size_or_time_names_its_flag(flag: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["run", "job.py", "in", "-o", "out", flag, value]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert flag in last
    assert repr(value) in last


def test_help_of_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["--help"]) == 0
    listed = capsys.readouterr().out.split("Commands:\n")[1].splitlines()
    names = [line.split()[0] for line in listed]
    assert names == list(application.commands)
    for name in names:
        assert invoke([name, "--help"]) == 0
        assert f"Usage: mr {name}" in capsys.readouterr().out
    assert not any(line.endswith("...") for line in listed), "a summary is cut"


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["--version"]) == 0
    assert capsys.readouterr().out.startswith("mr 0.")


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys; from mr.cli import invoke; invoke(['--help']); "
        "heavy = {'pyarrow', 'numpy', 'pika', 'redis', 'aiohttp', 'fsspec'} & set(sys.modules); "
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_settings_tell_where_each_value_comes_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "cluster.toml"
    file.write_text('max_attempts = 7\nsplit_bytes = "1MiB"\nredis_url = "redis://from-file"\n')
    monkeypatch.setenv("MR_SPLIT_BYTES", "2MiB")
    monkeypatch.setenv("MR_BROKER_URL", "amqp://from-environment")
    url = "redis://:sesame@host/0"
    assert (
        invoke(["--redis-url", "redis://outer", "settings", "--config", str(file), "--redis-url", url]) == 0
    )
    printed = capsys.readouterr().out
    rows = {line.split()[0]: line.split()[1:] for line in printed.splitlines()}
    assert rows["max_attempts"] == ["7", str(file)]
    assert rows["split_bytes"] == [str(2 * 1024 * 1024), "MR_SPLIT_BYTES"]
    assert rows["broker_url"] == ["amqp://from-environment", "MR_BROKER_URL"]
    assert rows["redis_url"] == ["redis://:***@host/0", "command", "line"]
    assert rows["lease_seconds"] == ["10.0", "default"]
    assert "sesame" not in printed


def test_wrong_setting_names_its_source(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MR_LEASE_SECONDS", "soon")
    assert invoke(["jobs"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "the environment sets lease_seconds to 'soon'" in error


def test_an_unknown_variable_is_told_once_and_stops_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MR_LEASESECONDS", "5")
    monkeypatch.setenv("MR_BROKER_PORT", "tcp://10.0.0.1:5672")
    assert invoke(["settings"]) == 0
    told = "mr: ignored, as no setting has this name: MR_LEASESECONDS (did you mean MR_LEASE_SECONDS?)\n"
    assert capsys.readouterr().err == told


def test_a_url_from_a_file_is_told_as_such_and_its_password_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broker").write_text("amqps://u:sesame@host/")
    monkeypatch.delenv("MR_BROKER_URL", raising=False)
    monkeypatch.setenv("MR_BROKER_URL_FILE", str(tmp_path / "broker"))
    assert invoke(["settings"]) == 0
    printed = capsys.readouterr().out
    assert "MR_BROKER_URL_FILE" in printed and "sesame" not in printed


def test_missing_settings_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["jobs", "--config", str(tmp_path / "absent.toml")]) == 2
    assert "absent.toml cannot be read" in capsys.readouterr().err


def test_schema_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["schema"]) == 0
    assert json.loads(capsys.readouterr().out)["$id"] == "urn:mrmq:job-request:1"


def test_reader_that_went_away_is_no_error() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", "from mr.cli import main; main(['schema'])"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.close()
    _, errors = process.communicate()
    assert (process.returncode, errors) == (141, b"")


def test_params_are_split_at_the_first_equals_sign() -> None:
    assert parse_params(["a=1", "b=x=y", "c=", "a=2"]) == {"a": "2", "b": "x=y", "c": ""}
    for wrong in ("novalue", "=x"):
        with pytest.raises(click.BadParameter, match="K=V"):
            parse_params([wrong])


def test_inputs_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "odd[1]"
    here.mkdir()
    (here / "a.txt").touch()
    (here / "literal[x].txt").touch()
    monkeypatch.chdir(here)
    assert absolute_input("a.txt") == str(here / "a.txt")
    assert absolute_input("/data/*.txt") == "/data/*.txt"
    assert absolute_input("s3://bucket/a*") == "s3://bucket/a*"
    assert absolute_input("literal[x].txt") == str(here / "literal[x].txt")
    assert absolute_input("*.txt") == f"{tmp_path}/odd[[]1]/*.txt"
    with pytest.raises(BadInput, match="empty"):
        absolute_input("")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("amqp://user:secret@host:5672/%2F", "amqp://user:***@host:5672/%2F"),
        ("redis://:secret@host/0", "redis://:***@host/0"),
        ("amqp://user:a:b@host", "amqp://user:***@host"),
        ("amqp://user:a@b/c@host/v", "amqp://user:***@host/v"),
        ("redis://host/0?username=u&password=secret&db=1", "redis://host/0?username=u&password=***&db=1"),
        ("redis://host:6379/0", "redis://host:6379/0"),
    ],
)
def test_passwords_are_hidden(url: str, shown: str) -> None:
    assert hide_password(url) == shown
