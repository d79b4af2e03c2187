"""The page docs/fault-matrix.md: which fault at which moment is proven by which test, on which servers.

Each test with a marker `fault(fault=..., phase=..., outcome=...)` leaves a line in
`.faults/outcomes.jsonl` when it has run (`note_outcome`, called by tests/conftest.py). `python -m
tests.support.fault_matrix` (`make fault-matrix`) writes the page: the markers of the tests that passed.
A row that the page has already stays, with the servers it was seen on, while its test bears the same
marker and has not failed since; so a page need not be made by one run.
"""

import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import astuple, dataclass
from pathlib import Path

import pytest

from tests.support import server_versions

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "fault-matrix.md"
OUTCOMES = ROOT / ".faults" / "outcomes.jsonl"

#: The tiers that run on real servers; a test elsewhere was seen on none.
SERVER_TIERS = ("tests/contract/", "tests/integration/", "tests/e2e/", "tests/faults/", "tests/soak/")
NO_SERVER = "no server needed"

_HEAD = """# Fault matrix

What strikes, when, what happens then, and the test that proves it. The page is made of the markers of
tests that passed (`make fault-matrix`), never typed; the last column names the servers on which the test
passed. Process faults at every named point and faults of servers and networks are in `tests/faults/`
(`make test-faults`). `tests/simulation/` asks the same questions of thousands of random orders of
events.
"""
_TABLE = "| when | what happens | test | seen on |\n| --- | --- | --- | --- |\n"


@dataclass(frozen=True, order=True)
class Row:
    """One fault marker of one test."""

    fault: str
    phase: str
    outcome: str
    test: str


def rows_of(item: pytest.Item) -> Iterator[Row]:
    """The fault markers of a test. Raises pytest.UsageError for a malformed one."""
    for marker in item.iter_markers("fault"):
        texts = [marker.kwargs.get(name) for name in ("fault", "phase", "outcome")]
        if marker.args or len(marker.kwargs) != 3 or not all(isinstance(t, str) and t for t in texts):
            raise pytest.UsageError(f"{item.nodeid}: a fault marker takes fault=, phase= and outcome=")
        if any(c in text for text in (*texts, item.nodeid) for c in "|\n"):
            raise pytest.UsageError(f"{item.nodeid}: no '|' and no line break in a fault marker")
        yield Row(*texts, item.nodeid)


def note_outcome(item: pytest.Item, report: pytest.TestReport) -> None:
    """Append to the outcomes how a marked test ended. Several processes may do so at once."""
    if report.skipped or not (report.when == "call" or report.failed):
        return
    rows = list(rows_of(item))
    if not rows:
        return
    on_servers = item.nodeid.startswith(SERVER_TIERS)
    seen = server_versions.in_use() if on_servers else ()
    lines = [json.dumps({"row": astuple(r), "passed": report.passed, "seen": seen}) for r in rows]
    OUTCOMES.parent.mkdir(exist_ok=True)
    with OUTCOMES.open("ab", buffering=0) as file:
        file.write("".join(f"{line}\n" for line in lines).encode())


def marked_tests() -> set[Row]:
    """The fault markers of all tests that exist."""
    files = [p for p in sorted((ROOT / "tests").rglob("test_*.py")) if _may_have_markers(p)]
    collected = _Collected()
    arguments = ["--collect-only", "-qq", "--rootdir", str(ROOT), *map(str, files)]
    with open(os.devnull, "w") as nowhere:
        out, sys.stdout = sys.stdout, nowhere
        try:
            code = pytest.main(arguments, plugins=[collected])
        finally:
            sys.stdout = out
    if code != pytest.ExitCode.OK:
        raise RuntimeError(f"the tests could not be collected: {code!r}")
    return collected.rows


def _may_have_markers(path: Path) -> bool:
    return path.is_relative_to(ROOT / "tests" / "faults") or "mark.fault" in path.read_text()


class _Collected:
    """Takes the fault markers of a session's tests."""

    def __init__(self) -> None:
        self.rows: set[Row] = set()

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Called by pytest with all collected tests."""
        self.rows.update(row for item in items for row in rows_of(item))


def proven(page: Mapping[Row, set[str]], outcomes: Iterable[str]) -> dict[Row, set[str]]:
    """What a page shows, brought up to date with outcomes: the servers each row was seen on."""
    found = {row: set(seen) for row, seen in page.items()}
    for line in outcomes:
        outcome = json.loads(line)
        row = Row(*outcome["row"])
        if outcome["passed"]:
            found.setdefault(row, set()).update(outcome["seen"])
        else:
            found.pop(row, None)
    return found


def render(rows: Mapping[Row, set[str]]) -> str:
    """The page."""
    parts = [_HEAD]
    fault = None
    for row in sorted(rows):
        if row.fault != fault:
            fault = row.fault
            parts.append(f"\n## {fault}\n\n{_TABLE}")
        seen = ", ".join(sorted(rows[row])) or NO_SERVER
        parts.append(f"| {row.phase} | {row.outcome} | `{row.test}` | {seen} |\n")
    return "".join(parts)


def parse(text: str) -> dict[Row, set[str]]:
    """The rows of a page, and the servers each was seen on."""
    rows: dict[Row, set[str]] = {}
    fault = ""
    for line in text.splitlines():
        if line.startswith("## "):
            fault = line.removeprefix("## ")
        elif line.startswith("| ") and not line.startswith(("| when |", "| --- |")):
            phase, outcome, test, seen = line.removeprefix("| ").removesuffix(" |").split(" | ")
            seen_on = set() if seen == NO_SERVER else {*seen.split(", ")}
            rows[Row(fault, phase, outcome, test.strip("`"))] = seen_on
    return rows


def main() -> None:
    """Write the page, and complain of marked tests that have not passed; with `--list`, print the markers."""
    marked = marked_tests()
    if sys.argv[1:] == ["--list"]:
        for row in sorted(marked):
            print(json.dumps(astuple(row)))
        return
    page = parse(PAGE.read_text()) if PAGE.exists() else {}
    outcomes = OUTCOMES.read_text().splitlines() if OUTCOMES.exists() else []
    rows = {row: seen for row, seen in proven(page, outcomes).items() if row in marked}
    PAGE.write_text(render(rows))
    print(f"{PAGE.relative_to(ROOT)}: {len(rows)} rows")
    missing = sorted({row.test for row in marked - rows.keys()})
    if missing:
        sys.exit("not shown, because not seen to pass; run them: " + " ".join(missing))


if __name__ == "__main__":
    main()
