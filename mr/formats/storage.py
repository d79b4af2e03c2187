# A path here is a str, since it may be a URL.
# ruff: noqa: PTH100, PTH103, PTH105, PTH106, PTH108, PTH116, PTH120, PTH208
"""Paths and fsspec URLs: open, measure, list, rename and remove; local paths without fsspec.

A local path is a plain path or a `file://` URL; everything else with a `protocol://` goes through
fsspec, which is imported for the first such URL.
"""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, Literal
from urllib.parse import unquote

from mr.errors import BadInput, MrError

_PROTOCOL = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*)(?:::[^/]*)*://")
#: How often a directory is emptied again when a late writer put something into it meanwhile.
_REMOVE_TRIES = 5
#: What `glob.has_magic` looks for.
_WILDCARD = re.compile(r"[*?[]")


def is_url(path: str) -> bool:
    """Return whether `path` needs fsspec: whether it names a protocol other than `file`."""
    return local_path(path) is None


def local_path(path: str) -> str | None:
    """Return the local path of a plain path or a `file://` URL; None for any other URL."""
    match = _PROTOCOL.match(path)
    if match is None:
        return path
    if match[1].lower() in ("file", "local") and "::" not in path:
        return unquote(path[match.end() :])
    return None


def before_wildcard(pattern: str) -> str:
    """The directory that the names matching a glob pattern have in common."""
    return _WILDCARD.split(pattern, maxsplit=1)[0].rpartition("/")[0]


def absolute(path: str) -> str:
    """Make a local path absolute; a URL only loses its trailing slashes."""
    if _PROTOCOL.match(path):
        return path.rstrip("/") if is_url(path) else path
    return os.path.abspath(path)


def join(directory: str, *names: str) -> str:
    """Append names to a path or URL."""
    return "/".join((directory.rstrip("/"), *names))


@contextmanager
def url_errors(path: str) -> Iterator[None]:
    """Turn what a URL's file system raises into BadInput, except OSError, which every caller handles."""
    try:
        yield
    except (OSError, MrError):
        raise
    except ImportError as error:
        raise BadInput(f"{path} needs another package on this machine: {error}") from error
    except Exception as error:  # plug-in code: each file system raises errors of its own library
        raise BadInput(f"{path}: {type(error).__name__}: {error}") from error


@contextmanager
def url_filesystem(path: str) -> Iterator[tuple[Any, str]]:
    """Open the fsspec file system of a URL; yields it and the path inside it. Errors as in `url_errors`."""
    import fsspec

    with url_errors(path):
        yield fsspec.core.url_to_fs(path)


def open_read(path: str) -> IO[bytes]:
    """Open for reading bytes; local files unbuffered. Raises OSError or BadInput."""
    return _open(path, "rb")


def open_write(path: str) -> IO[bytes]:
    """Open a new file for writing bytes; its directory must exist. Raises OSError or BadInput."""
    return _open(path, "wb")


def _open(path: str, mode: Literal["rb", "wb"]) -> IO[bytes]:
    local = local_path(path)
    if local is not None:
        return open(local, mode, buffering=0)
    with url_filesystem(path) as (filesystem, inner):
        opened: IO[bytes] = filesystem.open(inner, mode)
        return opened


def file_size(path: str) -> int | None:
    """Return the size of a file in bytes; None when there is no such file. Raises OSError or BadInput."""
    try:
        local = local_path(path)
        if local is not None:
            return os.stat(local).st_size
        with url_filesystem(path) as (filesystem, inner):
            filesystem.invalidate_cache()
            return int(filesystem.info(inner)["size"] or 0)
    except FileNotFoundError:
        return None


def list_names(directory: str) -> list[str] | None:
    """List the names in a directory, sorted; None when it does not exist.

    Raises NotADirectoryError for a file, other OSErrors, BadInput.
    """
    try:
        local = local_path(directory)
        if local is not None:
            return sorted(os.listdir(local))
        with url_filesystem(directory) as (filesystem, inner):
            filesystem.invalidate_cache()
            if filesystem.isfile(inner):
                raise NotADirectoryError(errno.ENOTDIR, "Not a directory", directory)
            root = inner.rstrip("/")
            names = {name.rstrip("/")[len(root) :].strip("/") for name in filesystem.ls(inner, detail=False)}
            return sorted(names - {""})
    except FileNotFoundError:
        return None


def make_directory(directory: str) -> None:
    """Make a directory and its parents where they are missing. Raises OSError or BadInput."""
    local = local_path(directory)
    if local is not None:
        os.makedirs(local, exist_ok=True)
        return
    with url_filesystem(directory) as (filesystem, inner):
        filesystem.makedirs(inner, exist_ok=True)


def rename(source: str, target: str) -> None:
    """Rename a file, replacing the target; atomic on local disks. Raises OSError or BadInput."""
    local_source, local_target = local_path(source), local_path(target)
    if local_source is not None and local_target is not None:
        os.replace(local_source, local_target)
        return
    with url_filesystem(source) as (filesystem, inner), url_filesystem(target) as (_, inner_target):
        filesystem.mv(inner, inner_target)


def remove_file(path: str) -> None:
    """Remove a file, if it exists. Raises OSError or BadInput."""
    try:
        local = local_path(path)
        if local is not None:
            os.unlink(local)
            return
        with url_filesystem(path) as (filesystem, inner):
            filesystem.rm_file(inner)
    except FileNotFoundError:
        return


def remove_tree(directory: str) -> None:
    """Remove a directory with everything in it, if it exists. Raises OSError or BadInput."""
    local = local_path(directory)
    if local is None:
        with url_filesystem(directory) as (filesystem, inner):
            filesystem.invalidate_cache()
            if filesystem.exists(inner):
                filesystem.rm(inner, recursive=True)
        return
    for left in reversed(range(_REMOVE_TRIES)):
        try:
            shutil.rmtree(local)
        except FileNotFoundError:
            if not os.path.lexists(local):
                return
        except OSError as error:
            if error.errno != errno.ENOTEMPTY or left == 0:
                raise
        else:
            return


def remove_empty_directory(directory: str) -> bool:
    """Remove a directory if it is empty. Returns whether it is gone. Raises OSError or BadInput."""
    local = local_path(directory)
    if local is None:
        if list_names(directory):
            return False
        remove_tree(directory)
        return True
    try:
        os.rmdir(local)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        raise
    return True


def read_file(path: str) -> bytes | None:
    """Read a small file whole; None when it does not exist. Raises OSError or BadInput."""
    try:
        with open_read(path) as file:
            return file.read()
    except FileNotFoundError:
        return None


def write_file(path: str, data: bytes) -> None:
    """Write a small file whole or not at all; local ones are synced to disk. Raises OSError or BadInput."""
    local = local_path(path)
    if local is None:
        with open_write(path) as file:
            file.write(data)
        return
    scratch = f"{local}.{os.getpid()}.tmp"
    try:
        with open(scratch, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(scratch, local)
    except OSError:
        remove_file(scratch)
        raise
    sync_directory(os.path.dirname(local))


def sync_directory(directory: str) -> None:
    """Sync the names in a local directory to disk; a URL needs nothing. Raises OSError."""
    local = local_path(directory)
    if local is None:
        return
    descriptor = os.open(local or ".", os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
