"""The modules of the formats, imported at first use."""

from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol

from mr.errors import BadInput, BadJob
from mr.formats.input.options import ReadOptions, Rows
from mr.protocol.formats import INPUT_FORMATS, OUTPUT_FORMATS
from mr.protocol.jobs import FileRange


class InputModule(Protocol):
    """What `mr/formats/input/NAME.py` defines."""

    #: The records of a range as Python objects. Raises BadInput.
    read: Callable[[FileRange, ReadOptions], Iterator[Rows]]
    #: The same as (pyarrow.RecordBatch with columns key and value, consumed bytes). Raises BadInput.
    read_batches: Callable[[FileRange, ReadOptions], Iterator[tuple[Any, int]]]


class FormatWriter(Protocol):
    """Writes the pairs of one part in its format. Raises UnencodableKey and UnencodableValue."""

    def pairs(self, keys: Sequence[Any], values: Sequence[Any]) -> None:
        """Write pairs given as Python objects."""
        ...

    def table(self, table: Any) -> None:
        """Write pairs given as a pyarrow.Table or RecordBatch with columns key and value."""
        ...

    def end(self) -> None:
        """Write what closes the file."""
        ...


class OutputModule(Protocol):
    """What `mr/formats/output/NAME.py` defines."""

    #: Makes a writer into a file that is open for writing bytes.
    Writer: Callable[[Any], FormatWriter]


def input_module(name: str) -> InputModule:
    """Import the module that reads an input format."""
    return import_module(f"mr.formats.input.{name}")


def output_module(name: str) -> OutputModule:
    """Import the module that writes an output format."""
    return import_module(f"mr.formats.output.{name}")


def require_input(name: str) -> None:
    """Refuse an input format whose optional package is not installed here. Raises BadInput."""
    if missing := _missing(name, INPUT_FORMATS[name].package):
        raise BadInput(f"the input format {missing}")


def require_output(name: str) -> None:
    """Refuse an output format whose optional package is not installed here. Raises BadJob."""
    if missing := _missing(name, OUTPUT_FORMATS[name].package):
        raise BadJob(f"the output format {missing}")


def _missing(name: str, package: str) -> str:
    if not package or find_spec(package) is not None:
        return ""
    return f"{name} needs the package {package}, which is not installed: pip install 'mrmq[{name}]'"
