"""The records of an input that are not mapped: which ones, and why."""

import os
from collections.abc import Iterable
from typing import Any

import msgspec

from mr.error_text import bounded, safe_repr
from mr.errors import BadInput
from mr.formats import storage
from mr.protocol.bad_records import (
    MAX_TASK_BAD_RECORDS,
    MESSAGE_CHARACTERS,
    RECORD_CHARACTERS,
    BadRecord,
    first_line,
    position_of,
)
from mr.protocol.failures import FailureKind
from mr.protocol.jobs import FileRange


class MalformedRecord(BadInput):
    """The input holds a record that is not of its format. Mend it, or allow some: --skip-bad-records N."""


class TooManyBadRecords(BadInput):
    """There are more bad records than --skip-bad-records allows. Look at the first, or allow more."""


class BadRecords:
    """Decides of each record of a split whether it is mapped, and collects those that are skipped.

    A range that names its records (`FileRange.only`) gives no others, whatever they hold. Without `skip` a
    malformed record raises MalformedRecord; with it, more than `most` of them raise TooManyBadRecords.
    """

    def __init__(
        self, *, skip: bool = False, most: int = MAX_TASK_BAD_RECORDS, known: Iterable[BadRecord] = ()
    ) -> None:
        """`known`: records that are to be skipped because map_fn fails over them."""
        self.skip = skip
        self._most = most
        self._known: dict[str, dict[int, BadRecord]] = {}
        for record in known:
            self._known.setdefault(record.path, {})[record.position] = record
        #: Those met so far.
        self.found: list[BadRecord] = []
        self._path = ""
        self._facts: dict[str, Any] = {}
        self._wanted: frozenset[int] = frozenset()
        self._left = 0
        self._here: dict[int, BadRecord] = {}

    def begin(self, piece: FileRange) -> None:
        """Turn to the next range of the split."""
        self._path = piece.path
        self._wanted = frozenset(piece.only)
        self._left = len(self._wanted)
        self._here = self._known.get(piece.path, {})
        self._facts = {"path": piece.path, "file_bytes": piece.file_bytes}
        if self.skip:
            self._facts["modified"] = modified(piece.path)

    @property
    def tolerant(self) -> bool:
        """Whether a malformed record of this range may be passed over."""
        return self.skip or bool(self._wanted)

    @property
    def selective(self) -> bool:
        """Whether not all records of this range are mapped."""
        return bool(self._wanted or self._here)

    @property
    def done(self) -> bool:
        """Whether all records that the range names were met."""
        return bool(self._wanted) and self._left <= 0

    def refuse(self, position: int, message: str, data: bytes | str = b"") -> None:
        """Pass over a malformed record, which begins with `data`. Raises MalformedRecord if it may not."""
        if self._wanted:
            if position not in self._wanted:
                return
            self._left -= 1
        if not self.skip:
            raise MalformedRecord(message)
        self.note(
            BadRecord(position=position, kind=FailureKind.BAD_INPUT, message=message, **self._facts), data
        )

    def takes(self, key: Any, value: Any) -> bool:
        """Whether to map a record."""
        position = position_of(key)
        if self._wanted:
            if position not in self._wanted:
                return False
            self._left -= 1
        known = self._here.get(position)
        if known is None:
            return True
        self.note(msgspec.structs.replace(known, **self._facts), value)
        return False

    def failed(self, key: Any, value: Any, **cause: Any) -> BadRecord:
        """Note a record of this range over which map_fn failed."""
        return self.note(BadRecord(position=position_of(key), **cause, **self._facts), value)

    def note(self, record: BadRecord, value: Any) -> BadRecord:
        """Collect a bad record that holds, or begins with, `value`. Raises TooManyBadRecords."""
        record = msgspec.structs.replace(
            record, record=excerpt(value, record), message=bounded(record.message, MESSAGE_CHARACTERS)
        )
        self.found.append(record)
        if len(self.found) > self._most:
            raise TooManyBadRecords(
                f"one map task has more than {self._most} bad records; the first: {first_line(self.found[0])}"
            )
        return record


def excerpt(value: Any, record: BadRecord) -> str:
    """The beginning of a record as text; nothing of a file that is one record."""
    if hasattr(value, "as_py"):  # of an Arrow batch
        value = value.as_py()
    if isinstance(value, bytes):
        if record.kind is not FailureKind.BAD_INPUT:  # of a whole file: no other format gives bytes
            return ""
        value = value[:RECORD_CHARACTERS].decode("utf-8", "backslashreplace")
    if not isinstance(value, str):
        value = safe_repr(value, RECORD_CHARACTERS)
    text: str = value[:RECORD_CHARACTERS].rstrip("\r\n")
    return text.encode("utf-8", "backslashreplace").decode()


def modified(path: str) -> float:
    """When a local file was changed, in seconds since the epoch; 0 for a URL or a file that is gone."""
    local = storage.local_path(path)
    if local is None:
        return 0.0
    try:
        return os.stat(local).st_mtime  # noqa: PTH116 - a str, since it may be a URL
    except OSError:
        return 0.0
