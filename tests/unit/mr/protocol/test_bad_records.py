"""How many bad records a job may have, and how the option is written."""

import msgspec
import pytest

from mr.errors import BadJob
from mr.protocol.bad_records import (
    MAX_TASK_BAD_RECORDS,
    BadRecord,
    BadRecordLimit,
    first_line,
    position_of,
)
from mr.protocol.failures import FailureKind
from mr.protocol.options import GivenOptions
from mr.resolve import resolve_options
from mr.settings import Settings
from tests.support.specs import make_manifest


@pytest.mark.parametrize(
    ("given", "bad", "read", "exceeded"),
    [
        ("2", 2, None, False),
        (2, 3, None, True),
        ("2", 3, 1000, True),
        ("1%", 10, None, False),
        ("1%", 10, 1000, False),
        ("1%", 11, 1000, True),
        ("0.1%", 2, 1000, True),
        ("0%", 1, 1000, True),
        ("100%", 5, 5, False),
    ],
)
def test_a_number_is_exceeded_at_once_and_a_share_when_all_is_read(
    given: str | int, bad: int, read: int | None, exceeded: bool
) -> None:
    assert BadRecordLimit.of(given).exceeded(bad, read) is exceeded


def test_what_one_task_may_have_is_bounded_by_both() -> None:
    assert BadRecordLimit.of("7").of_one_task == 7
    assert BadRecordLimit.of("5%").of_one_task == MAX_TASK_BAD_RECORDS
    assert BadRecordLimit.of(10**9).of_one_task == MAX_TASK_BAD_RECORDS


@pytest.mark.parametrize("given", ["0", "-1", "1.5", "%", "1 %", "lots", 0, "1%%", "1000%"])
def test_an_impossible_limit_is_refused(given: str | int) -> None:
    with pytest.raises(BadJob, match="skip_bad_records"):
        resolve_options(GivenOptions(skip_bad_records=given), make_manifest(), Settings())


@pytest.mark.parametrize("given", ["3", 3, "0.5%", "100%"])
def test_a_limit_is_kept_as_it_was_written(given: str | int) -> None:
    options = resolve_options(GivenOptions(skip_bad_records=given), make_manifest(), Settings())
    assert msgspec.json.decode(msgspec.json.encode(options), type=type(options)).skip_bad_records == given


def test_a_record_in_one_bounded_line() -> None:
    record = BadRecord(path="/in", position=7, kind=FailureKind.KILLED, message="two\nlines " + "x" * 500)
    assert first_line(record).startswith("/in:7: two lines xxx")
    assert len(first_line(record)) == 300


def test_the_position_of_a_key() -> None:
    assert (position_of(12), position_of("a/file"), position_of(True)) == (12, 0, 0)
