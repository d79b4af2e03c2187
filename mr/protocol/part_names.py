"""What output parts are called, and where they lie. Pure."""

from mr.protocol.formats import OUTPUT_FORMATS, OutputFormatName
from mr.protocol.ids import Incarnation, JobId, is_id

PART_PREFIX = "part-"
TEMPORARY = "_temporary"
#: Directory of the lists of bad records in the output directory.
BAD_RECORDS = "_bad_records"


def part_name(index: int, output_format: OutputFormatName) -> str:
    """Name the part of task `index`: `part-00003`, with the format's suffix; text has none."""
    return f"{PART_PREFIX}{index:05d}{OUTPUT_FORMATS[output_format].suffix}"


def temporary_directory(output: str, job_id: JobId) -> str:
    """Name the directory of what one job has not finished."""
    return f"{output.rstrip('/')}/{TEMPORARY}/{_inner(job_id)}"


def temporary_part(
    output: str,
    job_id: JobId,
    index: int,
    attempt: int,
    incarnation: Incarnation,
    output_format: OutputFormatName,
) -> str:
    """Name the file that one attempt writes; no two attempts share one, not even of the same number.

    Raises ValueError for ids that would lead elsewhere than into the job's own directory.
    """
    stem, dot, suffix = part_name(index, output_format).partition(".")
    name = f"{stem}-attempt-{attempt}-{_inner(incarnation)}{dot}{suffix}"
    return f"{temporary_directory(output, job_id)}/{name}"


def temporary_bad_records(
    output: str, job_id: JobId, index: int, attempt: int, incarnation: Incarnation
) -> str:
    """Name the list of bad records that one attempt of a map writes. Raises as `temporary_part` does."""
    name = f"bad-records-{index:05d}-attempt-{attempt}-{_inner(incarnation)}.jsonl"
    return f"{temporary_directory(output, job_id)}/{name}"


def final_bad_records(output: str, index: int) -> str:
    """Name the list of a map's bad records that stays."""
    return f"{output.rstrip('/')}/{BAD_RECORDS}/map-{index:05d}.jsonl"


def final_part(output: str, index: int, output_format: OutputFormatName) -> str:
    """Name the part that stays."""
    return f"{output.rstrip('/')}/{part_name(index, output_format)}"


def _inner(name: str) -> str:
    """Let a name into a path if it stays one file name there."""
    if not is_id(name):
        raise ValueError(f"{name!r} is not an id, so no path is made of it")
    return name
