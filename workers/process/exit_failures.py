"""The failures of child processes that end without an answer; each says what to do."""

import signal

import msgspec

from mr.errors import MrError
from mr.protocol.failures import Failure, FailureKind
from mr.protocol.ids import task_index
from mr.protocol.jobs import FileRange
from mr.settings import MIB
from mr.workers.messages import RunTask
from mr.workers.usercode.failures import reproduce_command

#: Most ranges of a split that a failure names.
_RANGES_NAMED = 3

#: What each signal most often means, and what to do.
_HINTS: dict[int, str] = {
    signal.SIGKILL: (
        "most often the kernel ran out of memory (see `dmesg`): start the worker with fewer slots, "
        "or split the job finer with more maps and reduces"
    ),
    signal.SIGSEGV: "a crash in native code: the end of the task's output shows where it was",
    signal.SIGBUS: "a memory-mapped file was cut short, or the disk of one is full",
    signal.SIGABRT: "native code gave up: the end of the task's output says why",
    signal.SIGFPE: "native code divided by zero: the end of the task's output shows where it was",
    signal.SIGILL: "a native library was built for another processor",
    signal.SIGXCPU: "a limit on CPU time (`ulimit -t`) struck",
    signal.SIGXFSZ: "a limit on file size (`ulimit -f`) struck",
    signal.SIGTERM: "somebody terminated the process of the task from outside, or user code did",
}


def explain(status: int | None, memory_bytes: int) -> Failure:
    """Explain an end that this worker did not cause. `status`: an exit code, or minus a signal number."""
    if status is None:
        return Failure(
            FailureKind.INFRASTRUCTURE, "the process that starts the tasks died, and this task's with it"
        )
    if status >= 0:
        return Failure(
            FailureKind.KILLED,
            f"the process of the task exited by itself with status {status}: the job, or a library of its, "
            "called os._exit, or closed files that are not its own; return from the function instead",
        )
    number = -status
    name = _signal_name(number)
    hint = _HINTS.get(number, "sent by user code or from outside")
    limit = (
        f"; the task's limit is {memory_bytes // MIB} MiB"
        if number == signal.SIGKILL and memory_bytes
        else ""
    )
    return Failure(
        FailureKind.KILLED, f"the process of the task was killed by {name}: {hint}{limit}", signal=number
    )


def located(failure: Failure, run_task: RunTask) -> Failure:
    """Name the split or partition and how to run it again, for a process that did not say so itself."""
    if not failure.rule.ends_process or (failure.record and failure.function):
        return failure
    if run_task.split is None:
        return msgspec.structs.replace(
            failure,
            record=failure.record or f"partition {task_index(run_task.attempt.task)}",
            reproduce=_reproduce(run_task, "reduce_fn", None),
        )
    ranges = run_task.split.ranges
    record = ", ".join(map(_describe_range, ranges[:_RANGES_NAMED]))
    if len(ranges) > _RANGES_NAMED:
        record += f" and {len(ranges) - _RANGES_NAMED} more"
    path = ranges[0].path if len(ranges) == 1 else None
    reproduce = _reproduce(run_task, "map_fn", path)
    return msgspec.structs.replace(failure, record=failure.record or record, reproduce=reproduce)


def _reproduce(run_task: RunTask, function: str, path: str | None) -> str:
    try:
        return reproduce_command(run_task, function, path)
    except OSError:  # the code's directory is gone, as when somebody deletes the spool
        return ""


def _describe_range(piece: FileRange) -> str:
    if piece.length < 0:
        return piece.path
    return f"{piece.path}:{piece.start}-{piece.start + piece.length}"


def too_slow(seconds: float, stalled_seconds: float, record: str) -> Failure:
    """An attempt exceeded its time limit, and had been at one record (empty: unknown) for some time."""
    return Failure(
        FailureKind.TIMED_OUT,
        f"time limit: the task ran longer than {seconds:g} s and was killed; raise --task-timeout, "
        "or split the job finer with more maps and reduces",
        record=record,
        signal=int(signal.SIGKILL),
        stalled_seconds=round(stalled_seconds, 3),
    )


def too_big(limit_bytes: int) -> Failure:
    """An attempt exceeded its memory limit."""
    return Failure(
        FailureKind.KILLED,
        f"memory limit: the task used more than its {limit_bytes // MIB} MiB "
        "and was killed; raise --task-memory, or split the job finer with more maps and reduces",
        signal=int(signal.SIGKILL),
    )


def hung_up() -> Failure:
    """A child still runs but has closed its channel."""
    return Failure(
        FailureKind.KILLED,
        "the process of the task closed its connection to the worker and was killed: user code closes files "
        "that are not its own (os.close, os.closerange)",
        signal=int(signal.SIGKILL),
    )


def no_process(error: MrError) -> Failure:
    """No child could be started."""
    return Failure(FailureKind.INFRASTRUCTURE, str(error))


def protocol_error(error: Exception) -> Failure:
    """A child sent something that is not a message."""
    return Failure(
        FailureKind.INFRASTRUCTURE, f"the process of the task broke the protocol with its worker: {error}"
    )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
