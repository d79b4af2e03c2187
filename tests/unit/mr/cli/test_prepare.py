"""From flags to a request: what is absolute, what wins, what is refused before anything starts."""

from pathlib import Path
from typing import Any

import click
import pytest

from mr.cli.prepare import parse_secrets, prepare_job
from mr.errors import BadJob
from mr.protocol.ids import is_id
from mr.protocol.options import option_table
from mr.settings import Settings

FLAGS: dict[str, Any] = {
    **{option.name: None for option in option_table()},
    "output": "out",
    "params": (),
    "secret_params": (),
    "includes": (),
    "job_id": None,
}


@pytest.fixture
def job_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "count.py"
    path.write_text(
        "import mr\nWANTED = mr.param('wanted', 'nothing')\n\ndef map_fn(key, line):\n    yield line, 1\n"
    )
    return path


def test_request_says_what_the_flags_say(job_file: Path, tmp_path: Path) -> None:
    flags = FLAGS | {"maps": 3, "split_size": "1MiB", "params": ("wanted=x",), "job_id": "mine"}
    prepared = prepare_job(job_file, ("in", "s3://bucket/x"), flags, Settings())
    request = prepared.request
    assert request.inputs == [str(tmp_path / "in"), "s3://bucket/x"]
    assert request.output == str(tmp_path / "out")
    assert (request.maps, request.split_size, request.params) == (3, "1MiB", {"wanted": "x"})
    assert (request.reduces, request.priority) == (None, None)
    assert request.job == prepared.bundle.code_id == prepared.manifest.code_id
    assert request.job_id == "mine"


def test_job_without_an_id_is_named_after_its_file(job_file: Path) -> None:
    job_id = prepare_job(job_file, ("in",), FLAGS, Settings()).request.job_id
    assert job_id is not None
    assert is_id(job_id)
    assert job_id.startswith("count-")


@pytest.mark.parametrize(
    ("inputs", "flags"),
    [
        (("caf\udce9",), {}),
        (("in",), {"output": "caf\udce9"}),
        (("in",), {"name": "caf\udce9"}),
        (("in",), {"params": ("place=caf\udce9",)}),
    ],
)
def test_text_that_no_message_can_hold_is_refused(
    job_file: Path, inputs: tuple[str, ...], flags: dict[str, Any]
) -> None:
    with pytest.raises(BadJob, match=r"caf\\udce9' is not UTF-8"):
        prepare_job(job_file, inputs, FLAGS | flags, Settings())


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"job_id": "../up"}, "--job-id"),
        ({"reduces": 3}, "no reduce_fn"),
        ({"encoding": "klingon"}, "klingon"),
    ],
)
def test_impossible_flags_are_refused(job_file: Path, flags: dict[str, Any], message: str) -> None:
    with pytest.raises(BadJob, match=message) as raised:
        prepare_job(job_file, ("in",), FLAGS | flags, Settings())
    assert "\n" not in str(raised.value)


def test_missing_module_is_found_before_submission(job_file: Path) -> None:
    (job_file.parent / "helper.py").write_text("")
    job_file.write_text("import helper\n" + job_file.read_text())
    with pytest.raises(BadJob, match="helper"):
        prepare_job(job_file, ("in",), FLAGS, Settings())
    prepare_job(job_file, ("in",), FLAGS | {"includes": (Path("helper.py"),)}, Settings())


def test_secrets_are_read_from_the_text_a_file_or_the_environment(
    job_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("from file\n")
    monkeypatch.setenv("TOKEN", "from environment")
    flags = FLAGS | {"secret_params": ("a=plain=x", "b=@token", "c=env:TOKEN"), "params": ("d=open",)}
    request = prepare_job(job_file, ("in",), flags, Settings()).request
    assert request.secret_params == {"a": "plain=x", "b": "from file", "c": "from environment"}
    assert request.params == {"d": "open"}


def test_the_job_file_reads_secrets_while_it_is_inspected(job_file: Path) -> None:
    job_file.write_text("import mr\nKEY = mr.param('key')\n\ndef map_fn(key, line):\n    yield line, 1\n")
    prepare_job(job_file, ("in",), FLAGS | {"secret_params": ("key=sesame",)}, Settings())


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (("sesame",), "not of the form"),
        (("=sesame",), "not of the form"),
        (("a=@no/sesame",), "cannot be read: No such file"),
        (("a=env:NO_SUCH_VARIABLE",), "a: there is no variable"),
    ],
)
def test_a_secret_that_cannot_be_read_is_refused(flags: tuple[str, ...], complaint: str) -> None:
    with pytest.raises(click.BadParameter) as caught:
        parse_secrets(flags)
    assert complaint in caught.value.message


def test_no_refusal_shows_a_secret(job_file: Path) -> None:
    for flags in (
        {"secret_params": ("key=sesame\udce9",)},
        {"secret_params": ("key=sesame",), "params": ("key=open",)},
    ):
        with pytest.raises(BadJob) as caught:
            prepare_job(job_file, ("in",), FLAGS | flags, Settings())
        assert "key" in str(caught.value) and "sesame" not in str(caught.value)
