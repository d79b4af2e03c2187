"""Values and errors as short, safe text for messages."""

import re

from mr.errors import MrError

_ADDRESS = re.compile(r" at 0x[0-9a-f]{6,}")
#: What a terminal may act on instead of showing it: C0, DEL, C1, line separators, marks that change the
#: direction of text; and lone surrogates, which no stream can write.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_SHORT_ESCAPES = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}


def printable(text: str) -> str:
    """Escape what a terminal would act on, except line ends and tabs; JSON stays the same JSON."""
    return _CONTROL.sub(lambda found: found[0] if found[0] in "\n\t" else _escape(found[0]), text)


def printable_line(text: str) -> str:
    """The same in one line: line ends and tabs are escaped, too."""
    return _CONTROL.sub(lambda found: _escape(found[0]), text)


def _escape(character: str) -> str:
    return _SHORT_ESCAPES.get(character) or f"\\u{ord(character):04x}"


def bounded(text: str, limit: int) -> str:
    """Cut the middle out of a text longer than `limit` characters."""
    if len(text) <= limit:
        return text
    half = (limit - 5) // 2
    return f"{text[:half]} ... {text[-half:]}"


def safe_repr(value: object, limit: int = 200) -> str:
    """Give `repr(value)` in at most `limit` characters, whatever the user's `__repr__` does.

    Memory addresses are left out, so that every attempt shows the same value in the same way.
    """
    if isinstance(value, str | bytes) and len(value) > limit:
        value = value[:limit]  # a huge key is not worth a huge repr
    try:
        return bounded(_ADDRESS.sub(" at 0x...", repr(value)), limit)
    except Exception as error:  # noqa: BLE001 - user code
        return f"<{type(value).__name__} whose __repr__ raised {type(error).__name__}>"


def safe_text(error: BaseException) -> str:
    """Give `str(error)`, or a note when the user's `__str__` itself fails."""
    try:
        return str(error)
    except Exception as second:  # noqa: BLE001 - user code
        return f"<its __str__ raised {type(second).__name__}>"


def error_text(error: BaseException) -> str:
    """Say why an operation failed: the system's text for an OSError, else the error's own."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def fault(error: BaseException) -> str:
    """Describe an unexpected error: the message of a MrError, of any other its type as well."""
    return str(error) if isinstance(error, MrError) else f"{type(error).__name__}: {error}"
