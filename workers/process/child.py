"""The child process that runs user code: one task after the other, until the daemon closes the channel."""

import contextlib
import ctypes
import faulthandler
import importlib
import os
import resource
import signal
import socket
import sys
import traceback
from collections.abc import Callable

import msgspec

from mr.protocol.failures import Failure, FailureKind
from mr.protocol.records import TaskResult
from mr.workers.messages import Done, Failed, RunTask, Watch
from mr.workers.process import channel as frames
from mr.workers.process.progress_reporter import ProgressReporter

#: What an entry function looks like: see `mr.workers.task.entry.run_attempt`.
Entry = Callable[[RunTask, Watch], TaskResult]

_PR_SET_PDEATHSIG = 1


def serve(channel_fd: int, output_fd: int, entry: str, template_pid: int) -> None:
    """Run as a child: run the tasks that arrive on `channel_fd` with `entry`, print to `output_fd`."""
    os.setsid()
    _die_with(template_pid)
    _redirect(output_fd)
    run = _resolve(entry)
    decoder = msgspec.msgpack.Decoder(RunTask)
    with socket.socket(fileno=channel_fd) as channel:
        channel.set_inheritable(False)  # a descriptor received over a socket would survive an exec
        own_pid = os.getpid()
        reporter = ProgressReporter(channel)
        reporter.follow_forks()
        while (body := frames.read_blocking(channel)) is not None:
            answer = _run(run, decoder.decode(body), reporter.watch)
            reporter.stop()
            _flush()
            if os.getpid() != own_pid:
                os._exit(0)  # a fork that user code made and let return: it must not answer, too
            channel.sendall(_framed(answer))


def _resolve(entry: str) -> Entry:
    module, _, name = entry.partition(":")
    found: Entry = getattr(importlib.import_module(module), name)
    return found


def _die_with(template_pid: int) -> None:
    """Have the kernel kill this process when the template dies (Linux); leave no core files."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != template_pid:
        os._exit(1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _redirect(output_fd: int) -> None:
    """Send standard output and error to the daemon, line by line; standard input is empty."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(output_fd, 1)
    os.dup2(output_fd, 2)
    os.close(null)
    os.close(output_fd)
    for number, name in ((1, "stdout"), (2, "stderr")):
        stream = open(  # noqa: SIM115 - open for life
            number, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False
        )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    faulthandler.enable()  # a crash in native code prints where Python stood


def _flush() -> None:
    """Flush what was printed, unless user code has closed or replaced the streams."""
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        with contextlib.suppress(Exception):  # whatever object the user put there
            stream.flush()  # type: ignore[union-attr]


def _run(run: Entry, run_task: RunTask, watch: Watch) -> Done | Failed:
    """Run one task. Whatever user code does, short of ending the process, becomes an answer."""
    try:
        return Done(run(run_task, watch))
    except SystemExit as error:
        message = f"the job called sys.exit({error.code!r}); return from the function instead"
        return Failed(Failure(FailureKind.USER_ERROR, message, traceback=traceback.format_exc()))
    except (KeyboardInterrupt, GeneratorExit) as error:  # only the job raises them in this process
        message = f"the job raised {type(error).__name__}; raise an exception of another kind"
        return Failed(Failure(FailureKind.USER_ERROR, message, traceback=traceback.format_exc()))
    except BaseException as error:  # noqa: BLE001 - the outermost frame around user code: all of it is reported
        carried = getattr(error, "failure", None)
        if isinstance(carried, Failure):
            return Failed(carried)
        message = f"the task could not be run: {type(error).__name__}: {error}"
        return Failed(Failure(FailureKind.INFRASTRUCTURE, message, traceback=traceback.format_exc()))


def _framed(answer: Done | Failed) -> bytes:
    """Encode an answer; what a message cannot hold (lone surrogates, huge counters) becomes a failure."""
    try:
        return frames.frame(answer)
    except (UnicodeEncodeError, OverflowError) as error:
        if isinstance(answer, Failed):
            return frames.frame(Failed(_readable(answer.failure)))
        message = (
            f"the task's result cannot be recorded: {error}; look at the names and values of its counters"
        )
        return frames.frame(Failed(Failure(FailureKind.USER_ERROR, message)))


def _readable(failure: Failure) -> Failure:
    """The failure with every lone surrogate spelt out."""
    texts = {
        name: value.encode("utf-8", "backslashreplace").decode()
        for name, value in msgspec.structs.asdict(failure).items()
        if isinstance(value, str) and name != "kind"
    }
    return msgspec.structs.replace(failure, **texts)
