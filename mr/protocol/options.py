"""The options of a job: one table, from which flags, `mr.Job`, the JSON Schema and the documents are made.

`JobOptions` is the table. Each field carries its type with its bounds, and in `option(...)` its help, unit,
default and flag. A new option is one more field; `JobSpec.options` then has its value.
"""

from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, Never, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from mr.protocol.bad_records import SkipLimit
from mr.protocol.bounds import MAX_BYTES, MAX_TASKS, Natural, Seconds
from mr.protocol.formats import InputFormatName, OutputFormatName

EncodingErrors = Literal["strict", "replace", "surrogateescape"]

Count = Annotated[int, Meta(ge=1, le=MAX_TASKS)]
OptionalCount = Annotated[int, Meta(ge=0, le=MAX_TASKS)]
Priority = Annotated[int, Meta(ge=0, le=4)]
Weight = Annotated[float, Meta(gt=0, le=1000)]
Attempts = Annotated[int, Meta(ge=1, le=100)]
#: A number of bytes, or text such as `64MiB`.
Size = (
    Annotated[int, Meta(ge=1, le=MAX_BYTES)]
    | Annotated[str, Meta(pattern=r"^\s*[0-9.]+\s*([KMGTkmgt]i?)?[Bb]?\s*$", max_length=32)]
)
#: A number of seconds, or text such as `90s`, `10m`, `2h`.
Duration = Seconds | Annotated[str, Meta(pattern=r"^\s*[0-9.]+\s*(ms|s|m|h|d)?\s*$", max_length=32)]

#: The three types in which options as given differ from options as resolved: what an option has that was not
#: given, and how sizes and durations are written.
NotGiven = TypeVar("NotGiven")
Bytes = TypeVar("Bytes")
Time = TypeVar("Time")
#: The default of every field: an option that was not given.
_NOT_GIVEN: Any = None


