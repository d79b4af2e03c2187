"""The examples as the tests run them: job file, inputs, flags, reference."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.e2e import references

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"

PATTERN = r"(?i)\bexception\b.*\braised?\b"


@dataclass(frozen=True)
class Example:
    """One example; `inputs` names directories of the corpus (or the example whose output it reads)."""

    name: str
    job: str
    inputs: Sequence[str]
    check: Callable[[Path, list[Path]], None]
    flags: Sequence[str] = ()
    #: The example whose embedded output is the input.
    after: str = ""


def check_grep(output: Path, files: list[Path]) -> None:
    """A map-only job keeps the order of its input, so the parts in order are exactly the reference."""
    content = b"".join(part.read_bytes() for part in references.part_files(output))
    assert content.split(b"\n")[:-1] == references.grep(files, PATTERN)


def check_with(reference: Callable, key_type: type = str) -> Callable[[Path, list[Path]], None]:
    """Make a check out of a reference that gives lines by key."""
    return lambda output, files: references.check_groups(output, reference(files), key_type)


REPLACE = ("--encoding-errors", "replace")
TEXT = ("doc", "library", "oddities")

ALL = [
    Example(
        "wordcount",
        "wordcount/job.py",
        TEXT,
        check_with(references.word_count),
        ("-m", "5", "-r", "3", *REPLACE),
    ),
    Example(
        "wordcount-agg",
        "wordcount/job_agg.py",
        TEXT,
        check_with(references.word_count),
        ("-m", "7", "-r", "2", *REPLACE),
    ),
    Example(
        "wordcount-batch",
        "wordcount/job_batch.py",
        ("library",),
        check_with(references.word_count),
        ("-r", "2", *REPLACE),
    ),
    Example(
        "inverted-index",
        "inverted_index/job.py",
        TEXT,
        check_with(references.inverted_index),
        ("-m", "4", "-r", "3", *REPLACE),
    ),
    Example(
        "grep",
        "grep/job.py",
        TEXT,
        check_grep,
        ("-m", "6", "-r", "0", "--param", f"pattern={PATTERN}", *REPLACE),
    ),
    Example(
        "group-by",
        "group_by/job.py",
        (),
        check_with(references.group_by_length, int),
        ("-m", "3", "-r", "2"),
        after="wordcount",
    ),
    Example("join", "join/job.py", ("orders",), check_with(references.join, int), ("-m", "4", "-r", "3")),
]
BY_NAME = {example.name: example for example in ALL}
