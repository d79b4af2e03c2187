"""Entry functions for child processes: what `mr.workers.task.entry.run_order` is in production, for tests.

The order's `spec.options.params["do"]` names the function below that runs.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import xxhash

from mr.protocol.failures import Failure, FailureKind
from mr.protocol.ids import task_index, task_kind
from mr.protocol.part_names import temporary_part
from mr.protocol.records import MapOutput, PartOutput, TaskResult, TaskStats
from mr.workers.messages import Progress, RunTask

Report = Callable[[Progress], None]


class Refused(Exception):
    """A failure of the task, as `mr.workers.usercode.functions.TaskError` carries it."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def write_part(order: RunTask, rows: int = 1) -> PartOutput:
    """Write `part` as the part of an order's task; nothing where its output is no real place."""
    spec, index = order.spec, task_index(order.attempt.task)
    incarnation = order.identity.incarnation
    path = temporary_part(
        spec.output, spec.job_id, index, order.attempt.number, incarnation, spec.options.output_format
    )
    if spec.output.startswith("/"):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(b"part")
    checksum = xxhash.xxh3_64_hexdigest(b"part")
    return PartOutput(
        order.attempt,
        order.identity.worker,
        incarnation,
        rows,
        4,
        checksum,
    )


def run(order: RunTask, on_progress: Report) -> TaskResult:
    """Do what the job's parameter `do` says, then give a result with this process's pid in it."""
    _ACTS[order.spec.options.params.get("do", "nothing")](order, on_progress)
    if "huge" in order.spec.options.params:
        counters = {"huge": 10**30}
        return TaskResult(
            PartOutput(
                order.attempt,
                order.identity.worker,
                order.identity.incarnation,
                0,
                0,
                "",
            ),
            TaskStats(counters=counters),
        )
    counters = {f"counter-{n:06d}": n for n in range(int(order.spec.options.params.get("counters", "0")))}
    stats = TaskStats(records_in=os.getpid(), counters=counters)
    if order.spec.output_kind is task_kind(order.attempt.task):
        return TaskResult(write_part(order), stats)
    path = Path(order.work_dir) / "segments"
    path.write_bytes(b"onetwo")
    identity = order.identity
    output = MapOutput(
        order.attempt,
        identity.worker,
        identity.incarnation,
        identity.address,
        identity.host,
        str(path),
    )
    return TaskResult(output, stats)


def _nothing(order: RunTask, on_progress: Report) -> None:
    on_progress(Progress(0.5, 7, "map"))


def _hang(order: RunTask, on_progress: Report) -> None:
    """Say so in a file, then never end."""
    (Path(order.spec.options.params["mark"]) / f"{order.attempt.task}.{order.attempt.number}").write_text(
        str(os.getpid())
    )
    threading.Event().wait()


def _wait_for_go(order: RunTask, on_progress: Report) -> None:
    """Say so in a file, then wait until the test makes the file `go`."""
    mark = Path(order.spec.options.params["mark"])
    (mark / f"{order.attempt.task}.{order.attempt.number}").write_text(str(os.getpid()))
    while not (mark / "go").exists():
        time.sleep(0.01)


def _hang_with_grandchild(order: RunTask, on_progress: Report) -> None:
    mark = Path(order.spec.options.params["mark"])
    grandchild = subprocess.Popen([sys.executable, "-c", "import threading; threading.Event().wait()"])
    (mark / "grandchild").write_text(str(grandchild.pid))
    _hang(order, on_progress)


def _segfault(order: RunTask, on_progress: Report) -> None:
    print("before the crash")
    ctypes.string_at(0)


def _die_by_signal(order: RunTask, on_progress: Report) -> None:
    os.kill(os.getpid(), getattr(signal, order.spec.options.params["signal"]))


def _exit_at_once(order: RunTask, on_progress: Report) -> None:
    print("last words")
    os._exit(3)


def _sys_exit(order: RunTask, on_progress: Report) -> None:
    sys.exit("enough")


def _interrupt(order: RunTask, on_progress: Report) -> None:
    raise KeyboardInterrupt


def _ruin_streams(order: RunTask, on_progress: Report) -> None:
    sys.stderr.close()
    sys.stdout = None  # type: ignore[assignment]
    os.close(1)


def _fork(order: RunTask, on_progress: Report) -> None:
    """Go on twice; the fork answers first."""
    forked = os.fork()
    if forked:
        os.waitpid(forked, 0)


def _raise(order: RunTask, on_progress: Report) -> None:
    print("something was wrong")
    raise Refused(Failure(FailureKind.USER_ERROR, "ValueError: no", function="map_fn", record="file:7"))


def _raise_half_character(order: RunTask, on_progress: Report) -> None:
    raise Refused(Failure(FailureKind.USER_ERROR, "no \ud800", record="file:7 \udcff"))


def _defect(order: RunTask, on_progress: Report) -> None:
    raise RuntimeError("a defect of the engine")


def _fill_disk(order: RunTask, on_progress: Report) -> None:
    raise OSError(28, "No space left on device")


def _print_much(order: RunTask, on_progress: Report) -> None:
    print("the first line")
    block = "x" * 65535 + "\n"
    for _ in range(int(order.spec.options.params["blocks"])):
        sys.stdout.write(block)
    print("the last line", file=sys.stderr)


def _burn(order: RunTask, on_progress: Report) -> None:
    """Use a quarter of a second of CPU."""
    while time.process_time() < 0.25:
        continue


def _read_stdin(order: RunTask, on_progress: Report) -> None:
    print(repr(sys.stdin.read()))


def _allocate(order: RunTask, on_progress: Report) -> None:
    kept = []
    while True:
        kept.append(b"x" * (8 << 20))


def _hang_up(order: RunTask, on_progress: Report) -> None:
    os.closerange(3, 256)
    threading.Event().wait()


def _print_a_set(order: RunTask, on_progress: Report) -> None:
    print(*{f"word{n}" for n in range(50)})


_ACTS: dict[str, Callable[[RunTask, Report], None]] = {
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