class Option(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the table."""

    help: str
    #: What the option is when nothing gives it. UNSET: the value of `setting`.
    default: Any = UNSET
    #: The default in words, where its value does not tell it.
    default_text: str = ""
    #: Name of the setting whose value is the default.
    setting: str = ""
    unit: Literal["", "bytes", "seconds"] = ""
    #: The flag, where it is not named as the field.
    flag: str = ""
    short_flag: str = ""
    metavar: str = ""
    #: Whether user functions meet the same data whatever it is.
    scheduling: bool = False
    #: The field of JobOptions, and what may be given, with its bounds; None where it may be left out.
    name: str = ""
    type: Any = None


def option(help: str, **described: Any) -> Meta:
    """Describe a field of JobOptions by the fields of Option."""
    return Meta(description=help, extra={"option": Option(help=help, **described)})


class JobOptions(
    msgspec.Struct,
    Generic[NotGiven, Bytes, Time],
    frozen=True,
    omit_defaults=True,
    forbid_unknown_fields=True,
    kw_only=True,
):
    """Everything that tunes a job. Flags > request > the job file's JOB > defaults.

    The names are those of the command's flags and of the JSON request.
    """

    name: Annotated[
        Annotated[str, Meta(max_length=200)] | NotGiven,
        option("What to call the job.", default="", default_text="the job file's name", scheduling=True),
    ] = _NOT_GIVEN
    maps: Annotated[
        Count | None,
        option(
            "Wanted number of map tasks; the split size follows from it.",
            default=None,
            default_text="as many as split_size gives",
            short_flag="-m",
            scheduling=True,
        ),
    ] = _NOT_GIVEN
    reduces: Annotated[
        OptionalCount | None,
        option(
            "Number of reduce tasks, and so of output parts; 0 = map only.",
            default=None,
            default_text="as many as maps, at most the setting default_reduces",
            short_flag="-r",
            scheduling=True,
        ),
    ] = _NOT_GIVEN
    split_size: Annotated[
        Bytes | NotGiven,
        option("Input of one map task, such as 64MiB.", unit="bytes", setting="split_bytes"),
    ] = _NOT_GIVEN
    input_format: Annotated[InputFormatName | NotGiven, option("Format of the input.", default="text")] = (
        _NOT_GIVEN
    )
    output_format: Annotated[OutputFormatName | NotGiven, option("Format of the output.", default="text")] = (
        _NOT_GIVEN
    )
    encoding: Annotated[
        Annotated[str, Meta(max_length=64)] | NotGiven,
        option("Encoding of text input, as Python names it.", default="utf-8"),
    ] = _NOT_GIVEN
    encoding_errors: Annotated[
        EncodingErrors | NotGiven,
        option("What to do with input bytes that are not valid text.", default="strict"),
    ] = _NOT_GIVEN
    max_record_bytes: Annotated[
        Bytes | NotGiven,
        option(
            "Longest line of text, jsonl or csv input; a longer one is a bad record. For these formats only.",
            default=64 * 1024 * 1024,
            default_text="64MiB",
            unit="bytes",
        ),
    ] = _NOT_GIVEN
    skip_bad_records: Annotated[
        SkipLimit | None,
        option(
            "Skip this many bad records of the whole job, or this share of all it reads, and list them.",
            default=None,
            default_text="none: a bad record fails the job",
            metavar="N|P%",
            scheduling=True,
        ),
    ] = _NOT_GIVEN
    priority: Annotated[
        Priority | NotGiven, option("Priority of the job; 4 goes first.", default=2, scheduling=True)
    ] = _NOT_GIVEN
    weight: Annotated[
        Weight | NotGiven,
        option(
            "Share of the workers against jobs of the same priority.",
            default=1.0,
            default_text="1",
            scheduling=True,
        ),
    ] = _NOT_GIVEN
    max_attempts: Annotated[
        Attempts | NotGiven,
        option("Tries of a task before the job fails.", setting="max_attempts", scheduling=True),
    ] = _NOT_GIVEN
    task_timeout: Annotated[
        Time | NotGiven,
        option(
            "Longest one attempt may run, such as 10m; 0 = no limit.",
            unit="seconds",
            setting="task_timeout_seconds",
        ),
    ] = _NOT_GIVEN
    task_memory: Annotated[
        Bytes | NotGiven,
        option("Memory of one task, such as 1GiB.", unit="bytes", setting="task_memory_bytes"),
    ] = _NOT_GIVEN
    params: Annotated[
        dict[str, str] | NotGiven,
        option(
            'Parameter of the job, read as mr.param("K"). Repeatable.',
            default={},
            default_text="none",
            flag="--param",
            metavar="K=V",
        ),
    ] = _NOT_GIVEN


#: Options as a user gives them: None = not given, sizes and durations as written.
GivenOptions = JobOptions[None, Size, Duration]


@cache
def option_table() -> tuple[Option, ...]:
    """Every option of a job, in the order of the fields of JobOptions."""
    return tuple(_row(field) for field in msgspec.structs.fields(GivenOptions))


def _row(field: Any) -> Option:
    described: Option = field.type.__metadata__[-1].extra["option"]
    default_text = "" if described.default is UNSET else f"{described.default}"
    return msgspec.structs.replace(
        described,
        name=field.name,
        type=field.type,
        flag=described.flag or "--" + field.name.replace("_", "-"),
        metavar=described.metavar or {"bytes": "SIZE", "seconds": "TIME"}.get(described.unit, ""),
        default_text=described.default_text or default_text,
    )


if TYPE_CHECKING:
    #: Options as a job runs with them: all have a value, sizes are bytes, durations seconds.
    ResolvedOptions = JobOptions[Never, int, float]
else:
    ResolvedOptions = msgspec.defstruct(
        "ResolvedOptions",
        [
            (field.name, field.type) if row.default is UNSET else (field.name, field.type, row.default)
            for row, field in zip(
                option_table(),
                msgspec.structs.fields(JobOptions[UnsetType, Natural, Seconds]),
                strict=True,
            )
        ],
        module=__name__,
        frozen=True,
        kw_only=True,
    )
