# A path here is a str, since it may be a URL.
# ruff: noqa: PTH100, PTH112, PTH120
"""The output directory of a job, from its first check to `_SUCCESS`.

While a job runs, `OUT/_temporary/<job_id>/` holds its unfinished parts and a file `_owner`. That file says
that OUT belongs to this job, and names the topmost directory that was made for it.
"""

import errno
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType
from typing import NoReturn

import msgspec
import xxhash

from mr.error_text import error_text
from mr.errors import BadInput, BadJob, OutputExists
from mr.formats import storage
from mr.formats.storage import join
from mr.protocol.bad_records import BadRecordsFile
from mr.protocol.codec import UNDECODABLE
from mr.protocol.formats import OutputFormatName
from mr.protocol.ids import JobId, task_index
from mr.protocol.part_names import (
    BAD_RECORDS,
    PART_PREFIX,
    TEMPORARY,
    final_bad_records,
    final_part,
    temporary_bad_records,
    temporary_directory,
    temporary_part,
)
from mr.protocol.records import Manifest, PartOutput, as_json

SUCCESS = "_SUCCESS"
_OWNER = "_owner"
#: Suffix of the mark that a part's final name is this job's: made before the part is renamed.
_MARK = ".mark"
#: Parts read back at the same time, and bytes read at a time.
_VERIFIERS = 4
_VERIFY_BYTES = 4 * 1024 * 1024


def prepare_output(output: str, job_id: JobId) -> None:
    """Make `OUT/_temporary/<job_id>/`. Idempotent for one job.

    Raises OutputExists when OUT is a file, is not empty or belongs to another job; BadJob when it cannot be
    made or written.
    """
    ours = temporary_directory(output, job_id)
    try:
        _refuse_taken(output, job_id)
        if storage.file_size(join(ours, _OWNER)) is None:
            made = _topmost_missing(output)
            storage.make_directory(ours)
            storage.write_file(join(ours, _OWNER), made.encode("utf-8", "surrogateescape"))
        try:
            _refuse_taken(output, job_id)
        except OutputExists:
            # two jobs came at the same time: now each sees the other and gives up
            remove_temporary(output, job_id)
            raise
    except OSError as error:
        raise BadJob(f"the output directory {output} cannot be made: {error_text(error)}") from error
    except (BadInput, ValueError) as error:
        raise BadJob(f"the output directory {output} cannot be made: {error}") from error


def _refuse_taken(output: str, job_id: JobId) -> None:
    """Raise OutputExists unless OUT is absent, empty or belongs to this job."""
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
    """Return the topmost directory that must be made for OUT; empty when OUT exists or is a URL."""
    path = storage.local_path(output)
    if path is None or os.path.isdir(path):
        return ""
    while (parent := os.path.dirname(path)) and parent != path and not os.path.isdir(parent):
        path = parent
    return path


def publish_part(output: str, job_id: JobId, part: PartOutput, output_format: OutputFormatName) -> None:
    """Give a committed part its final name. Idempotent.

    Both names follow from the arguments, never from a stored path. The part must be under one of them, with
    its recorded size. Raises FileNotFoundError where it is not; FileExistsError for a file of somebody
    else, which stays; other OSErrors.
    """
    index, number = task_index(part.attempt.task), part.attempt.number
    temporary = temporary_part(output, job_id, index, number, part.incarnation, output_format)
    path = final_part(output, index, output_format)
    try:
        if storage.file_size(temporary) is not None:
            _take_name(output, job_id, path)
            storage.rename(temporary, path)
    except FileNotFoundError:
        # the worker and the coordinator publish the same part: the other one was faster
        if storage.file_size(path) is None:
            _lost(part, path, "is gone")
    size = storage.file_size(path)
    if size is None:
        _lost(part, path, "is gone")
    if size != part.bytes:
        _lost(part, path, f"has {size} bytes instead of {part.bytes}")


def _take_name(output: str, job_id: JobId, path: str) -> None:
    """Mark a part's final name as this job's. Raises FileExistsError when a file without a mark has it."""
    mark = _mark(output, job_id, path)
    if storage.file_size(mark) is None:
        if storage.file_size(path) is not None:
            raise FileExistsError(errno.EEXIST, f"{path} exists and is not of this job; remove it", path)
        storage.write_file(mark, b"")


def _mark(output: str, job_id: JobId, path: str) -> str:
    return join(temporary_directory(output, job_id), path.rpartition("/")[2] + _MARK)


def _lost(part: PartOutput, path: str, what: str) -> NoReturn:
    _lost_file(f"output part {path} of {part.attempt.task}", path, what)


def _lost_file(name: str, path: str, what: str) -> NoReturn:
    raise FileNotFoundError(errno.ENOENT, f"the {name} {what}", path)


