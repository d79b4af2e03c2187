# A path here is a str, since it may be a URL.
# ruff: noqa: PTH100, PTH112, PTH113, PTH116, PTH118, PTH202, PTH207
"""From the inputs that a user names to a list of files.

An input is a file, a directory (all files below it, sorted by path), a glob (`*`, `?`, `[..]`, `**`;
matches sorted) or an fsspec URL of one of these. Inside directories and among matches, names that
begin with `_` or `.` are skipped, so that the output of another job is a valid input. Links to files are
followed; links to directories below a named directory are not. A path that is named twice counts once,
at its first place.
"""

import glob
import os
import stat
from collections.abc import Iterator, Sequence

import msgspec

from mr.error_text import error_text
from mr.errors import BadInput
from mr.formats import storage


class InputFile(msgspec.Struct, frozen=True):
    """One file to read: its absolute path or URL, and its size in bytes."""

    path: str
    bytes: int


def list_inputs(patterns: Sequence[str]) -> tuple[InputFile, ...]:
    """Expand files, directories, globs and URLs into files, in the order named. Raises BadInput."""
    if not patterns:
        raise BadInput("no input given: name at least one file, directory, glob or URL")
    found: dict[str, InputFile] = {}
    for pattern in patterns:
        if not pattern:
            raise BadInput("an input has an empty name: name a file, directory, glob or URL")
        try:
            files = list(_expand_url(pattern) if storage.is_url(pattern) else _expand_local(pattern))
        except ValueError as error:
            raise BadInput(f"{pattern!r} is not a path: {error}") from error
        except OSError as error:
            raise BadInput(f"{error.filename or pattern} cannot be read: {error_text(error)}") from error
        for file in files:
            found.setdefault(file.path, file)
    return tuple(found.values())


def _expand_local(pattern: str) -> Iterator[InputFile]:
    path = os.path.abspath(storage.local_path(pattern) or pattern)
    if _exists(path):
        yield from _named(path, pattern)
        return
    if not glob.has_magic(path):
        raise BadInput(f"no such file or directory: {pattern}")
    matches = [match for match in sorted(glob.glob(path, recursive=True)) if not _hidden_match(path, match)]
    files = [file for match in matches for file in _matched(match)]
    if not files:
        raise BadInput(f"no file matches {pattern}")
    yield from files


def _exists(path: str) -> bool:
    """Return whether something has exactly this name. Raises PermissionError where that cannot be seen."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _named(path: str, pattern: str) -> Iterator[InputFile]:
    """Expand a path that exists under exactly this name."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        raise BadInput(f"{pattern} is a link to nothing: {os.path.realpath(path)} does not exist") from None
    if stat.S_ISDIR(status.st_mode):
        files = list(_walk(path))
        if not files:
            raise BadInput(f"the directory {pattern} holds no input file")
        yield from files
    elif stat.S_ISREG(status.st_mode):
        yield _readable(path, status.st_size)
    else:
        raise BadInput(f"{pattern} is neither a file nor a directory")


def _matched(path: str) -> Iterator[InputFile]:
    """Expand one match of a glob; anything but a file or a directory is left out."""
    if os.path.isdir(path):
        yield from _walk(path)
    elif os.path.isfile(path):
        yield _readable(path, os.path.getsize(path))


def _walk(directory: str) -> Iterator[InputFile]:
    """List the files below a directory by path; leaves out pipes, sockets and dangling links."""

    def refuse(error: OSError) -> None:
        raise error

    paths: list[str] = []
    for parent, directories, names in os.walk(directory, onerror=refuse):
        directories[:] = [name for name in directories if not _hidden(name)]
        paths += [os.path.join(parent, name) for name in names if not _hidden(name)]
    for path in sorted(paths):
        if os.path.isfile(path):
            yield _readable(path, os.path.getsize(path))


def _readable(path: str, size: int) -> InputFile:
    if not os.access(path, os.R_OK):
        raise BadInput(f"{path} cannot be read: Permission denied")
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise BadInput(f"the file name {path!a} is not UTF-8; rename the file") from error
    return InputFile(path, size)


def _hidden(name: str) -> bool:
    return name.startswith(("_", "."))


def _hidden_match(pattern: str, match: str) -> bool:
    """Return whether a match has a hidden name that the pattern does not spell with its `_` or `.`."""
    fixed = storage.before_wildcard(pattern)
    asked = {part[0] for part in pattern[len(fixed) :].split("/") if _hidden(part)}
    parts = match[len(fixed) :].split("/")
    return any(_hidden(part) and part[0] not in asked for part in parts if part)


def _expand_url(pattern: str) -> Iterator[InputFile]:
    with storage.url_filesystem(pattern) as (filesystem, inner):
        filesystem.invalidate_cache()
        if filesystem.isfile(inner):
            found = {inner: filesystem.info(inner)}
        elif filesystem.isdir(inner):
            found = _visible(filesystem.find(inner, detail=True), inner)
        elif glob.has_magic(inner):
            found = {}
            for match in sorted(filesystem.glob(inner)):
                if _hidden_match(inner, match):
                    continue
                if filesystem.isfile(match):
                    found[match] = filesystem.info(match)
                else:
                    found |= _visible(filesystem.find(match, detail=True), match)
        else:
            raise BadInput(f"no such file or directory: {pattern}")
        files = [(filesystem.unstrip_protocol(path), found[path]["size"]) for path in found]
    if not files:
        raise BadInput(f"no input file in {pattern}")
    for path, size in files:
        if size is None:
            raise BadInput(f"{path} does not tell its size; download it first")
        yield InputFile(path, size)


def _visible(found: dict[str, dict[str, int]], root: str) -> dict[str, dict[str, int]]:
    """Keep what lies below `root` under no hidden name, sorted by path."""
    return {
        path: found[path]
        for path in sorted(found)
        if not any(_hidden(part) for part in path[len(root) :].split("/") if part)
    }
