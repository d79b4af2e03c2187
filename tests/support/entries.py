"""Entry functions for child processes: what `mr.workers.task.entry.run_attempt` is in production, for tests.

The order's `spec.options.params["do"]` names the function below that runs.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import xxhash

from mr.protocol.failures import Failure, FailureKind
from mr.protocol.ids import task_index, task_kind
from mr.protocol.part_names import temporary_part
from mr.protocol.records import MapOutput, PartOutput, TaskResult, TaskStats
from mr.workers.messages import Progress, RunTask, Watch


class Refused(Exception):
    """A failure of the task, as `mr.workers.usercode.functions.TaskError` carries it."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def write_part(run_task: RunTask, rows: int = 1) -> PartOutput:
    """Write `part` as the part of an order's task; nothing where its output is no real place."""
    spec, index = run_task.spec, task_index(run_task.attempt.task)
    incarnation = run_task.identity.incarnation
    path = temporary_part(
        spec.output, spec.job_id, index, run_task.attempt.number, incarnation, spec.options.output_format
    )
    if spec.output.startswith("/"):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(b"part")
    checksum = xxhash.xxh3_64_hexdigest(b"part")
    return PartOutput(
        run_task.attempt,
        run_task.identity.worker,
        incarnation,
        rows,
        4,
        checksum,
    )


def run(run_task: RunTask, watch: Watch) -> TaskResult:
    """Do what the job's parameter `do` says, then give a result with this process's pid in it."""
    _ACTS[run_task.spec.options.params.get("do", "nothing")](run_task, watch)
    if "huge" in run_task.spec.options.params:
        counters = {"huge": 10**30}
        return TaskResult(
            PartOutput(
                run_task.attempt,
                run_task.identity.worker,
                run_task.identity.incarnation,
                0,
                0,
                "",
            ),
            TaskStats(counters=counters),
        )
    counters = {f"counter-{n:06d}": n for n in range(int(run_task.spec.options.params.get("counters", "0")))}
    stats = TaskStats(records_in=os.getpid(), counters=counters)
    if run_task.spec.output_kind is task_kind(run_task.attempt.task):
        return TaskResult(write_part(run_task), stats)
    path = Path(run_task.work_dir) / "segments"
    path.write_bytes(b"onetwo")
    identity = run_task.identity
    output = MapOutput(
        run_task.attempt,
        identity.worker,
        identity.incarnation,
        identity.address,
        identity.host,
        str(path),
    )
    return TaskResult(output, stats)


def _nothing(run_task: RunTask, watch: Watch) -> None:
    watch(lambda: Progress(0.5, 7, "map"))


def _hang(run_task: RunTask, watch: Watch) -> None:
    """Say so in a file, then never end."""
    (
        Path(run_task.spec.options.params["mark"]) / f"{run_task.attempt.task}.{run_task.attempt.number}"
    ).write_text(str(os.getpid()))
    threading.Event().wait()


def _wait_for_go(run_task: RunTask, watch: Watch) -> None:
    """Say so in a file, then wait until the test makes the file `go`."""
    mark = Path(run_task.spec.options.params["mark"])
    (mark / f"{run_task.attempt.task}.{run_task.attempt.number}").write_text(str(os.getpid()))
    while not (mark / "go").exists():
        time.sleep(0.01)


def _hang_with_grandchild(run_task: RunTask, watch: Watch) -> None:
    mark = Path(run_task.spec.options.params["mark"])
    grandchild = subprocess.Popen([sys.executable, "-c", "import threading; threading.Event().wait()"])
    (mark / "grandchild").write_text(str(grandchild.pid))
    _hang(run_task, watch)


def _segfault(run_task: RunTask, watch: Watch) -> None:
    print("before the crash")
    ctypes.string_at(0)


def _die_by_signal(run_task: RunTask, watch: Watch) -> None:
    os.kill(os.getpid(), getattr(signal, run_task.spec.options.params["signal"]))


