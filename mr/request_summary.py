"""A short summary of what a request asks for, to see whether another request of the same id differs."""

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

from mr.error_text import safe_repr
from mr.errors import BadSetting
from mr.protocol.jobs import JobRequest
from mr.protocol.options import option_table
from mr.settings import PARSERS

#: Longest value that is kept whole; of a longer one the beginning and a hash are kept.
_VALUE_CHARACTERS = 200
#: Fields of a request that do not describe the work.
_LEFT_OUT = ("version", "job_id")
#: Options with a unit, which are written in several ways that mean one thing.
_UNITS = {option.name: option.unit for option in option_table() if option.unit}


def request_summary(request: JobRequest) -> dict[str, str]:
    """Field -> value of all that the request gives; equal for requests that ask for the same work.

    Code is compared by the name in the request: registering new code under a name keeps it the same job.
    Of secrets only the names are kept, as the summary is stored in the job's record and shown.
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
