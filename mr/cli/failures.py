"""The report of a failed job: each cause once, with the record and the command that reproduces it."""

from mr.cli.formatting import duration
from mr.error_text import printable, printable_line
from mr.protocol.records import FailureGroup, JobRecord, JobState

#: Task ids named per cause; the others are counted.
_TASKS_NAMED = 3


def describe_end(record: JobRecord, *, resumable: bool = False) -> str:
    """Say why a job FAILED or was CANCELLED: its cause, every group of failures, how to let it go on."""
    verb = "failed" if record.state is JobState.FAILED else "was cancelled"
    cause = f": {record.cause}" if record.cause else ""
    lines = [printable_line(f"mr: job {record.job_id} {verb}{cause}")]
    if record.state is JobState.FAILED:
        lines += [describe_group(group) for group in record.failures]
    if resumable:
        lines += ["", f"resume it with: mr resume {record.job_id}"]
    return "\n".join(lines)


def describe_group(group: FailureGroup) -> str:
    """One cause: what, where, how often, the user's traceback, and the command that reproduces it."""
    failure = group.failure
    lines = ["", f"{failure.kind} {_times(group)}"]
    if failure.function:
        lines.append(f"  function   {printable_line(failure.function)}")
    if failure.record:
        lines.append(f"  record     {printable_line(failure.record)}")
    if failure.stalled_seconds:
        lines.append(f"  progress   no record had been finished for {duration(failure.stalled_seconds)}")
    if failure.signal:
        lines.append(f"  signal     {failure.signal}")
    lines.append(f"  message    {printable_line(failure.message)}")
    if failure.traceback:
        lines.append(_indented(failure.traceback))
    if failure.output_tail.strip():
        lines += ["  it had printed:", _indented(failure.output_tail)]
    if failure.reproduce:
        lines += ["  to see it again, where the job file is:", f"    {printable_line(failure.reproduce)}"]
    return "\n".join(lines)


def _times(group: FailureGroup) -> str:
    named = ", ".join(group.tasks[:_TASKS_NAMED])
    more = len(group.tasks) - _TASKS_NAMED
    if more > 0:
        named += f" and {more} more"
    attempts = "1 attempt" if group.count == 1 else f"{group.count} attempts"
    return printable_line(f"({attempts}: {named})" if named else f"({attempts})")


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in printable(text.rstrip()).split("\n"))
