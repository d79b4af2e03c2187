"""Directories that show whether their process lives, by a lock that the kernel releases at its end."""

import fcntl
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

#: Marks a directory as made by a worker: without it nothing is ever deleted.
MARK = ".mrmq-life"
_COMING = ".mrmq-coming"


def mark_alive(directory: Path) -> IO[str]:
    """Mark a new directory as this process's, until the file returned is closed. Raises OSError.

    The mark is locked before it appears, so nobody finds it unlocked.
    """
    coming = directory / _COMING
    lock = open(coming, "x")  # noqa: SIM115 - the lock lives as long as the file is open
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        coming.rename(directory / MARK)
    except OSError:
        lock.close()
        raise
    return lock


def hold_dead(directories: Iterable[Path]) -> Iterator[tuple[Path, IO[bytes]]]:
    """Lock those directories whose process is dead; yields each with its lock, which the caller closes.

    While the lock is held, nobody else considers the directory dead. Unmarked ones are not touched.
    """
    for directory in directories:
        lock = _open(directory / MARK)
        if lock is None:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # it lives, or that is unknown
            lock.close()
            continue
        yield directory, lock


def clear_dead(directories: Iterable[Path]) -> Iterator[Path]:
    """Delete those directories whose process is dead; yields each."""
    for directory, lock in hold_dead(directories):
        with lock:
            shutil.rmtree(directory, ignore_errors=True)
        yield directory


def _open(mark: Path) -> IO[bytes] | None:
    """Open a mark, never through a link; None if it is missing or may not be opened."""
    try:
        return os.fdopen(os.open(mark, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK), "r+b", 0)
    except OSError:
        return None