def finish_output(
    output: str,
    job_id: JobId,
    parts: Sequence[PartOutput],
    output_format: OutputFormatName,
    manifest: Manifest,
    bad_records: Mapping[int, BadRecordsFile] = MappingProxyType({}),
) -> None:
    """Publish the parts that are not yet, then write `_SUCCESS`, which completes the job. Idempotent.

    The lists of bad records (by index of the map) are published as well. Every file must have its recorded
    size and checksum; at a URL only the size is checked. The marks of what is this job's are removed after
    `_SUCCESS` is written: `abandon_output` needs them until then. Raises OSError, and FileNotFoundError when
    a file is gone or has other bytes.
    """
    for part in parts:
        publish_part(output, job_id, part, output_format)
    _publish_bad_records(output, job_id, bad_records)
    written: list[tuple[str, str, PartOutput | BadRecordsFile]] = [
        (f"output part {path} of {part.attempt.task}", path, part)
        for part in parts
        for path in (final_part(output, task_index(part.attempt.task), output_format),)
    ]
    written += [
        (f"list of bad records {path}", path, file)
        for index, file in bad_records.items()
        for path in (final_bad_records(output, index),)
    ]
    if storage.local_path(output) is not None:
        with ThreadPoolExecutor(_VERIFIERS) as pool:
            for _ in pool.map(lambda found: _verify(*found), written):
                continue
    _remove_attempts(output, job_id)
    storage.sync_directory(output)
    storage.write_file(join(output, SUCCESS), f"{as_json(manifest)}\n".encode())
    remove_temporary(output, job_id)


def _remove_attempts(output: str, job_id: JobId) -> None:
    """Remove the parts of attempts that have no final name; the marks stay."""
    ours = temporary_directory(output, job_id)
    for name in storage.list_names(ours) or []:
        if name != _OWNER and not name.endswith(_MARK):
            storage.remove_file(join(ours, name))


def _publish_bad_records(output: str, job_id: JobId, files: Mapping[int, BadRecordsFile]) -> None:
    """Move the lists of bad records to `OUT/_bad_records/`. Idempotent."""
    if not files:
        return
    directory = join(output, BAD_RECORDS)
    for index, file in files.items():
        path = final_bad_records(output, index)
        temporary = temporary_bad_records(output, job_id, index, file.attempt, file.incarnation)
        if storage.file_size(temporary) is not None:
            _take_name(output, job_id, directory)
            storage.make_directory(directory)
            storage.rename(temporary, path)
        if storage.file_size(path) != file.bytes:
            _lost_file(f"list of bad records {path}", path, "is gone, or has other bytes than were written")
    storage.sync_directory(directory)


def _verify(what: str, path: str, part: PartOutput | BadRecordsFile) -> None:
    """Read a file back. Raises FileNotFoundError when its bytes are not those that were recorded."""
    digest = xxhash.xxh3_64()
    buffer = memoryview(bytearray(min(_VERIFY_BYTES, part.bytes + 1)))
    with storage.open_read(path) as file:
        while size := file.readinto(buffer):  # type: ignore[attr-defined]
            digest.update(buffer[:size])
    if digest.hexdigest() != part.checksum:
        _lost_file(what, path, "has other bytes than were written (its checksum differs)")


def remove_temporary(output: str, job_id: JobId) -> None:
    """Remove `OUT/_temporary/<job_id>/`, and `OUT/_temporary` if it is empty then. Raises OSError."""
    temporary = join(output, TEMPORARY)
    storage.remove_tree(temporary_directory(output, job_id))
    storage.remove_empty_directory(temporary)


def abandon_output(output: str, job_id: JobId) -> None:
    """Remove everything a failed or cancelled job wrote, and the directories it made that are empty now.

    A part without this job's mark belongs to somebody else and stays. Does nothing in a directory of
    another job, or whose job completed. Raises OSError.
    """
    ours = temporary_directory(output, job_id)
    owner = storage.read_file(join(ours, _OWNER))
    if owner is None or SUCCESS in (storage.list_names(output) or []):
        return
    _remove_attempts(output, job_id)  # first, so that a worker that is about to publish one finds it gone
    names = storage.list_names(output) or []
    topmost = owner.decode("utf-8", "surrogateescape")
    marks = {name for name in storage.list_names(ours) or [] if name.endswith(_MARK)}
    for name in names:
        if name.startswith(PART_PREFIX) and name + _MARK in marks:
            storage.remove_file(join(output, name))
    if BAD_RECORDS + _MARK in marks:
        storage.remove_tree(join(output, BAD_RECORDS))
    remove_temporary(output, job_id)
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
        raise BadInput(f"{path} cannot be read: {error_text(error)}") from error
    if data is None:
        return None
    try:
        return msgspec.json.decode(data, type=Manifest)
    except UNDECODABLE as error:
        raise BadInput(f"{path} is not a manifest of mrmq: {error}") from error
