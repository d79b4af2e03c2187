"""The formats of input and output, and what must be known of each before its module is imported.

Format NAME is read by `mr/formats/input/NAME.py` and written by `mr/formats/output/NAME.py`. To add a
format, write its module and one line here. Pure.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args


@dataclass(slots=True, frozen=True)
class InputFormat:
    """How files of a format are read."""

    #: Whether a file may be cut into ranges of bytes; `lines`: at line ends, so not in a compressed file
    #: nor in an encoding whose line end is not the one byte 0x0A.
    splittable: Literal["always", "lines", "never"]
    #: Import name of the optional package it needs; `pip install 'mrmq[NAME]'` installs it.
    package: str = ""


@dataclass(slots=True, frozen=True)
class OutputFormat:
    """How output parts of a format are written."""

    #: End of a part's file name.
    suffix: str
    #: Whether a part is lines of text; other parts are shown through the input format of the same name.
    lines: bool = True
    #: Import name of the optional package it needs; `pip install 'mrmq[NAME]'` installs it.
    package: str = ""


InputFormatName = (
    Annotated[Literal["text"], InputFormat(splittable="lines")]
    | Annotated[Literal["jsonl"], InputFormat(splittable="lines")]
    | Annotated[Literal["csv"], InputFormat(splittable="never")]
    | Annotated[Literal["parquet"], InputFormat(splittable="always")]
    | Annotated[Literal["binary"], InputFormat(splittable="never")]
    | Annotated[Literal["avro"], InputFormat(splittable="always", package="fastavro")]
)

OutputFormatName = (
    Annotated[Literal["text"], OutputFormat(suffix="")]
    | Annotated[Literal["jsonl"], OutputFormat(suffix=".jsonl")]
    | Annotated[Literal["csv"], OutputFormat(suffix=".csv")]
    | Annotated[Literal["parquet"], OutputFormat(suffix=".parquet", lines=False)]
    | Annotated[Literal["avro"], OutputFormat(suffix=".avro", lines=False, package="fastavro")]
)


def _by_name(names: Any) -> dict[str, Any]:
    """Map the name on each line of a union to what is annotated there."""
    return {get_args(name)[0]: found for name, found in map(get_args, get_args(names))}


INPUT_FORMATS: dict[str, InputFormat] = _by_name(InputFormatName)
OUTPUT_FORMATS: dict[str, OutputFormat] = _by_name(OutputFormatName)

if not TYPE_CHECKING:  # one Literal: a plain `enum` in the JSON Schema of a request
    InputFormatName = Literal[tuple(INPUT_FORMATS)]
    OutputFormatName = Literal[tuple(OUTPUT_FORMATS)]
