"""README against the code: commands, flags, settings, job messages, examples."""

import json
import re
from pathlib import Path

import msgspec
import pytest

from mr.cli.app import application
from mr.protocol.codec import JSON, decode
from mr.protocol.jobs import JobOptions, JobRequest
from mr.settings import Settings, load_settings
from mr.workers.shuffle.aggregate import KERNELS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_every_command_is_in_the_table() -> None:
    table = README.partition("## Commands")[2].partition("## Settings")[0]
    named = set(re.findall(r"`mr ([a-z]+)", table)) - {"command"}
    assert named == set(application.commands)


def test_flags_of_run_and_submit_exist() -> None:
    for command in ("run", "submit"):
        known = {flag for p in application.commands[command].params for flag in p.opts}
        written = set(re.findall(r"(?<![\w-])(--[a-z][a-z-]+|-[a-z])(?=[ /`\s])", _flags_paragraph()))
        assert written
        assert written <= known


def _flags_paragraph() -> str:
    start = README.index("`-m/--maps")
    return README[start : README.index("Exit codes:", start)]


@pytest.mark.parametrize("row", re.findall(r"^\| `(MR_[A-Z_]+)` \| `([^`]*)`", README, re.MULTILINE))
def test_settings_have_the_defaults_told(row: tuple[str, str]) -> None:
    name, default = row[0].removeprefix("MR_").lower(), row[1]
    assert getattr(load_settings({name: default}, environ={}), name) == getattr(Settings(), name)


def test_the_job_message_is_valid() -> None:
    text = README.partition("-b '")[2].partition("'\n")[0]
    request = decode(text.encode(), JobRequest, JSON)
    assert request.job == "words"
    assert set(json.loads(text)) <= set(JobRequest.__struct_fields__)


def test_aggregations_and_options_exist() -> None:
    told = re.search(r"`reduce_fn = mr.agg.sum` \| also `([a-z_ ]+)`", README)
    assert told
    assert {"sum", *told[1].split()} == set(KERNELS)
    options = re.search(r"that flags override: `([a-z_ ]+) \.\.\.`", README)
    assert options
    assert set(options[1].split()) <= {field.name for field in msgspec.structs.fields(JobOptions)}


def test_the_first_job_is_the_example() -> None:
    told: dict[str, object] = {}
    kept: dict[str, object] = {}
    exec(README.partition("```python\n")[2].partition("```")[0], told)
    exec((ROOT / "examples/wordcount/job.py").read_text(), kept)
    for functions in (told, kept):
        assert list(functions["map_fn"](0, "a b a")) == [("a", 1), ("b", 1), ("a", 1)]  # type: ignore[operator]
        assert list(functions["combine_fn"]("a", [1, 1])) == [("a", 2)]  # type: ignore[operator]


def test_files_named_exist() -> None:
    for name in re.findall(r"\]\(([A-Z]+\.md)\)", README):
        assert (ROOT / name).exists(), name
