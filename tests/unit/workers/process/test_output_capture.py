"""What is kept of an attempt's output."""

import pytest

from mr.workers.process.output_capture import Printed


def test_little_output_is_kept_whole() -> None:
    printed = Printed(10)
    printed.add(b"12345")
    printed.add(b"67890")
    assert printed.text() == "1234567890"


@pytest.mark.parametrize("chunk", [1, 3, 7, 100])
def test_much_output_keeps_both_ends_however_it_arrives(chunk: int) -> None:
    stream = b"".join(b"%02d" % n for n in range(50))
    printed = Printed(9)
    for start in range(0, len(stream), chunk):
        printed.add(stream[start : start + chunk])
    assert printed.text() == "0001\n... 91 bytes left out ...\n74849"


def test_nothing_is_kept_when_nothing_may_be() -> None:
    printed = Printed(0)
    printed.add(b"abc")
    assert printed.text() == "\n... 3 bytes left out ...\n"


def test_the_last_lines_are_few() -> None:
    printed = Printed(1000)
    printed.add(b"".join(b"line %d\n" % n for n in range(50)))
    assert printed.last_lines(lines=2) == "line 48\nline 49"
    assert printed.last_lines(limit_bytes=5) == "e 49"


def test_bytes_that_are_not_text_are_shown_as_such() -> None:
    printed = Printed(10)
    printed.add(b"\xff!")
    assert printed.text() == "�!"
