"""Points around what a daemon does to files: it waits there in the thread that does it."""

from pathlib import Path
from typing import Any

from mr.formats import storage
from mr.protocol.ids import AttemptId
from mr.workers.daemon.spool import Spool
from tests.faults.processes.points import Points


def hold_worker_files(points: Points) -> None:
    """Points while a map output is kept, and around the rename of a part."""
    keep_output, rename = Spool.keep_output, storage.rename

    class Made:
        """A finished segment file that waits before it is moved; its index is written by then."""

        def __init__(self, path: Path, attempt: AttemptId) -> None:
            self._path = path
            self._attempt = attempt

        def rename(self, target: Path) -> Path:
            points.hold("map-while-keeping", self._attempt.task)
            return self._path.rename(target)

    def keep(spool: Spool, attempt: AttemptId, made: Path, index: bytes) -> Path:
        return keep_output(spool, attempt, Made(made, attempt), index)  # type: ignore[arg-type]

    def rename_part(source: str, target: str) -> None:
        points.hold("part-before-rename")
        rename(source, target)
        points.hold("part-after-rename")

    Spool.keep_output = keep  # type: ignore[method-assign]
    storage.rename = rename_part


def hold_coordinator_files(points: Points) -> None:
    """Points while the coordinator finishes an output."""
    write_file = storage.write_file

    def write(path: str, *others: Any) -> None:
        success = path.endswith("/_SUCCESS")
        if success:
            points.hold("finish-before-success")
        write_file(path, *others)
        if success:
            points.hold("finish-after-success")

    storage.write_file = write
