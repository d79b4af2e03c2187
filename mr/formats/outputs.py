# A path here is a str, since it may be a URL.
# ruff: noqa: PTH100, PTH112, PTH120
"""The output directory of a job, from its first check to `_SUCCESS`.

While a job runs, `OUT/_temporary/<job_id>/` holds its unfinished parts and a file `_owner`, which
makes everything in OUT this job's own; it says how far up directories were made for it.
"""

import errno
import os
from typing import NoReturn

import msgspec

from mr.errors import BadInput, BadJob, OutputExists
from mr.formats import storage
from mr.formats.parts import PART_PREFIX, part_name
from mr.formats.storage import absolute, join
from mr.protocol.ids import JobId
from mr.protocol.jobs import OutputFormat
from mr.protocol.records import Manifest, PartOutput, as_json
from mr.telling import why

__all__ = [
    "abandon_output",
    "absolute",
    "final_part",
    "finish_output",
    "prepare_output",
    "publish_part",
    "read_manifest",
    "temporary_part",
]

TEMPORARY = "_temporary"
SUCCESS = "_SUCCESS"
_OWNER = "_owner"


def temporary_part(output: str, job_id: JobId, index: int, attempt: int, output_format: OutputFormat) -> str:
    """Name the file that one attempt writes; no two attempts share one."""
    stem, dot, suffix = part_name(index, output_format).partition(".")
    return join(output, TEMPORARY, job_id, f"{stem}-attempt-{attempt}{dot}{suffix}")


def final_part(output: str, index: int, output_format: OutputFormat) -> str:
    """Name the part that stays."""
    return join(output, part_name(index, output_format))


def prepare_output(output: str, job_id: JobId) -> None:
    """Make `OUT/_temporary/<job_id>/`; once more for the same job is no error.

    Raises OutputExists when OUT is a file, is not empty or is another job's, BadJob when it cannot
    be made or written.
    """
    ours = join(output, TEMPORARY, job_id)
    try:
        _refuse_taken(output, job_id)
        if storage.file_size(join(ours, _OWNER)) is None:
            made = _topmost_missing(output)
            storage.make_directory(ours)
            storage.write_file(join(ours, _OWNER), made.encode("utf-8", "surrogateescape"))
        try:
            _refuse_taken(output, job_id)
        except OutputExists:
            # two jobs came at once: each sees the other now, and leaves
            _remove_ours(output, job_id)
            raise
    except OSError as error:
        raise BadJob(f"the output directory {output} cannot be made: {why(error)}") from error
    except (BadInput, ValueError) as error:
        raise BadJob(f"the output directory {output} cannot be made: {error}") from error


def _refuse_taken(output: str, job_id: JobId) -> None:
    """Raise OutputExists unless OUT is absent, empty or this very job's."""
    try:
        names = storage.list_names(output)
    except NotADirectoryError:
        if storage.file_size(output) is None:
            raise
        raise OutputExists(f"the output {output} is a file; name a directory") from None
    if not names:
        return
    others = [name for name in names if name != TEMPORARY]
    jobs = (storage.list_names(join(output, TEMPORARY)) or []) if TEMPORARY in names else []
    strangers = [name for name in jobs if name != job_id]
    if strangers:
        raise OutputExists(
            f"the job {strangers[0]} is writing to {output}; choose another output, or, if that job is "
            f"dead, remove {join(output, TEMPORARY)}"
        )
    if others and job_id not in jobs:
        shown = ", ".join(others[:3]) + (", ..." if len(others) > 3 else "")
        raise OutputExists(
            f"the output directory {output} is not empty ({shown}); choose another, or remove it first"
        )


def _topmost_missing(output: str) -> str:
    """Name the highest directory that has to be made for OUT; empty when OUT exists or is a URL."""
    path = storage.local_path(output)
    if path is None or os.path.isdir(path):
        return ""
    while (parent := os.path.dirname(path)) and parent != path and not os.path.isdir(parent):
        path = parent
    return path


def publish_part(part: PartOutput) -> None:
    """Give a committed part its final name; once more is no error. Raises FileNotFoundError, other OSErrors.

    Needs the part to be in either place with the size that was recorded.
    """
    try:
        if storage.file_size(part.temporary) is not None:
            storage.rename(part.temporary, part.path)
    except FileNotFoundError:
        # the worker and the coordinator publish the same part: the other one was faster
        if storage.file_size(part.path) is None:
            _lost(part, "is gone")
    size = storage.file_size(part.path)
    if size is None:
        _lost(part, "is gone")
    if size != part.bytes:
        _lost(part, f"has {size} bytes instead of {part.bytes}")


def _lost(part: PartOutput, what: str) -> NoReturn:
    raise FileNotFoundError(errno.ENOENT, f"the output part {part.path} of {part.task_id} {what}", part.path)


def finish_output(output: str, job_id: JobId, manifest: Manifest) -> None:
    """Publish what is not yet, remove `_temporary`, write `_SUCCESS` last; once more is no error.

    Raises OSError, and FileNotFoundError when a part is gone.
    """
    for part in manifest.parts:
        publish_part(part)
    _remove_ours(output, job_id)
    storage.sync_directory(output)
    storage.write_file(join(output, SUCCESS), f"{as_json(manifest)}\n".encode())


def _remove_ours(output: str, job_id: JobId) -> None:
    temporary = join(output, TEMPORARY)
    storage.remove_tree(join(temporary, job_id))
    storage.remove_empty_directory(temporary)


def abandon_output(output: str, job_id: JobId) -> None:
    """Remove all that a failed or cancelled job wrote, and the directories it made if they are empty now.

    Does nothing in a directory that is not this job's, or whose job completed. Raises OSError.
    """
    owner = storage.read_file(join(output, TEMPORARY, job_id, _OWNER))
    names = storage.list_names(output) or []
    if owner is None or SUCCESS in names:
        return
    topmost = owner.decode("utf-8", "surrogateescape")
    for name in names:
        if name.startswith(PART_PREFIX):
            storage.remove_file(join(output, name))
    _remove_ours(output, job_id)
    directory = storage.local_path(output)
    if directory is None:
        storage.remove_empty_directory(output)
        return
    directory = os.path.abspath(directory)
    while topmost and directory.startswith(topmost) and storage.remove_empty_directory(directory):
        directory = os.path.dirname(directory)


def read_manifest(output: str) -> Manifest | None:
    """Read what a completed job wrote; None when OUT holds no `_SUCCESS`. Raises BadInput."""
    path = join(output, SUCCESS)
    try:
        data = storage.read_file(path)
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {why(error)}") from error
    if data is None:
        return None
    try:
        return msgspec.json.decode(data, type=Manifest)
    except msgspec.DecodeError as error:
        raise BadInput(f"{path} is not a manifest of ours: {error}") from error
