"""Texts that others chose, on their way to a terminal."""

import json
import logging
import subprocess

import pytest

from mr.cli.failures import describe_end
from mr.cli.formatting import fields, table
from mr.cli.logging import configure_logging
from mr.cli.progress import ProgressLine
from mr.client import Snapshot
from mr.error_text import printable, printable_line
from mr.protocol.failures import Failure, FailureKind
from mr.protocol.ids import TaskId
from mr.protocol.records import FailureGroup, JobState
from mr.workers.usercode.failures import _word
from tests.support.job_records import job_record

#: Clears the screen, moves the cursor, turns the text round, ends the line, rings, breaks the stream.
EVIL = "a\x1b[2Jb\x9b1Ac\u202ed\x7fe\x07f\rg\ud800"
SHOWN = "a\\u001b[2Jb\\u009b1Ac\\u202ed\\u007fe\\u0007f\\rg\\ud800"


def obeyed(text: str) -> set[str]:
    """The characters of a text that a terminal would obey, line ends apart."""
    return {c for c in text if c != "\n" and (not c.isprintable() or c in "\u202e\u2066")} - {" "}


def test_what_a_terminal_would_obey_is_escaped() -> None:
    assert printable(EVIL) == printable_line(EVIL) == SHOWN
    assert printable("Zürich\t日本 🎉\n") == "Zürich\t日本 🎉\n"
    assert printable_line("a\nb\tc") == "a\\nb\\tc"


def test_json_stays_the_same_json() -> None:
    data = {"name": "a\x9b1A\x7f\u202e\x1b"}
    shown = printable(json.dumps(data, ensure_ascii=False, indent=2))
    assert not obeyed(shown)
    assert json.loads(shown) == data


def test_a_cell_neither_moves_the_cursor_nor_begins_a_line() -> None:
    assert table(("NAME",), [[EVIL]]) == f"NAME\n{SHOWN}"
    assert fields([("name", "x\nstate  COMPLETED")]) == "name  x\\nstate  COMPLETED"


def test_failures_and_progress_are_shown_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    import sys

    failure = Failure(
        FailureKind.USER_ERROR,
        EVIL,
        function="map_fn",
        traceback=f"Traceback\n{EVIL}",
        record=EVIL,
        reproduce=EVIL,
        output_tail=EVIL,
    )
    groups = (FailureGroup(failure, 1, (TaskId(EVIL),)),)
    record = job_record(state=JobState.FAILED, cause=EVIL, failures=groups, waiting_for=EVIL)
    assert not obeyed(describe_end(record))
    ProgressLine(sys.stdout, interactive=False).show(Snapshot(record, ()))
    assert not obeyed(capsys.readouterr().out)


def test_a_line_of_the_log_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info")
    try:
        raise ValueError(EVIL)
    except ValueError:
        logging.getLogger("mr").exception("job %s refused\n2026-01-01 INFO forged", EVIL)
    told = capsys.readouterr().err
    assert not obeyed(told)
    assert told.splitlines()[0].endswith(f"job {SHOWN} refused\\n2026-01-01 INFO forged")
    assert "Traceback" in told.splitlines()[1]


@pytest.mark.parametrize("word", ["plain", "it's", "a\\b", "a\x1b[2J'\\\nb\u202e"])
def test_a_command_that_is_shown_gives_bash_the_same_word(word: str) -> None:
    shown = _word(word)
    assert not obeyed(shown)
    said = subprocess.run(
        ["bash", "-c", f"printf %s {shown}"], capture_output=True, check=True, env={"LC_ALL": "C.UTF-8"}
    )
    assert said.stdout.decode() == word
