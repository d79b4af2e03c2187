# A path here is a str, since it may be a URL.
# ruff: noqa: PTH100, PTH112, PTH120
"""The output directory of a job, from its first check to `_SUCCESS`.

While a job runs, `OUT/_temporary/<job_id>/` holds its unfinished parts and a file `_owner`. That file says
that OUT belongs to this job, and names the topmost directory that was made for it. Beside it, a file `_ended`
says that the job has ended, and that what it left is kept for a resume: another job may take its place.
"""

import errno
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from mr.protocol.codec import UNDECODABLE, as_json
from mr.protocol.formats import OutputFormatName
from mr.protocol.ids import JobId, TaskId, is_id, task_index
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
from mr.protocol.records import Manifest, PartOutput, TaskResult

SUCCESS = "_SUCCESS"
_OWNER = "_owner"
_ENDED = "_ended"
#: Suffix of the mark that a part's final name is this job's: made before the part is renamed.
_MARK = ".mark"
#: Parts read back at the same time, and bytes read at a time.
_VERIFIERS = 4
_VERIFY_BYTES = 4 * 1024 * 1024


def prepare_output(output: str, job_id: JobId) -> list[JobId]:
    """Make `OUT/_temporary/<job_id>/`. Idempotent for one job.

    What an ended job left for a resume is removed; returns the ids of such jobs. Raises OutputExists when OUT
    is a file, is not empty or belongs to another job; BadJob when it cannot be made or written.
    """
    return _take_output(output, job_id, gives_way=lambda other: _has_ended(output, other))


def leave_output(output: str, job_id: JobId) -> None:
    """Keep what an ended job left for a resume, until another job is to write to OUT. Idempotent."""
    ours = temporary_directory(output, job_id)
    owned = storage.file_size(join(ours, _OWNER)) is not None
    if owned and storage.file_size(join(ours, _ENDED)) is None:
        storage.write_file(join(ours, _ENDED), b"")


def retake_output(output: str, job_id: JobId) -> None:
    """Take OUT for a job that ended and goes on; what it left there stays.

    Raises OutputExists when OUT is another's by now, BadJob; `leave_output` is to follow then.
    """
    ours = temporary_directory(output, job_id)
    try:
        # Before anybody else is looked for: a job that takes OUT meanwhile sees that this one goes on.
        storage.remove_file(join(ours, _ENDED))
        if storage.file_size(join(ours, _OWNER)) is not None:
            _refuse_taken(output, job_id)
            return
    except OSError as error:
        raise BadJob(f"the output directory {output} cannot be used: {error_text(error)}") from error
    _take_output(output, job_id, gives_way=lambda other: False)


def _has_ended(output: str, job_id: JobId) -> bool:
    return storage.file_size(join(temporary_directory(output, job_id), _ENDED)) is not None


def _take_output(output: str, job_id: JobId, gives_way: Callable[[JobId], bool]) -> list[JobId]:
    """Make this job's directory in OUT; what other jobs left gives way if `gives_way` says so."""
    ours = temporary_directory(output, job_id)
    try:
        ended = [other for other in _others(output, job_id) if gives_way(other)]
        _refuse_taken(output, job_id, ended)
        if storage.file_size(join(ours, _OWNER)) is None:
            made = _made_for(output, ended)
            storage.make_directory(ours)
            storage.write_file(join(ours, _OWNER), made.encode("utf-8", "surrogateescape"))
        for other in filter(gives_way, ended):  # one that goes on has been seen by now, or sees this job
            abandon_output(output, other)
            remove_temporary(output, other)
        try:
            _refuse_taken(output, job_id)
        except OutputExists:
            # two jobs came at the same time: now each sees the other and gives up
            remove_temporary(output, job_id)
            raise
        return ended
    except OSError as error:
        raise BadJob(f"the output directory {output} cannot be made: {error_text(error)}") from error
    except (BadInput, ValueError) as error:
        raise BadJob(f"the output directory {output} cannot be made: {error}") from error


