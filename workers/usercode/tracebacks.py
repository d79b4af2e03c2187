"""A user's traceback as the user should see it: their frames, their file names, bounded in length."""

import traceback
from pathlib import Path
from types import TracebackType

import mr
import mr.workers
from mr.error_text import bounded, safe_text

#: Most characters of a traceback and of a one-line message that travel with a failure.
MAX_TRACEBACK = 16_000
MAX_MESSAGE = 500

_DIRECTORIES = [Path(str(package.__file__)).parent for package in (mr, mr.workers)]
_OURS = tuple(f"{form}/" for directory in _DIRECTORIES for form in (directory, directory.resolve()))
_INTERNAL = "<frozen importlib"


def user_traceback(error: BaseException, code_dir: Path) -> str:
    """Render the traceback of `error` without frames of mrmq, files of the job relative to `code_dir`.

    The same on every worker, wherever it unpacked the code. At most MAX_TRACEBACK characters: the
    middle of a longer one is left out.
    """
    report = traceback.TracebackException.from_exception(error)
    _trim(report, f"{code_dir.resolve()}/", set())
    return bounded("".join(report.format()).rstrip("\n"), MAX_TRACEBACK)


def _trim(report: traceback.TracebackException, prefix: str, seen: set[int]) -> None:
    """Drop frames of mrmq and shorten file names, in `report` and in all it was caused by."""
    if id(report) in seen:
        return
    seen.add(id(report))
    report.stack[:] = [frame for frame in report.stack if not is_ours(frame.filename)]
    for frame in report.stack:
        # Reading the line fills the frame's cache, so that it is found under the old name.
        if frame.line is not None:
            frame.filename = frame.filename.removeprefix(prefix)
    if getattr(report, "filename", None):  # a SyntaxError names its file itself
        report.filename = report.filename.removeprefix(prefix)
    others = [report.__cause__, report.__context__, *(getattr(report, "exceptions", None) or ())]
    for other in others:
        if other is not None:
            _trim(other, prefix, seen)


def is_ours(filename: str) -> bool:
    """Whether a frame of `filename` belongs to the engine or to Python's importer, not to the user."""
    return filename.startswith(_OURS) or filename.startswith(_INTERNAL)


def has_user_frames(error: BaseException) -> bool:
    """Whether any frame of the traceback, of the user or a library, lies outside the engine."""
    return last_user_line(error.__traceback__) is not None


def last_user_line(trace: TracebackType | None, directory: Path | None = None) -> tuple[str, int] | None:
    """File and line of the innermost frame outside mrmq; with `directory`, only of files below it."""
    prefix = f"{directory.resolve()}/" if directory is not None else ""
    found = None
    while trace is not None:
        filename = trace.tb_frame.f_code.co_filename
        if not is_ours(filename) and filename.startswith(prefix):
            found = (filename.removeprefix(prefix), trace.tb_lineno)
        trace = trace.tb_next
    return found


def describe(error: BaseException) -> str:
    """Say `ValueError: what it says` on one line of at most MAX_MESSAGE characters."""
    text = " ".join(safe_text(error).split())
    name = type(error).__name__
    return bounded(f"{name}: {text}" if text else name, MAX_MESSAGE)
