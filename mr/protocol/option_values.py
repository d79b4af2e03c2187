"""What the value of an option must be, in words. Pure."""

import re

from mr.protocol.options import option_table

#: Of options that are amounts, whose types hold patterns.
_AMOUNTS = {
    "bytes": "it must be a whole number of bytes from 1 on, or text such as '64MiB'",
    "seconds": "it must be a number of seconds from 0 on, or text such as '10m'",
}
#: Of others whose types hold patterns, by name.
_BY_NAME = {"skip_bad_records": "it must be a whole number from 1 on, or a share such as '0.1%'"}
_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "array": "a list",
    "object": "a table of names and values",
}
_BOUNDS = {">=": "at least", "<=": "at most", ">": "more than", "<": "less than"}
_EXPECTED = re.compile(r"Expected `([^`]+)`(?:( of length)? (>=|<=|>|<) ([^\s,]+))?(?:, got `\w+`)?")


def requirement(complaint: str) -> tuple[str, str]:
    """The place of a wrong value and what it must be, from what msgspec says of it.

    "Expected `int` >= 1 - at `$.maps`" gives `maps` and "it must be a whole number, at least 1". The place is
    empty where the complaint names none. What it says otherwise stays as it is.
    """
    text, _, place = complaint.partition(" - at ")
    path = place.rpartition("`$")[2].strip("`").removeprefix(".")
    units = {option.name: option.unit for option in option_table()}
    if (amount := _BY_NAME.get(path) or _AMOUNTS.get(units.get(path, ""))) is not None:
        return path, amount
    found = _EXPECTED.fullmatch(text)
    if found is None:
        return path, text.replace("`", "")
    kinds = [_KINDS.get(kind, kind) for kind in found[1].split(" | ") if kind != "null"]
    words = f"it must be {' or '.join(kinds)}"
    if found[3]:
        words += f", {_BOUNDS[found[3]]} {found[4].removesuffix('.0')}"
    return path, f"{words} characters" if found[2] else words
