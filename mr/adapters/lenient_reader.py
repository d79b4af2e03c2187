"""Stored records that another version wrote: one that cannot be read must not hide the others."""

import logging
from collections.abc import Iterable
from typing import TypeVar

from mr.errors import BadMessage
from mr.protocol.codec import unpack
from mr.protocol.ids import is_id

T = TypeVar("T")

log = logging.getLogger(__name__)

#: Records remembered as told of.
_TOLD = 1000


class LenientReader:
    """Decodes records among others of their kind, and says once of each that cannot be read."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def read(self, data: bytes | BadMessage, kind: type[T], what: str) -> T | None:
        """Decode a record; None, and a line in the log that begins with `what`, when that fails.

        It failed before for a BadMessage in place of the data.
        """
        try:
            if isinstance(data, BadMessage):
                raise data
            return unpack(data, kind)
        except BadMessage as error:
            self.tell(what, error)
            return None

    def ids(self, names: Iterable[bytes], what: str) -> list[str]:
        """Decode the ids that an index holds; others are left out, with a line in the log."""
        found = []
        for name in names:
            text = name.decode(errors="backslashreplace")
            if is_id(text):
                found.append(text)
            else:
                self.tell(f"{what} {text!r}", BadMessage("that is not an id"))
        return found

    def tell(self, what: str, error: BadMessage) -> None:
        """Log that something is left out, once."""
        if what not in self._told:
            if len(self._told) >= _TOLD:
                self._told.clear()
            self._told.add(what)
            log.error("%s is left out: %s", what, error)
