"""What a request asked for, in bounded words: to tell whether another of the same id asks for the same."""

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

from mr.error_text import safe_repr
from mr.errors import BadSetting
from mr.protocol.jobs import JobRequest
from mr.protocol.options import option_table
from mr.settings import PARSERS

#: Longest value that is kept whole; of a longer one the beginning, and a hash of all of it.
_VALUE_CHARACTERS = 200
#: Of a request, what says nothing about the work: the id is the question, the version how it was put.
_LEFT_OUT = ("version", "job_id")
#: Options with a unit, which are written in several ways that mean one thing.
_UNITS = {option.name: option.unit for option in option_table() if option.unit}


def request_summary(request: JobRequest) -> dict[str, str]:
    """Field -> value of all that the request says; equal for requests that ask for the same work.

    Code is what the request calls it: a name means the same job when its code is registered anew. Secrets
    stand by their names alone, as this is kept in the job's record and shown.
    """
    summary = {}
    for name in request.__struct_fields__:
        value = getattr(request, name)
        if value is not None and name not in _LEFT_OUT:
            summary[name] = _bounded(_text(name, value))
    return summary


def differences(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """The fields in which two summaries differ, with both values."""
    named = [
        f"{name}: {before.get(name, 'not given')} before, {now.get(name, 'not given')} now"
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    ]
    return "; ".join(named)


def _text(name: str, value: Any) -> str:
    if name == "secret_params":
        return ", ".join(sorted(value))
    if name in _UNITS:
        try:
            return str(PARSERS[_UNITS[name]](value))
        except BadSetting:
            return safe_repr(value)  # refused later, with the reason
    if isinstance(value, str):
        return value
    return msgspec.json.encode(value, order="deterministic").decode()


def _bounded(text: str) -> str:
    if len(text) <= _VALUE_CHARACTERS:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{text[: _VALUE_CHARACTERS - 40]}... (sha256 {digest[:16]})"
