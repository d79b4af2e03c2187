"""`mr jobs`, `mr status`, `mr tasks`, `mr workers`: they read the store only."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeVar

import click

from mr.cli import formatting
from mr.cli.failures import describe_group
from mr.cli.incidents import describe_incidents
from mr.cli.options import Configured, as_json, with_settings
from mr.cli.printing import say
from mr.cli.progress import describe_stall, progress_share
from mr.cli.run import skipped
from mr.client import Snapshot, TaskView, Viewer
from mr.error_text import bounded
from mr.errors import NotFound
from mr.protocol.codec import as_json as render_json
from mr.protocol.ids import TaskKind, task_kind
from mr.protocol.records import JobRecord, JobState, Refusal, RunningTask, TaskRecord, TaskState, WorkerView

Seen = TypeVar("Seen")

#: Longest failure message in the table of tasks.
_MESSAGE_CHARACTERS = 60
#: Stalled attempts that the status of a job names; the others are counted.
_STALLED_NAMED = 10


def look(configured: Configured, at: Callable[[Viewer], Awaitable[Seen]]) -> Seen:
    """Connect to the store and look. Raises StoreUnavailable, NotFound."""

    async def looking() -> Seen:
        from mr.cli.connect import viewing

        async with viewing(configured.settings) as viewer:
            return await at(viewer)

    return asyncio.run(looking())


@click.command()
@click.option("-n", "--last", type=click.IntRange(1), metavar="N", help="Only the N newest.")
@as_json
@with_settings
def jobs(last: int | None, json: bool, configured: Configured) -> None:
    """List the jobs still remembered, newest first."""
    records = list(look(configured, Viewer.jobs))[:last]
    if json:
        say(render_json(records))
        return
    rows = [_job_row(record) for record in records]
    say(formatting.table(_JOB_HEADERS, rows, right=("MAPS", "REDUCES", "FAILED")))


@click.command()
@click.argument("job", metavar="ID")
@as_json
@with_settings
def status(job: str, json: bool, configured: Configured) -> None:
    """Tell where a job stands, or why its request was refused.

    Its states with their times and causes, progress, counters, what happened beside its plan (workers that
    died, tasks that ran again and why), and what failed, each cause once.
    """

    async def at(viewer: Viewer) -> tuple[dict[str, Any] | Refusal, str]:
        refusal = await viewer.refusal(job)
        try:
            record = await viewer.find(job)
        except NotFound:
            if refusal is None:
                raise
            return refusal, describe_refusal(refusal)
        snapshot = await viewer.snapshot(record.job_id) or Snapshot(record, ())
        if json:
            return snapshot.fields, ""
        return snapshot.fields, describe_job(snapshot, list(await viewer.tasks(record.job_id)), refusal)

    fields, text = look(configured, at)
    say(render_json(fields) if json else text)


@click.command()
@click.argument("job", metavar="ID")
@click.option(
    "--state",
    type=click.Choice([state.lower() for state in TaskState]),
    help="Only tasks in this state.",
)
@as_json
@with_settings
def tasks(job: str, state: str | None, json: bool, configured: Configured) -> None:
    """List a job's tasks.

    State, attempt, worker, time, progress, memory, CPU, and the last failure.
    """

    async def at(viewer: Viewer) -> list[TaskView]:
        return list(await viewer.tasks((await viewer.find(job)).job_id))

    views = [v for v in look(configured, at) if state is None or v.record.state.lower() == state]
    stall_seconds = configured.settings.stall_seconds
    if json:
        say(render_json(views))
        return
    right = ("ATTEMPT", "FAILED", "TIME", "DONE", "RECORDS", "MEMORY", "CPU")
    say(formatting.table(_TASK_HEADERS, [_task_row(view, stall_seconds) for view in views], right=right))


@click.command()
@as_json
@with_settings
def workers(json: bool, configured: Configured) -> None:
    """List the workers and what their slots do.

    BUSY of its SLOTS run a task; where it takes tasks for fewer than all (OPEN), LIMITED BY says why.
    """
    views = look(configured, Viewer.workers)
    if json:
        say(render_json(views))
        return
    right = ("BUSY", "OPEN", "SLOTS", "CPU", "MEMORY", "DISK FREE", "DONE", "FAILED")
    say(formatting.table(_WORKER_HEADERS, [_worker_row(view) for view in views], right=right))
    running = [(view.beat.worker, task) for view in views if view.live for task in view.beat.running]
    if running:
        rows = [_slot_row(worker, task, configured.settings.stall_seconds) for worker, task in running]
        say("")
        say(formatting.table(_SLOT_HEADERS, rows, right=("TIME", "DONE", "RECORDS", "MEMORY", "CPU")))


def describe_refusal(refusal: Refusal) -> str:
    """A request that never became a job, for people."""
    pairs = [
        ("job", refusal.job_id),
        ("state", f"{refusal.state}: {refusal.reason}"),
        ("refused", formatting.moment(refusal.at)),
    ]
    return formatting.fields([*pairs, *refusal.request.items()])


def describe_job(snapshot: Snapshot, views: Sequence[TaskView], refusal: Refusal | None = None) -> str:
    """Everything that is known of a job, for people; `refusal` is that of another request for its id."""
    record = snapshot.record
    maps = [view.record.stats for view in views if task_kind(view.record.task_id) is TaskKind.MAP]
    reduces = [view.record.stats for view in views if task_kind(view.record.task_id) is TaskKind.REDUCE]
    stats = record.stats
    pairs = [
        ("job", record.job_id),
        ("name", record.name),
        ("state", record.state + (f": {record.cause}" if record.cause else "")),
        ("resume it with", f"mr resume {record.job_id}" if snapshot.resumable else ""),
        ("waiting for", snapshot.waiting_for),
        *zip(["stalled", *[""] * _STALLED_NAMED], _stalled(snapshot), strict=False),
        ("progress", formatting.percent(progress_share(snapshot))),
        ("maps", f"{record.maps_committed} of {record.maps}"),
        ("reduces", f"{record.reduces_committed} of {record.reduces}"),
        ("running", str(record.tasks_running) if record.tasks_running else ""),
        ("failed attempts", str(record.attempts_failed) if record.attempts_failed else ""),
        ("priority", str(record.priority)),
        ("output", record.output),
        ("bad records", _bad_records(record)),
        ("refused since", refusal.reason if refusal is not None else ""),
        ("read", _volume((s.records_in, s.bytes_in) for s in maps)),
        ("shuffled", _volume((s.records_out, s.bytes_out) for s in maps) if record.reduces else ""),
        ("written", _volume((s.records_out, s.bytes_out) for s in (reduces if record.reduces else maps))),
        ("CPU time", formatting.duration(stats.cpu_seconds)),
        ("peak memory", formatting.size(stats.peak_memory_bytes) if stats.peak_memory_bytes else ""),
    ]
    sections = [formatting.fields(pairs), "history\n" + _history(record)]
    if record.incidents:
        happened = formatting.fields(describe_incidents(record.incidents))
        sections.append("what happened\n" + _indented(happened))
    if stats.counters:
        counters = [(name, formatting.number(value)) for name, value in sorted(stats.counters.items())]
        sections.append("counters\n" + _indented(formatting.fields(counters)))
    sections += [describe_group(group).lstrip("\n") for group in record.failures]
    return "\n\n".join(sections)


def _stalled(snapshot: Snapshot) -> list[str]:
    named = [describe_stall(stall) for stall in snapshot.stalled[:_STALLED_NAMED]]
    more = len(snapshot.stalled) - len(named)
    return [*named, f"and {more} more"] if more else named


def _bad_records(record: JobRecord) -> str:
    """How many were skipped; of a completed job also where they are listed."""
    if not record.stats.bad_records:
        return ""
    if record.state is JobState.COMPLETED:
        return skipped(record)
    return f"{formatting.number(record.stats.bad_records)} skipped so far"


_JOB_HEADERS = ("JOB", "NAME", "STATE", "MAPS", "REDUCES", "FAILED", "SUBMITTED", "TOOK")
_TASK_HEADERS = (
    *("TASK", "STATE", "ATTEMPT", "FAILED", "WORKER", "TIME"),
    *("DONE", "RECORDS", "MEMORY", "CPU", "PHASE", "LAST FAILURE"),
)
_WORKER_HEADERS = (
    *("WORKER", "STATE", "BUSY", "OPEN", "SLOTS", "CPU", "MEMORY", "DISK FREE"),
    *("DONE", "FAILED", "UP", "SEEN", "ADDRESS", "LIMITED BY"),
)
_SLOT_HEADERS = ("WORKER", "JOB", "TASK", "ATTEMPT", "PHASE", "TIME", "DONE", "RECORDS", "MEMORY", "CPU")


def _job_row(record: JobRecord) -> list[str]:
    began = record.submitted_at
    ended = record.history[-1].at if record.history and record.state.terminal else time.time()
    return [
        record.job_id,
        record.name,
        record.state,
        f"{record.maps_committed}/{record.maps}",
        f"{record.reduces_committed}/{record.reduces}",
        str(record.attempts_failed),
        formatting.moment(began),
        formatting.duration(ended - began),
    ]


def _task_row(view: TaskView, stall_seconds: float) -> list[str]:
    record = view.record
    running = None if record.state is TaskState.COMMITTED else view.running
    seconds = _ended_seconds(record) if running is None else running.elapsed_seconds
    return [
        record.task_id,
        record.state,
        str(running.attempt if running else record.attempt),
        str(record.failures + record.losses),
        record.worker,
        formatting.duration(seconds) if seconds else "",
        *(_running_cells(running, stall_seconds) if running else _ended_cells(view)),
        bounded(" ".join(record.failure.message.split()), _MESSAGE_CHARACTERS) if record.failure else "",
    ]


def _ended_seconds(record: TaskRecord) -> float:
    """How long the last ended attempt ran; 0 when that is not known.

    One that ended between two heartbeats was never seen running: its record has no start.
    """
    if record.stats.wall_seconds:
        return record.stats.wall_seconds
    if record.failure is not None and record.failure.wall_seconds:
        return record.failure.wall_seconds
    return max(record.ended_at - record.started_at, 0.0) if record.started_at else 0.0


def _running_cells(task: RunningTask, stall_seconds: float) -> list[str]:
    stalled = task.stalled_seconds > stall_seconds
    no_record = f", no record finished for {formatting.duration(task.stalled_seconds)}" if stalled else ""
    return [
        formatting.percent(task.progress),
        formatting.number(task.records),
        formatting.size(task.memory_bytes),
        f"{task.cpu_percent:.0f}%",
        task.phase + no_record,
    ]


def _ended_cells(view: TaskView) -> list[str]:
    stats = view.record.stats
    if view.record.state is not TaskState.COMMITTED:
        return ["", "", "", "", ""]
    cpu = f"{100 * stats.cpu_seconds / stats.wall_seconds:.0f}%" if stats.wall_seconds else ""
    memory = formatting.size(stats.peak_memory_bytes) if stats.peak_memory_bytes else ""
    return ["100%", formatting.number(stats.records_in), memory, cpu, ""]


def _worker_row(view: WorkerView) -> list[str]:
    beat = view.beat
    state = "live" if view.live else "gone"
    return [
        beat.worker,
        state,
        str(len(beat.running)),
        str(beat.open_slots),
        str(beat.slots),
        f"{beat.cpu_percent:.0f}%",
        f"{beat.memory_percent:.0f}%",
        formatting.size(beat.disk_free_bytes),
        str(beat.committed),
        str(beat.failed),
        formatting.duration(max(time.time() - beat.started_at, 0.0)),
        f"{formatting.duration(view.age_seconds)} ago",
        beat.address,
        beat.limited_by,
    ]


def _slot_row(worker: str, task: RunningTask, stall_seconds: float) -> list[str]:
    done, records, memory, cpu, phase = _running_cells(task, stall_seconds)
    elapsed = formatting.duration(task.elapsed_seconds)
    return [
        worker, task.job_id, task.task_id, str(task.attempt), phase, elapsed, done, records, memory, cpu
    ]  # fmt: skip


def _volume(pairs: Iterable[tuple[int, int]]) -> str:
    """Sum (records, bytes) of the tasks."""
    both = list(pairs)
    records, size = sum(r for r, _ in both), sum(b for _, b in both)
    return f"{formatting.number(records)} records, {formatting.size(size)}"


def _history(record: JobRecord) -> str:
    rows: list[tuple[str, str]] = []
    for at in record.history:
        rows.append((formatting.moment(at.at), f"{at.state:<10} {at.cause}".rstrip()))
    return _indented(formatting.fields(rows))


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())
