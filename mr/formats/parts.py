"""What output parts are called."""

from mr.protocol.jobs import OutputFormat

_SUFFIXES: dict[OutputFormat, str] = {"text": "", "jsonl": ".jsonl", "csv": ".csv", "parquet": ".parquet"}
PART_PREFIX = "part-"


def part_name(index: int, output_format: OutputFormat) -> str:
    """Name the part of task `index`: `part-00003`, with the format's suffix; text has none."""
    return f"{PART_PREFIX}{index:05d}{_SUFFIXES[output_format]}"
