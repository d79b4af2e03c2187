"""The page of faults against the tests that bear a fault marker: neither may have what the other lacks."""

import json
import subprocess
import sys
from dataclasses import astuple

import pytest

from tests.support.fault_matrix import NO_SERVER, PAGE, ROOT, Row, parse, proven, render, rows_of

ROW = Row("worker killed", "before ack", "the report comes again", "tests/e2e/test_a.py::test_b[c]")
OTHER = Row("worker frozen", "mid-map", "its result is refused", "tests/e2e/test_a.py::test_d")


def test_the_page_shows_each_marked_test_and_no_other() -> None:
    command = [sys.executable, "-m", "tests.support.fault_matrix", "--list"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    marked = {Row(*json.loads(line)) for line in done.stdout.decode().splitlines()}
    shown = set(parse(PAGE.read_text()))
    assert sorted(marked - shown) == [], "run these tests, then `make fault-matrix`"
    assert sorted(shown - marked) == [], "run `make fault-matrix`"


def test_the_page_is_as_it_is_rendered() -> None:
    text = PAGE.read_text()
    assert render(parse(text)) == text, "run `make fault-matrix`; the page is not edited by hand"


def test_a_page_is_read_as_it_was_written() -> None:
    rows = {ROW: {"Redis 7.0.15", "RabbitMQ 3.10.8"}, OTHER: set[str]()}
    text = render(rows)
    assert NO_SERVER in text
    assert parse(text) == rows


def _line(row: Row, passed: bool, *seen: str) -> str:
    return json.dumps({"row": astuple(row), "passed": passed, "seen": seen})


def test_what_passed_joins_the_page_and_what_failed_leaves_it() -> None:
    page = {ROW: {"Redis 7.0.15"}, OTHER: set[str]()}
    assert proven(page, [_line(ROW, True, "Redis 8.0.6"), _line(OTHER, False)]) == {
        ROW: {"Redis 7.0.15", "Redis 8.0.6"}
    }
    assert proven({}, [_line(ROW, False), _line(ROW, True, "Redis 8.0.6")]) == {ROW: {"Redis 8.0.6"}}


@pytest.mark.parametrize(
    "marker",
    [
        pytest.mark.fault("worker killed", phase="a", outcome="b"),
        pytest.mark.fault(fault="worker killed", phase="a"),
        pytest.mark.fault(fault="worker killed", phase="a", outcome=""),
        pytest.mark.fault(fault="worker | killed", phase="a", outcome="b"),
    ],
)
def test_a_malformed_marker_is_refused(request: pytest.FixtureRequest, marker: pytest.MarkDecorator) -> None:
    item = request.node
    assert list(rows_of(item)) == []
    item.add_marker(marker)
    try:
        with pytest.raises(pytest.UsageError):
            list(rows_of(item))
    finally:
        item.own_markers.remove(marker.mark)
