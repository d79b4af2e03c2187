"""A job's code as one zip named by its content: built by the client, unpacked by every worker."""

import hashlib
import io
import os
import shutil
import stat
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import msgspec

from mr.error_text import error_text
from mr.errors import BadJob
from mr.protocol.ids import CodeId
from mr.settings import MIB

#: Most bytes a bundle may unpack to, and most files: a small zip can hide a very large one.
MAX_UNPACKED_BYTES = 256 * MIB
MAX_MEMBERS = 10_000
#: Most bytes of a zip's directory, which is read whole before its members can be counted.
_MAX_DIRECTORY_BYTES = 4 * MIB
#: Longest name of a file, and of its whole path in the bundle, in bytes.
_MAX_NAME_BYTES = 255
_MAX_PATH_BYTES = 1024
#: Bytes unpacked at a time.
_COPY_BYTES = 1 * MIB

#: What never belongs to a job: caches and version control.
_SKIPPED = frozenset({"__pycache__", ".git", ".hg", ".svn", ".venv", ".mypy_cache", ".ruff_cache"})
_SKIPPED_SUFFIXES = (".pyc", ".pyo")

#: What `zipfile` raises for an archive that is damaged, encrypted or compressed by an unknown method.
_BAD_ARCHIVE = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError)

#: The oldest time a zip can hold: the same files give the same bytes at any time of day.
_EPOCH = (1980, 1, 1, 0, 0, 0)


#: Bit of a member's flags.
_ENCRYPTED = 0x1
#: How a zip ends: signature, then at 12 the size of its directory.
_END = struct.Struct("<4s4H2LH")
_END_SIGNATURE = b"PK\x05\x06"
_MAX_COMMENT_BYTES = 65_535


class Bundle(msgspec.Struct, frozen=True):
    """A job file and what was included with it, as the bytes of a zip."""

    data: bytes
    code_id: CodeId
    #: File name of the job file inside the zip.
    entry: str


def content_id(data: bytes) -> CodeId:
    """Name a bundle by its content: `sha256:<64 hex digits>`."""
    return CodeId("sha256:" + hashlib.sha256(data).hexdigest())


def build_bundle(job_file: Path, includes: Sequence[Path] = (), max_bytes: int = 64 * MIB) -> Bundle:
    """Zip the job file and the included files and directories; the same files give the same bytes.

    An included path below the job file's directory keeps its place relative to it, any other goes
    to the top under its own name. Links to files are packed as those files; links to directories below
    an included one are left out. Raises BadJob for a path that is missing, unreadable, not a regular file
    or takes the place of another, and for a bundle above `max_bytes`.
    """
    _require_file(job_file)
    directory = job_file.parent.resolve()
    members = {job_file.name: job_file}
    for include in includes:
        for name, path in _included(include, directory):
            other = members.setdefault(name, path)
            if other.resolve() != path.resolve():
                raise BadJob(f"{other} and {path} would both become {name} in the bundle; rename one")
    data = _zip(members)
    if len(data) > max_bytes:
        raise BadJob(
            f"the bundle of {job_file} has {len(data)} bytes, above max_bundle_bytes ({max_bytes}); "
            "put large data where the workers can read it instead"
        )
    with _archive(data) as archive:
        _checked_members(archive)
    return Bundle(data, content_id(data), job_file.name)


def unpack_bundle(data: bytes, directory: Path) -> None:
    """Unpack into `directory`, which appears whole or not at all; a directory that exists is kept.

    Raises BadJob as `check_bundle` does.
    """
    if directory.exists():
        return
    directory.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    try:
        _extract(data, temporary)
        _rename_into_place(temporary, directory)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_bundle(data: bytes, code_id: CodeId, entry: str) -> None:
    """Raise BadJob unless this is the bundle of this id, holds this job file and is safe to unpack."""
    if content_id(data) != code_id:
        raise BadJob(f"the store holds other bytes than those of {code_id[:19]}...; submit the job again")
    with _archive(data) as archive:
        if PurePosixPath(entry) not in _checked_members(archive).values():
            raise BadJob(f"the job file {entry!r} is not in the bundle; submit the job again")


def _require_file(job_file: Path) -> None:
    if job_file.is_dir():
        raise BadJob(f"job file {job_file} is a directory; name the Python file in it")
    if not job_file.exists():
        raise BadJob(f"job file {job_file} does not exist")
    if job_file.suffix != ".py":
        raise BadJob(f"job file {job_file} is not a Python file (its name must end in .py)")
    _require_regular(job_file)