def _others(output: str, job_id: JobId) -> list[JobId]:
    """The other jobs that have a directory in OUT."""
    try:
        names = storage.list_names(join(output, TEMPORARY)) or []
    except NotADirectoryError:  # OUT is a file
        names = []
    return [JobId(name) for name in names if is_id(name) and name != job_id]


def _made_for(output: str, ended: Sequence[JobId]) -> str:
    """The topmost directory that was made for OUT, now or for an ended job that gives way."""
    for other in ended:
        if owner := storage.read_file(join(temporary_directory(output, other), _OWNER)):
            return owner.decode("utf-8", "surrogateescape")
    return _topmost_missing(output)


def _refuse_taken(output: str, job_id: JobId, leaving: Sequence[JobId] = ()) -> None:
    """Raise OutputExists unless OUT is absent, empty or belongs to this job, or to those that are leaving."""
    try:
        names = storage.list_names(output)
    except NotADirectoryError:
        if storage.file_size(output) is None:
            raise
        raise OutputExists(f"the output {output} is a file; name a directory") from None
    if not names:
        return
    left = {name for other in leaving for name in _marked(output, other)}
    others = [name for name in names if name != TEMPORARY and name not in left]
    jobs = (storage.list_names(join(output, TEMPORARY)) or []) if TEMPORARY in names else []
    strangers = [name for name in jobs if name != job_id and name not in leaving]
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


def _marked(output: str, job_id: JobId) -> set[str]:
    """The names in OUT that a job has marked as its own."""
    names = storage.list_names(temporary_directory(output, job_id)) or []
    return {name.removesuffix(_MARK) for name in names if name.endswith(_MARK)}


def missing_files(
    output: str,
    job_id: JobId,
    results: Mapping[TaskId, TaskResult],
    output_format: OutputFormatName,
    *,
    read_back: bool,
) -> set[TaskId]:
    """The tasks of which a committed part or list of bad records is gone. Raises OSError.

    Each must be under one of its two names with its recorded size; `read_back`: a local one with its recorded
    checksum, too.
    """
    missing = set()
    for task, result in results.items():
        for temporary, final, file in _files(output, job_id, task, result, output_format):
            path = final if storage.file_size(temporary) is None else temporary
            found = storage.file_size(path) == file.bytes
            if found and read_back and storage.local_path(path) is not None:
                found = _checksum(path, file.bytes) == file.checksum
            if not found:
                missing.add(task)
    return missing


def _files(
    output: str, job_id: JobId, task: TaskId, result: TaskResult, output_format: OutputFormatName
) -> Iterator[tuple[str, str, PartOutput | BadRecordsFile]]:
    """Temporary and final name of each file that a committed task wrote to OUT."""
    index, part, bad = task_index(task), result.output, result.stats.bad_file
    if isinstance(part, PartOutput):
        number = part.attempt.number
        temporary = temporary_part(output, job_id, index, number, part.incarnation, output_format)
        yield temporary, final_part(output, index, output_format), part
    if bad is not None:
        temporary = temporary_bad_records(output, job_id, index, bad.attempt, bad.incarnation)
        yield temporary, final_bad_records(output, index), bad


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
    if _checksum(path, part.bytes) != part.checksum:
        _lost_file(what, path, "has other bytes than were written (its checksum differs)")


def _checksum(path: str, expected_bytes: int) -> str:
    digest = xxhash.xxh3_64()
    buffer = memoryview(bytearray(min(_VERIFY_BYTES, expected_bytes + 1)))
    with storage.open_read(path) as file:
        while size := file.readinto(buffer):  # type: ignore[attr-defined]
            digest.update(buffer[:size])
    return digest.hexdigest()


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
    marked = _marked(output, job_id)
    for name in names:
        if name.startswith(PART_PREFIX) and name in marked:
            storage.remove_file(join(output, name))
    if BAD_RECORDS in marked:
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
