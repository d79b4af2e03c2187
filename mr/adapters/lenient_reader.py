"""Reads records that another version may have written: an unreadable one must not hide the others."""

import logging
from collections.abc import Iterable
from typing import TypeVar

from mr.errors import BadMessage
from mr.protocol.codec import unpack
from mr.protocol.ids import is_id

T = TypeVar("T")

log = logging.getLogger(__name__)

#: Unreadable records remembered as logged.
_MAX_LOGGED = 1000


class LenientReader:
    """Decodes records that are read together, and logs each unreadable one once."""

    def __init__(self) -> None:
        self._logged: set[str] = set()

    def read(self, data: bytes | BadMessage, kind: type[T], what: str) -> T | None:
        """Decode a record. When that fails: None, and a line in the log that begins with `what`.

        A BadMessage in place of the data says that reading it has failed already.
        """
        try:
            if isinstance(data, BadMessage):
                raise data
            return unpack(data, kind)
        except BadMessage as error:
            self.tell(what, error)
            return None

    def ids(self, names: Iterable[bytes], what: str) -> list[str]:
        """Decode the ids that an index holds. What is no id is left out, with a line in the log."""
        found = []
        for name in names:
            text = name.decode(errors="backslashreplace")
            if is_id(text):
                found.append(text)
            else:
                self.tell(f"{what} {text!r}", BadMessage("that is not an id"))
        return found

    def tell(self, what: str, error: BadMessage) -> None:
        """Log once that something is left out."""
        if what not in self._logged:
            if len(self._logged) >= _MAX_LOGGED:
                self._logged.clear()
            self._logged.add(what)
            log.error("%s is left out: %s", what, error)
