"""Bad records: those of the input that a job may skip, each with its place and its cause. Pure."""

import re
from dataclasses import dataclass
from typing import Annotated, Any, Final, Self

import msgspec
from msgspec import Meta

from mr.protocol.bounds import Attempt, Int64, Natural, Real
from mr.protocol.failures import FailureKind
from mr.protocol.ids import Incarnation

#: How many a job may skip: a number, or a share of the records it reads, such as `0.1%`.
SkipText = Annotated[str, Meta(pattern=r"^([1-9][0-9]{0,11}|[0-9]{1,3}(\.[0-9]{1,9})?%)$", max_length=16)]
SkipLimit = SkipText | Annotated[int, Meta(ge=1, le=10**12)]

#: The options that decide what the records of a file are.
READ_OPTIONS: Final = ("input_format", "encoding", "encoding_errors")
#: Most that one map task may skip, whatever the job's limit: it holds them in memory.
MAX_TASK_BAD_RECORDS: Final = 100_000
#: Characters that are kept of a record, and of a cause.
RECORD_CHARACTERS: Final = 1000
MESSAGE_CHARACTERS: Final = 1000
TRACEBACK_CHARACTERS: Final = 4000


class BadRecord(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One bad record: a line of a file in `OUT/_bad_records/`."""

    path: str
    #: Where it begins: the byte offset of its line (text, jsonl), the number of its row from 0 (csv, parquet,
    #: avro), 0 (binary).
    position: Natural
    kind: FailureKind
    #: What is wrong with it, or what happened when it was mapped.
    message: str
    function: str = ""
    traceback: str = ""
    #: Signal that ended the process; 0 for none.
    signal: Int64 = 0
    #: Its beginning; bytes that are not text as `\\xNN`. Empty for a file of format binary.
    record: str = ""
    #: Size of the file, and when it was changed (seconds since the epoch; 0 for a URL).
    file_bytes: Natural = 0
    modified: Real = 0.0


class BadRecordsFile(msgspec.Struct, frozen=True):
    """The list of bad records that one committed map attempt wrote. Its path follows from these facts."""

    attempt: Attempt
    incarnation: Incarnation
    records: Natural
    bytes: Natural
    #: xxh3-64 of the file's bytes, 16 hex digits.
    checksum: str
    #: The first of them, in one line.
    first: str


@dataclass(frozen=True, slots=True)
class BadRecordLimit:
    """How many bad records a whole job may have: a number, or a share of all records."""

    records: int | None = None
    share: float = 0.0

    @classmethod
    def of(cls, given: str | int) -> Self:
        """Read the option's value."""
        text = str(given)
        return cls(share=float(text[:-1]) / 100) if text.endswith("%") else cls(records=int(text))

    @property
    def of_one_task(self) -> int:
        """Most that one task may have: more than that is too many for the job as well, or for memory."""
        return min(MAX_TASK_BAD_RECORDS, MAX_TASK_BAD_RECORDS if self.records is None else self.records)

    def exceeded(self, bad: int, read: int | None) -> bool:
        """Whether `bad` records are too many; `read`: all records of the job, None while maps are open."""
        if self.records is not None:
            return bad > self.records
        return read is not None and bad > self.share * read


_SPACE = re.compile(r"\s+")


def first_line(record: BadRecord) -> str:
    """Name a bad record and its cause in one line of at most 300 characters."""
    return _SPACE.sub(" ", f"{record.path}:{record.position}: {record.message}")[:300]


def position_of(key: Any) -> int:
    """Where a record begins, as BadRecord says it: its key, or 0 for a whole file."""
    return key if type(key) is int else 0
