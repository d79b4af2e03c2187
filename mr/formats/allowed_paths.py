# A path here is a str, since it may be a URL.
# ruff: noqa: PTH118
"""Where requests may read and write: the settings `input_roots`, `output_roots` and `url_schemes`.

The coordinator checks before it plans a job, and each worker before it opens a file, each against its own
settings. Only the paths that a request names are checked: code in a task may open whatever its user may.
"""

import glob
import os
import re
from collections.abc import Iterable

from mr.errors import BadInput, BadJob
from mr.formats import storage
from mr.settings import Settings

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)(?:://|$)")


class AllowedPaths:
    """What one daemon's settings allow."""

    def __init__(self, settings: Settings) -> None:
        self._schemes = frozenset(scheme.lower() for scheme in settings.url_schemes)
        self._input_roots = _resolved(settings.input_roots)
        self._output_roots = _resolved(settings.output_roots)

    def check_pattern(self, pattern: str) -> None:
        """Refuse an input as the request names it, before it is looked up. Raises BadInput.

        For a pattern this checks the directory before the first wildcard; `check_inputs` checks the matches.
        """
        self._check_schemes(pattern)
        head = pattern
        if glob.has_magic(pattern) and not os.path.lexists(storage.local_path(pattern) or ""):
            head = storage.before_wildcard(pattern) or "/"
        if not _inside(head, self._input_roots):
            raise BadInput(_outside(pattern, "input", self._input_roots))

    def check_inputs(self, paths: Iterable[str]) -> None:
        """Refuse files to be read. Raises BadInput for the first one outside the roots."""
        for path in paths:
            self._check_schemes(path)
            if not _inside(path, self._input_roots):
                raise BadInput(_outside(path, "input", self._input_roots))

    def check_output(self, path: str) -> None:
        """Refuse a directory to be written. Raises BadJob."""
        try:
            self._check_schemes(path)
        except BadInput as error:
            raise BadJob(str(error)) from None
        if not _inside(path, self._output_roots):
            raise BadJob(_outside(path, "output", self._output_roots))

    def _check_schemes(self, path: str) -> None:
        """Refuse a URL, or a link of a chained one (`zip://inner::s3://...`), whose scheme is not allowed."""
        if not storage.is_url(path):
            return
        for link in path.split("::"):
            found = _SCHEME.match(link)
            scheme = found[1].lower() if found else ""
            if scheme not in self._schemes:
                what = f"the scheme {scheme!r}" if scheme else "a local path inside a URL"
                allowed = ", ".join(sorted(self._schemes)) or "none"
                raise BadInput(f"{path}: {what} is not allowed here; url_schemes has {allowed}")


def _resolved(roots: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(
        root.rstrip("/") if (local := storage.local_path(root)) is None else os.path.realpath(local)
        for root in roots
    )


def _inside(path: str, roots: tuple[str, ...]) -> bool:
    """Whether `path`, its links resolved as far as it exists, lies at or below one of `roots`."""
    if not roots:
        return True
    local = storage.local_path(path)
    if local is not None:
        path = os.path.realpath(local)
    elif "::" in path or ".." in path.split("/"):
        return False  # only its file systems know where such a URL leads
    return any(path == root or path.startswith(os.path.join(root, "")) for root in roots)


def _outside(path: str, what: str, roots: tuple[str, ...]) -> str:
    return f"{path} lies outside of {what}_roots ({', '.join(roots)}), links resolved"
