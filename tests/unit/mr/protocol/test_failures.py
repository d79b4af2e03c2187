"""One cause is one group, whatever record it struck."""

from mr.protocol.failures import Failure, FailureKind

TRACEBACK = """Traceback (most recent call last):
  File "job.py", line {line}, in map_fn
    yield int(text), 1
ValueError: invalid literal for int() with base 10: {text!r}
"""


def failure(line: int, text: str) -> Failure:
    return Failure(
        FailureKind.USER_ERROR,
        f"map_fn failed: invalid literal {text!r}",
        function="map_fn",
        traceback=TRACEBACK.format(line=line, text=text),
    )


def test_the_record_in_an_errors_text_does_not_make_another_cause() -> None:
    assert failure(3, "x").signature == failure(3, "y").signature


def test_another_place_is_another_cause() -> None:
    assert failure(3, "x").signature != failure(4, "x").signature


def test_without_a_traceback_the_message_tells() -> None:
    killed = Failure(FailureKind.KILLED, "killed by signal 9", signal=9)
    assert killed.signature != Failure(FailureKind.KILLED, "over the time limit").signature