def _require_regular(path: Path) -> None:
    """Raise BadJob unless this is a regular file: reading a FIFO or a device may never end."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise _unreadable(path, error) from error
    if not stat.S_ISREG(mode):
        raise BadJob(f"{path} is not a regular file but a FIFO, socket or device; leave it out")


def _unreadable(path: Path, error: OSError) -> BadJob:
    return BadJob(f"{path} cannot be read: {error_text(error)}")


def _included(include: Path, directory: Path) -> Iterator[tuple[str, Path]]:
    """Name in the bundle and path of every file below one `--include`."""
    if not include.exists():
        raise BadJob(f"--include {include} does not exist")
    root = include.resolve()
    base = directory if root.is_relative_to(directory) else root.parent
    if not root.is_dir():
        _require_regular(root)
        yield root.relative_to(base).as_posix(), root
        return
    for folder, folders, files in os.walk(root, onerror=_refuse_folder):
        folders[:] = sorted(name for name in folders if name not in _SKIPPED)
        for file in sorted(files):
            if not file.endswith(_SKIPPED_SUFFIXES):
                path = Path(folder, file)
                _require_regular(path)
                yield path.relative_to(base).as_posix(), path


def _refuse_folder(error: OSError) -> None:
    raise _unreadable(Path(error.filename), error) from error


def _zip(members: dict[str, Path]) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, path in sorted(members.items()):
            try:
                content = path.read_bytes()
                executable = bool(path.stat().st_mode & 0o100)
            except OSError as error:
                raise _unreadable(path, error) from error
            info = zipfile.ZipInfo(name, date_time=_EPOCH)
            info.create_system = 3
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (0o100755 if executable else 0o100644) << 16
            archive.writestr(info, content)
    return target.getvalue()


def _extract(data: bytes, directory: Path) -> None:
    with _archive(data) as archive:
        for member, name in _checked_members(archive).items():
            target = directory / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as source, target.open("xb") as file:
                shutil.copyfileobj(source, file, _COPY_BYTES)
            target.chmod(0o755 if (member.external_attr >> 16) & 0o100 else 0o644)


@contextmanager
def _archive(data: bytes) -> Iterator[zipfile.ZipFile]:
    """Open a zip whose directory is small enough to read. Raises BadJob, for later damage too."""
    try:
        if _directory_bytes(data) > _MAX_DIRECTORY_BYTES:
            raise BadJob(f"the bundle holds more than {MAX_MEMBERS} files, or very long names; include fewer")
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            yield archive
    except _BAD_ARCHIVE as error:
        raise BadJob(f"the stored bundle is damaged: {error}; submit the job again") from error


def _directory_bytes(data: bytes) -> int:
    """The size of a zip's directory, read from the zip's end; 0 when it has none, which `zipfile` refuses."""
    at = data.rfind(_END_SIGNATURE, max(0, len(data) - _END.size - _MAX_COMMENT_BYTES))
    if at < 0 or len(data) - at < _END.size:
        return 0
    return int(_END.unpack_from(data, at)[5])


def _checked_members(archive: zipfile.ZipFile) -> dict[zipfile.ZipInfo, PurePosixPath]:
    """The members of a bundle and where each goes below its directory. Raises BadJob before one is read."""
    members = {member: _safe_name(member) for member in archive.infolist()}
    if len(members) > MAX_MEMBERS:
        raise BadJob(f"the bundle holds {len(members)} files, over {MAX_MEMBERS}; include fewer")
    unpacked_bytes = sum(member.file_size for member in members)
    if unpacked_bytes > MAX_UNPACKED_BYTES:
        raise BadJob(
            f"the bundle unpacks to {unpacked_bytes} bytes, over {MAX_UNPACKED_BYTES}; "
            "put large data where the workers can read it instead"
        )
    names = set(members.values())
    twice = len(names) < len(members)
    if twice or any(parent in names for name in names for parent in name.parents):
        raise BadJob("the bundle holds two files in one place")
    return members


def _safe_name(member: zipfile.ZipInfo) -> PurePosixPath:
    """Where a member goes. Raises BadJob unless it is a plain file, plainly compressed, below the bundle."""
    text = member.filename
    name = PurePosixPath(text)
    mode = member.external_attr >> 16
    encoded = os.fsencode(text)
    plain = (
        bool(name.parts)
        and not text.endswith("/")
        and not name.is_absolute()
        and ".." not in name.parts
        and "\0" not in member.orig_filename
        and len(encoded) <= _MAX_PATH_BYTES
        and all(len(os.fsencode(part)) <= _MAX_NAME_BYTES for part in name.parts)
        and stat.S_IFMT(mode) in (0, stat.S_IFREG)
        and not member.flag_bits & _ENCRYPTED
        and member.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
    )
    if not plain:
        raise BadJob(f"the bundle holds {text[:200]!r}, which is not a plain file below it")
    return name


def _rename_into_place(temporary: Path, directory: Path) -> None:
    """Rename; when another process was first, its directory stays."""
    temporary.chmod(0o755)
    try:
        temporary.rename(directory)
    except OSError:
        if not directory.is_dir():
            raise
