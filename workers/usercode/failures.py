"""How a task attempt fails: exceptions turned into the Failure that the user reads."""

import errno
import shlex
from pathlib import Path

from mr.error_text import bounded, printable_line
from mr.protocol.failures import Failure, FailureKind
from mr.protocol.ids import TaskKind, task_kind
from mr.protocol.jobs import JobSpec
from mr.protocol.options import JobOptions, option_table
from mr.resolve import resolve_options
from mr.settings import MIB, Settings
from mr.workers.messages import RunTask
from mr.workers.usercode.tracebacks import describe, has_user_frames, last_user_line, user_traceback

#: Most inputs that a reproducing command spells out.
MAX_COMMAND_INPUTS = 8


class TaskError(Exception):
    """A task attempt failed; `failure` says how, in the words the user is to read."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def user_failure(
    run_task: RunTask,
    function: str,
    error: BaseException,
    *,
    record: str = "",
    input_path: str | None = None,
    advice: str = "",
) -> TaskError:
    """Describe an exception that came out of the user's `function`.

    `record` names what it was given; `input_path` the file it came from, None in a reduce. An
    exception without a frame of the user's (a generator that is none, a wrong return value) has
    `advice` in place of a line number.
    """
    code_dir = Path(run_task.code_dir)
    if isinstance(error.__cause__, StopIteration) and not has_user_frames(error):
        error = error.__cause__  # Python turned it into a RuntimeError, outside the frame that raised it
    place = last_user_line(error.__traceback__, code_dir)
    where = f" ({place[0]}, line {place[1]})" if place else ""
    if isinstance(error, MemoryError):
        return TaskError(out_of_memory(run_task, function, user_traceback(error, code_dir), record))
    if isinstance(error, SystemExit):
        message = f"{function} called sys.exit(){where}; raise an exception, or return"
    elif has_user_frames(error):
        message = f"{function} raised {describe(error)}{where}"
    else:
        message = f"{function}: {describe(error)}"
    failure = Failure(
        kind=FailureKind.USER_ERROR,
        message=bounded(f"{message}; {advice}" if advice else message, 1000),
        function=function,
        traceback=user_traceback(error, code_dir) if has_user_frames(error) else "",
        record=record,
        reproduce=reproduce_command(run_task, function, input_path),
    )
    return TaskError(failure)


def wrong_result(
    run_task: RunTask, function: str, complaint: str, *, record: str = "", input_path: str | None = None
) -> TaskError:
    """Describe something a user function gave that the engine cannot take: `function` + " " + `complaint`."""
    return refused(run_task, function, f"{function} {complaint}", record=record, input_path=input_path)


def refused(
    run_task: RunTask, function: str, message: str, *, record: str = "", input_path: str | None = None
) -> TaskError:
    """Describe what the engine refuses on account of the user's `function`, in one line."""
    failure = Failure(
        kind=FailureKind.USER_ERROR,
        message=bounded(" ".join(message.split()), 1000),
        function=function,
        record=record,
        reproduce=reproduce_command(run_task, function, input_path),
    )
    return TaskError(failure)


def out_of_memory(run_task: RunTask, function: str, traceback: str, record: str) -> Failure:
    """Describe a MemoryError: the attempt's limit was too small for what it did."""
    limit = run_task.spec.options.task_memory // MIB
    return Failure(
        kind=FailureKind.KILLED,
        message=(
            f"{function or run_task.attempt.task} ran out of memory (limit {limit} MiB); "
            "raise --task-memory, use more maps or reduces, or keep less in memory"
        ),
        function=function,
        traceback=traceback,
        record=record,
    )


def infrastructure_failure(run_task: RunTask, error: BaseException) -> Failure:
    """Describe a failure below a task: its disk, the output's file system, or a defect of mrmq."""
    worker = run_task.identity.worker
    spool = Path(run_task.work_dir).parent  # the same for all attempts, so that one cause is one group
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        places = f"in the spool ({spool})"
        if task_kind(run_task.attempt.task) is run_task.spec.output_kind:
            places += f" or where the output lies ({run_task.spec.output})"
        message = f"worker {worker}: no space left while writing ({describe(error)}); free some {places}"
    elif isinstance(error, OSError):
        message = f"worker {worker}: {describe(error)}; check its disks and that it may write the output"
    else:
        message = f"worker {worker}: {run_task.attempt.task} stopped with {describe(error)}"
    return Failure(kind=FailureKind.INFRASTRUCTURE, message=message)


def reproduce_command(run_task: RunTask, function: str, input_path: str | None) -> str:
    """Give the command that runs `function` on the failing file (None: the job's inputs) again, here alone.

    It is run where the job file is. Empty when the job's inputs are too many to spell out.
    """
    spec = run_task.spec
    inputs = [input_path] if input_path is not None else list(spec.inputs)
    if not inputs or len(inputs) > MAX_COMMAND_INPUTS:
        return ""
    words = ["mr", "run", spec.code.entry, *inputs, "-o", f"reproduce-{run_task.attempt.task}"]
    for path in sorted(Path(run_task.code_dir).iterdir()):
        if path.name not in (spec.code.entry, "__pycache__"):
            words += ["--include", path.name]
    reducing = task_kind(run_task.attempt.task) is TaskKind.REDUCE or function == "partition_fn"
    return " ".join(map(_word, [*words, *_flags(spec, reducing)]))


def _word(text: str) -> str:
    """A word as the shell takes it: control characters, which are escaped when shown, as `$'...'` of bash."""
    if printable_line(text) == text:
        return shlex.quote(text)
    return "$'" + printable_line(text.replace("\\", "\\\\").replace("'", "\\'")) + "'"


def _flags(spec: JobSpec, reducing: bool) -> list[str]:
    """The flags that decide what the user's functions meet, where the job file does not set them itself."""
    without = resolve_options(JobOptions(), spec.code, Settings())
    flags: list[str] = []
    for option in option_table():
        value, usual = getattr(spec.options, option.name), getattr(without, option.name)
        if option.scheduling or value == usual or (option.unit == "bytes" and not value):
            continue
        if isinstance(value, dict):
            given = sorted(value.items() - usual.items())
            flags += [word for name, text in given for word in (option.flag, f"{name}={text}")]
        else:
            flags += [option.flag, str(value)]
    if reducing and spec.reduces != spec.code.options.reduces:
        flags += ["--reduces", str(spec.reduces)]
    for name in sorted(spec.secret_params):  # whoever runs the command has the value, and puts it there
        flags += ["--secret-param", f"{name}=env:{name}"]
    return flags