def _exit_at_once(run_task: RunTask, watch: Watch) -> None:
    print("last words")
    os._exit(3)


def _sys_exit(run_task: RunTask, watch: Watch) -> None:
    sys.exit("enough")


def _interrupt(run_task: RunTask, watch: Watch) -> None:
    raise KeyboardInterrupt


def _ruin_streams(run_task: RunTask, watch: Watch) -> None:
    sys.stderr.close()
    sys.stdout = None  # type: ignore[assignment]
    os.close(1)


def _fork(run_task: RunTask, watch: Watch) -> None:
    """Go on twice; the fork answers first."""
    forked = os.fork()
    if forked:
        os.waitpid(forked, 0)


def _raise(run_task: RunTask, watch: Watch) -> None:
    print("something was wrong")
    raise Refused(Failure(FailureKind.USER_ERROR, "ValueError: no", function="map_fn", record="file:7"))


def _raise_half_character(run_task: RunTask, watch: Watch) -> None:
    raise Refused(Failure(FailureKind.USER_ERROR, "no \ud800", record="file:7 \udcff"))


def _defect(run_task: RunTask, watch: Watch) -> None:
    raise RuntimeError("a defect of the engine")


def _fill_disk(run_task: RunTask, watch: Watch) -> None:
    raise OSError(28, "No space left on device")


def _print_much(run_task: RunTask, watch: Watch) -> None:
    print("the first line")
    block = "x" * 65535 + "\n"
    for _ in range(int(run_task.spec.options.params["blocks"])):
        sys.stdout.write(block)
    print("the last line", file=sys.stderr)


def _burn(run_task: RunTask, watch: Watch) -> None:
    """Use a quarter of a second of CPU."""
    while time.process_time() < 0.25:
        continue


def _read_stdin(run_task: RunTask, watch: Watch) -> None:
    print(repr(sys.stdin.read()))


def _allocate(run_task: RunTask, watch: Watch) -> None:
    kept = []
    while True:
        kept.append(b"x" * (8 << 20))


def _hang_up(run_task: RunTask, watch: Watch) -> None:
    os.closerange(3, 256)
    threading.Event().wait()


def _print_a_set(run_task: RunTask, watch: Watch) -> None:
    print(*{f"word{n}" for n in range(50)})


def _hang_in_a_record(run_task: RunTask, watch: Watch) -> None:
    """Hang in the record `file:7`; with the parameter `deaf` in a way that lets no report through."""
    watch(lambda: Progress(0.5, 3, "map", record="file:7"))
    if "deaf" in run_task.spec.options.params:
        ctypes.PyDLL(None).pause()  # a PyDLL keeps the interpreter's lock
    _hang(run_task, watch)


def _fork_strictly(run_task: RunTask, watch: Watch) -> None:
    """Fork while progress is reported, with every warning an error; go on to report."""
    watch(lambda: Progress(0.5, 7, "map"))
    warnings.simplefilter("error")
    for _ in range(20):
        forked = os.fork()
        if not forked:
            os._exit(0)
        os.waitpid(forked, 0)
    _hang(run_task, watch)


_ACTS: dict[str, Callable[[RunTask, Watch], None]] = {
    "hang_in_a_record": _hang_in_a_record,
    "fork_strictly": _fork_strictly,
    "nothing": _nothing,
    "hang": _hang,
    "wait_for_go": _wait_for_go,
    "hang_with_grandchild": _hang_with_grandchild,
    "segfault": _segfault,
    "die_by_signal": _die_by_signal,
    "exit_at_once": _exit_at_once,
    "sys_exit": _sys_exit,
    "interrupt": _interrupt,
    "ruin_streams": _ruin_streams,
    "fork": _fork,
    "raise": _raise,
    "defect": _defect,
    "raise_half_character": _raise_half_character,
    "fill_disk": _fill_disk,
    "print_much": _print_much,
    "burn": _burn,
    "read_stdin": _read_stdin,
    "allocate": _allocate,
    "hang_up": _hang_up,
    "print_a_set": _print_a_set,
}
