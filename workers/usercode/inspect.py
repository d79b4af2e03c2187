"""Looking at a job file before it is submitted, in a process of its own: it may do anything.

`python -m mr.workers.usercode.inspect CODE_DIR ENTRY CODE_ID` reads the job's parameters as JSON from
standard input and prints one line of JSON. What the job file itself prints goes to standard error.
"""

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import msgspec

from mr.error_text import bounded
from mr.errors import BadJob, BadMessage
from mr.protocol.codec import JSON, decode
from mr.protocol.jobs import CodeManifest
from mr.runtime import TaskContext, active
from mr.settings import SECRET_VARIABLES
from mr.workers.usercode.functions import FUNCTIONS, load
from mr.workers.usercode.map_side import map_side_digests

#: Bytes of the job file's printing that are kept to explain a crash; the rest is read and dropped.
PRINT_TAIL_BYTES = 8 * 1024
#: A manifest is small; more than this on the report's pipe is not one.
MAX_REPORT_BYTES = 1024 * 1024


class Report(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the inspecting process says: a manifest, or why the job is refused."""

    manifest: CodeManifest | None = None
    refused: str = ""


def inspect_job(
    code_dir: Path, entry: str, code_id: str, params: Mapping[str, str] | None = None
) -> CodeManifest:
    """Import the job file `code_dir/entry` in this process and describe what it defines.

    `params` are what `mr.param` knows meanwhile. Raises BadJob with one line.
    """
    with active(TaskContext(dict(params or {}), place="inspection")):
        code = load(code_dir, entry)
    return CodeManifest(
        code_id=code_id,
        entry=entry,
        functions=tuple(name for name in FUNCTIONS if name in code.functions),
        reduce_agg=code.aggregation_spec("reduce_fn"),
        combine_agg=code.aggregation_spec("combine_fn"),
        options=code.options,
        map_side=map_side_digests(code),
    )


def inspect_in_subprocess(
    code_dir: Path,
    entry: str,
    code_id: str,
    timeout_seconds: float,
    params: Mapping[str, str] | None = None,
) -> CodeManifest:
    """Inspect a job file in a child process, whatever it does there; blocks up to `timeout_seconds`.

    The child and its own children are dead on return. Raises BadJob with one line that says what
    to correct.
    """
    process = subprocess.Popen(
        [
            sys.executable,
            "-P",
            "-m",
            "mr.workers.usercode.inspect",
            str(Path(code_dir).resolve()),
            entry,
            code_id,
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env={name: value for name, value in os.environ.items() if name not in SECRET_VARIABLES},
    )
    report = None
    with process:
        try:
            _give(process, json.dumps(dict(params or {})).encode())
            report, printed = _read(process, time.monotonic() + timeout_seconds)
        finally:
            _end_session(process, 0.5 if report is not None else 0.0)
    if report is None:
        raise BadJob(
            f"{entry} did not finish its import within {timeout_seconds:g} s; "
            "put what takes long into map_init or map_fn"
        )
    return _conclude(report, printed, process.returncode, entry)


def _give(process: subprocess.Popen[bytes], params: bytes) -> None:
    """Hand the parameters over; a child that died early is found out when its report is read."""
    assert process.stdin is not None
    try:
        process.stdin.write(params)
        process.stdin.close()
    except BrokenPipeError:
        return


def _read(process: subprocess.Popen[bytes], deadline: float) -> tuple[bytes | None, bytes]:
    """Collect the report, one line, and the tail of what was printed; None = out of time.

    Reading ends with the report: a grandchild that keeps the pipes open holds nothing up.
    """
    assert process.stdout is not None and process.stderr is not None
    report, printed = bytearray(), bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ, report)
        selector.register(process.stderr, selectors.EVENT_READ, printed)
        while True:
            events = selector.select(max(0.0, deadline - time.monotonic()))
            if not events or time.monotonic() > deadline:
                return None, bytes(printed)
            for key, _ in events:
                data = _read_some(key.fileobj)
                key.data.extend(data)
                if key.fileobj is process.stdout and (not data or data.endswith(b"\n")):
                    return bytes(report), bytes(printed)
                if not data:
                    selector.unregister(key.fileobj)
            del printed[:-PRINT_TAIL_BYTES]
            del report[MAX_REPORT_BYTES:]


def _read_some(stream: object) -> bytes:
    assert hasattr(stream, "fileno")
    return os.read(stream.fileno(), 64 * 1024)


def _end_session(process: subprocess.Popen[bytes], grace_seconds: float) -> None:
    """Give the child a moment to exit by itself, then kill it and all that it started."""
    try:
        process.wait(timeout=grace_seconds)
    except subprocess.TimeoutExpired:
        process.kill()
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def _conclude(data: bytes, printed: bytes, code: int | None, entry: str) -> CodeManifest:
    """Turn the child's report, or its lack, into a manifest. Raises BadJob."""
    try:
        report = decode(data, Report, JSON) if data else Report()
    except BadMessage:
        report = Report()
    if report.manifest is not None:
        return report.manifest
    if report.refused:
        raise BadJob(report.refused)
    lines = printed.decode(errors="replace").strip().splitlines()
    said = f"; it printed last: {bounded(lines[-1].strip(), 200)}" if lines else ""
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        raise BadJob(f"{entry}: its import was ended by signal {-code} ({name}){said}")
    raise BadJob(
        f"{entry} ended the process with exit code {code} while it was imported; "
        f"take os._exit() out of the file{said}"
    )


def _report(stream: IO[bytes], report: Report) -> None:
    stream.write(msgspec.json.encode(report) + b"\n")
    stream.flush()


def main(arguments: list[str]) -> int:
    """Inspect the job file that the arguments name and print a Report as one line of JSON."""
    code_dir, entry, code_id = arguments
    params = json.loads(sys.stdin.buffer.read() or b"{}")
    with os.fdopen(os.dup(1), "wb") as stream:
        os.dup2(2, 1)  # what the job file prints stays out of the report
        try:
            report = Report(manifest=inspect_job(Path(code_dir), entry, code_id, params))
        except BadJob as error:
            report = Report(refused=str(error))
        _report(stream, report)
    return 0


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(status)  # threads or exit handlers that the job file left behind are not waited for
