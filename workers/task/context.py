"""One attempt at a task, as it runs in the child: its RunTask, its code, its progress, its measures."""

import contextlib
import gc
import re
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from mr.errors import BadInput
from mr.formats.input.bad_records import MalformedRecord, TooManyBadRecords
from mr.protocol.failures import Failure, FailureKind
from mr.protocol.ids import task_index
from mr.protocol.jobs import Buffers, JobSpec
from mr.protocol.records import TaskStats
from mr.runtime import TaskContext
from mr.workers.messages import RunTask
from mr.workers.task.meter import Meter
from mr.workers.usercode.failures import TaskError, user_failure
from mr.workers.usercode.functions import UserCode
from mr.workers.usercode.tracebacks import describe

T = TypeVar("T")

#: A buffer takes this share of a task's memory limit at most: sorting and writing it takes as much again.
MEMORY_SHARES = 4

#: Thresholds of the garbage collector while records flow. Pairs come and go by the million, so it
#: looks only when this many containers were made and *kept*: cycles that user code makes are still
#: freed, at no measurable cost to code that makes none.
GC_THRESHOLDS = (100_000, 50, 100)


class Usage:
    """What the attempt used of the machine since it began."""

    def __init__(self) -> None:
        self._wall = time.monotonic()
        self._cpu = _cpu_seconds()
        # A long-lived process keeps the peak of earlier tasks: start it afresh where the kernel allows.
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")

    def cpu_seconds(self) -> float:
        """Processor time of this process's threads and of the children it waited for."""
        return _cpu_seconds() - self._cpu

    def wall_seconds(self) -> float:
        """Time since the attempt began."""
        return time.monotonic() - self._wall


def _cpu_seconds() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def peak_memory_bytes() -> int:
    """Most resident memory of this process since the last Usage was made (on Linux; else since its start)."""
    try:
        match = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        match = None
    peak_kib = int(match[1]) if match else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak_kib * 1024


@dataclass
class Attempt:
    """Everything the map and reduce loops share."""

    run_task: RunTask
    code: UserCode
    context: TaskContext
    meter: Meter = field(default_factory=Meter)
    usage: Usage = field(default_factory=Usage)

    @property
    def spec(self) -> JobSpec:
        """The job."""
        return self.run_task.spec

    @property
    def buffers(self) -> Buffers:
        """Where the job cuts its data, the same on every worker."""
        return self.run_task.spec.buffers

    @property
    def work_dir(self) -> Path:
        """This attempt's own directory."""
        return Path(self.run_task.work_dir)

    @property
    def index(self) -> int:
        """Number of the split (map) or of the partition (reduce)."""
        return task_index(self.run_task.attempt.task)

    def buffer_bytes(self, most: int) -> int:
        """The size of a buffer that may be as large as the setting `most`, within the job's memory limit.

        Counted from the job's own figures, never measured: so spills fall alike wherever the job runs.
        """
        limit = self.spec.options.task_memory
        return min(most, limit // MEMORY_SHARES) if limit else most

    def call_hook(self, name: str) -> Any:
        """Call the user's `*_init` or `*_final` function, if there is one; returns its result."""
        function = self.code.get(name)
        if function is None:
            return None
        with self.user_code(name):
            return function()

    @contextlib.contextmanager
    def user_code(
        self, function: str, position: Callable[[], tuple[str, str | None]] | None = None
    ) -> Iterator[None]:
        """Turn what the user's `function` raises inside the block into a TaskError.

        `position` is asked for the record and the input file when it does. Failures of the engine that
        pass through user code go on as they are. A KeyboardInterrupt is the user's like any other: no
        interrupt from outside reaches the process of a task.
        """
        try:
            yield
        except (TaskError, EngineError):
            raise
        except BaseException as error:
            record, path = position() if position is not None else ("", None)
            raise user_failure(self.run_task, function, error, record=record, input_path=path) from error

    def reading(self, chunks: Iterator[T]) -> Iterator[T]:
        """Pass the input on.

        A malformed record is the input's failure; any other error in it names this worker and the file.
        """
        try:
            yield from chunks
        except (MalformedRecord, TooManyBadRecords) as error:
            advice = "" if isinstance(error, TooManyBadRecords) else "; or skip some: --skip-bad-records N"
            raise TaskError(Failure(FailureKind.BAD_INPUT, f"{error}{advice}")) from error
        except (BadInput, OSError, UnicodeError) as error:
            text = str(error) if isinstance(error, BadInput) else describe(error)
            worker = self.run_task.identity.worker
            message = f"worker {worker} cannot read its input: {text}"
            raise TaskError(Failure(FailureKind.INPUT_UNREADABLE, message)) from error

    def stats(self, **measured: Any) -> TaskStats:
        """Complete the loop's own figures with time, memory and the user's counters."""
        return TaskStats(
            cpu_seconds=round(self.usage.cpu_seconds(), 6),
            wall_seconds=round(self.usage.wall_seconds(), 6),
            peak_memory_bytes=peak_memory_bytes(),
            counters=dict(sorted(self.context.counters.items())),
            **measured,
        )


class EngineError(Exception):
    """Carries a failure of the engine's own (`cause`) out of user code that was waiting for values."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


@contextlib.contextmanager
def quiet_collector() -> Iterator[None]:
    """Keep the garbage collector from walking the records in flight over and over.

    What lives before is frozen meanwhile, unless the process was forked with most of it frozen: that
    stays so, for thawing it would copy the pages it shares.
    """
    before = gc.get_threshold()
    frozen = gc.get_freeze_count() > 0
    if not frozen:
        gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        if not frozen:
            gc.unfreeze()
