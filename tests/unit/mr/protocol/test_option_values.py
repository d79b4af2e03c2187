"""A wrong value of an option is told without the words of a validator."""

import msgspec
import pytest

from mr.protocol.option_values import requirement
from mr.protocol.options import GivenOptions, option_table

ABSURD = [None, -1, 0, 1.5, 10**12, "", "x" * 300, "1 parsec", [], {}, {"a": 1}, {1: "a"}, True, float("nan")]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("maps", 0, "it must be a whole number, at least 1"),
        ("maps", "x", "it must be a whole number"),
        ("weight", float("nan"), "it must be a number, more than 0"),
        ("split_size", "1 parsec", "it must be a whole number of bytes from 1 on, or text such as '64MiB'"),
        ("task_timeout", [], "it must be a number of seconds from 0 on, or text such as '10m'"),
        ("skip_bad_records", "1 %", "it must be a whole number from 1 on, or a share such as '0.1%'"),
        ("name", "x" * 300, "it must be text, at most 200 characters"),
        ("params", [], "it must be a table of names and values"),
    ],
)
def test_a_wrong_value_is_told_in_words(name: str, value: object, words: str) -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert({name: value}, GivenOptions)
    assert requirement(str(caught.value)) == (name, words)


@pytest.mark.parametrize("name", [option.name for option in option_table()])
def test_no_value_of_any_option_is_told_in_the_validators_words(name: str) -> None:
    for value in ABSURD:
        try:
            msgspec.convert({name: value}, GivenOptions)
        except msgspec.ValidationError as error:
            path, words = requirement(str(error))
            assert path.startswith(name) and not any(mark in words for mark in "`$^|") and "null" not in words
