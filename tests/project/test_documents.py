"""The documents against the code: generated sections, links, and each command, flag, setting, path named."""

import re
from pathlib import Path

import pytest

from mr.cli.app import application
from mr.settings import SECRET_VARIABLES, Settings
from tests.support.documents import ROOT, anchors, documents, links, render, sections
from tests.support.reference import SECTIONS, every_command

DOCUMENTS = [pytest.param(path, id=str(path.relative_to(ROOT))) for path in documents()]

#: Flags of other programs that the documents show.
FOREIGN_FLAGS = {"--check", "--recount", "--stat", "--ff-only"}
#: Variables of the tests, which are no settings.
TEST_VARIABLES = {"MR_TEST_MODEL_STEPS", "MR_TEST_BROKER_URL", "MR_TEST_REDIS_URL"}
#: Names of the rooms in the order in which calls go down.
ROOMS = ["coordinator", "broker", "daemon", "process", "task", "shuffle", "user code"]


@pytest.mark.parametrize("path", DOCUMENTS)
def test_generated_sections_are_current(path: Path) -> None:
    text = path.read_text()
    assert render(text) == text, "run `make docs`"


def test_every_generated_section_is_shown() -> None:
    shown = [name for path in documents() for name in sections(path.read_text())]
    assert sorted(shown) == sorted(SECTIONS)


@pytest.mark.parametrize("path", DOCUMENTS)
def test_links_lead_somewhere(path: Path) -> None:
    for link in links(path.read_text()):
        if "://" in link:
            continue
        target, _, anchor = link.partition("#")
        file = (path.parent / target).resolve() if target else path
        assert file.exists(), link
        if anchor:
            assert anchor in anchors(file.read_text()), link


def test_every_row_has_a_meaning() -> None:
    for name, make in SECTIONS.items():
        rows = [line for line in make().splitlines() if re.search(r"\|\s*\|$", line)]
        assert rows == [], name


def test_every_page_is_linked_from_the_index() -> None:
    index = ROOT / "docs" / "README.md"
    linked = {(index.parent / link.partition("#")[0]).resolve() for link in links(index.read_text())}
    assert {path for path in (ROOT / "docs").glob("**/*.md") if path != index} <= linked


@pytest.mark.parametrize("path", DOCUMENTS)
def test_commands_and_flags_exist(path: Path) -> None:
    text = path.read_text()
    known = {flag for _, c in every_command(application) for p in c.params for flag in p.opts}
    known |= {flag for p in application.params for flag in p.opts} | FOREIGN_FLAGS | {"--help", "--version"}
    named = set(re.findall(r"(?<=[\s`(/])--[a-z][a-z-]*[a-z]\b", _without_other_programs(text)))
    assert named <= known
    commands = set(
        re.findall(
            r"(?<=[`$] )mr ([a-z][a-z-]*)\b|`mr ([a-z][a-z-]*)\b|^mr ([a-z][a-z-]*) ", text, re.MULTILINE
        )
    )
    assert {name for match in commands for name in match if name} <= {*application.commands}


def _without_other_programs(text: str) -> str:
    """The text without code lines that call something other than `mr`."""
    return re.sub(
        r"^(?:\$ )?(?:amqp-publish|git|pip|docker|make|redis-cli|rabbitmqctl)\b.*$", "", text, flags=re.M
    )


@pytest.mark.parametrize("path", DOCUMENTS)
def test_settings_exist(path: Path) -> None:
    known = {f"MR_{name.upper()}" for name in Settings.__struct_fields__}
    named = set(re.findall(r"\bMR_[A-Z][A-Z_]*[A-Z]\b", path.read_text()))
    assert named <= known | set(SECRET_VARIABLES) | TEST_VARIABLES


@pytest.mark.parametrize("path", DOCUMENTS)
def test_files_named_exist(path: Path) -> None:
    named = re.findall(r"`((?:mr|coordinator|workers|tests|docs|examples)/[\w/.-]+\.\w+)`", path.read_text())
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_walks_never_go_back_up() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    walks = re.findall(r"^### (?:Map|Reduce|Down): .+?\n(.+?)(?=^##)", text, re.DOTALL | re.MULTILINE)
    assert len(walks) == 3
    for walk in walks:
        steps = re.findall(r"^\d+\. .+?(?=^\d+\. |\n\n|\Z)", walk, re.DOTALL | re.MULTILINE)
        assert len(steps) > 5
        way = [re.findall(r"\*\*([a-z ]+)\*\*", step) for step in steps]
        assert all(way)
        ranks = [ROOMS.index(room) for rooms in way for room in rooms]
        assert ranks == sorted(ranks)
        for step, rooms in zip(steps, way, strict=True):
            files = set(re.findall(r"`workers/(\w+)/", step))
            assert files <= {room.replace(" ", "") for room in rooms}, step
