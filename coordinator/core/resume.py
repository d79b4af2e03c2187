"""What a job that failed or was cancelled runs again when it is resumed, and its records then. Pure."""

from collections.abc import Collection
from typing import Any, NamedTuple

import msgspec

from mr.coordinator.core.attempts import check_result
from mr.coordinator.core.transitions import JobCause, TaskCause, next_job_state, next_task_state
from mr.errors import BadJob, BadMessage
from mr.protocol.claims import Claim
from mr.protocol.ids import TaskId, TaskKind, task_ids, task_kind
from mr.protocol.jobs import CodeManifest, JobSpec
from mr.protocol.options import Option, option_table
from mr.protocol.records import JobRecord, JobState, RestoredJob, TaskRecord, TaskState, Transition
from mr.resolve import resolve_option

#: Options that a job takes over from repaired code: they change neither its tasks nor what those make.
MAY_CHANGE = ("priority", "weight", "max_attempts", "task_timeout", "task_memory")


class Resumption(NamedTuple):
    """How a job goes on."""

    #: With the job's next record, spec and task records; claims and results as they were.
    job: RestoredJob
    #: The tasks whose commits still count.
    kept: frozenset[TaskId]
    #: What is kept and what runs again, in words.
    note: str


def plan_resume(
    ended: RestoredJob, code: CodeManifest, missing: Collection[TaskId], now: float
) -> Resumption:
    """Decide what of an ended job is kept. Raises BadJob when the job cannot go on with this code.

    `missing`: committed tasks whose files in the output directory are gone. `now`: seconds since the epoch.
    """
    spec = _next_spec(ended.spec, code)
    kinds, reason = _kept_kinds(ended, code)
    kept = frozenset(
        task for task in ended.results if task_kind(task) in kinds and _is_committed(ended, task)
    ) - set(missing)
    tasks = {name: _next_task(ended, name, name in kept) for _, name in task_ids(spec.maps, spec.reduces)}
    job = msgspec.structs.replace(ended, record=_next_record(ended.record, spec, now), spec=spec, tasks=tasks)
    return Resumption(job, kept, _note(spec, kept, reason))


def _next_record(record: JobRecord, spec: JobSpec, now: float) -> JobRecord:
    state = next_job_state(record.state, JobCause.RESUMED)
    return msgspec.structs.replace(
        record,
        state=state,
        history=(*record.history, Transition(state, now, JobCause.RESUMED)),
        priority=spec.options.priority,
        cause="",
        failures=(),
        resumed=spec.resumed,
        kept=False,
    )


def _next_spec(spec: JobSpec, code: CodeManifest) -> JobSpec:
    """The spec with other code, of whose JOB only some options count. Raises BadJob."""
    has_reduce = [bool(c.reduce_agg) or "reduce_fn" in c.functions for c in (spec.code, code)]
    if has_reduce[0] != has_reduce[1]:
        raise BadJob(
            f"{code.entry} has {'a' if has_reduce[1] else 'no'} reduce_fn, unlike the job's code: "
            "submit it as a new job"
        )
    changes = dict(_changed_options(spec, code))
    if fixed := sorted(changes.keys() - set(MAY_CHANGE)):
        raise BadJob(
            f"JOB of {code.entry} changes {', '.join(fixed)}, but the job's tasks are planned: "
            "submit it as a new job"
        )
    options = msgspec.structs.replace(spec.options, **changes)
    return msgspec.structs.replace(spec, code=code, options=options, resumed=spec.resumed + 1)


def _changed_options(spec: JobSpec, code: CodeManifest) -> list[tuple[str, Any]]:
    """The options that JOB changes, with their new values; those that the request gave stay."""
    return [
        (option.name, value)
        for option in option_table()
        if option.name not in spec.request
        and getattr(code.options, option.name) not in (None, getattr(spec.code.options, option.name))
        and (value := resolve_option(option, getattr(code.options, option.name))) != _current(spec, option)
    ]


def _current(spec: JobSpec, option: Option) -> Any:
    return spec.reduces if option.name == "reduces" else getattr(spec.options, option.name)


def _kept_kinds(ended: RestoredJob, code: CodeManifest) -> tuple[Collection[TaskKind], str]:
    """The kinds of tasks whose commits are kept, and why not those of maps. No phase mixes two codes."""
    before = ended.spec.code
    if before.code_id == code.code_id:
        return tuple(TaskKind), ""
    if not any(step.state is JobState.REDUCING for step in ended.record.history[-2:]):
        return (), "the job ended in its map phase, and no phase mixes two codes"
    changed = [
        name
        for name in sorted({*before.map_side, *code.map_side})
        if before.map_side.get(name) != code.map_side.get(name)
    ]
    if before.combine_agg != code.combine_agg and "combine_fn" not in changed:
        changed.append("combine_fn")
    if before.reduce_agg != code.reduce_agg:
        changed.append("reduce_fn")
    if changed:
        return (), f"what maps make depends on {', '.join(changed)}, which changed"
    return (TaskKind.MAP,), ""


def _is_committed(ended: RestoredJob, task: TaskId) -> bool:
    claim = ended.claims.get(task, Claim())
    try:
        check_result(ended.spec, task, claim.winner, ended.results[task])
    except BadMessage:
        return False
    return claim.winner > 0


def _next_task(ended: RestoredJob, name: TaskId, kept: bool) -> TaskRecord:
    """The record of a task, whose tries are counted from the start; attempt numbers go on."""
    record = ended.tasks.get(name) or TaskRecord(task_id=name, state=TaskState.WAITING)
    attempt = max(record.attempt, ended.claims.get(name, Claim()).attempt)
    if kept:
        return msgspec.structs.replace(
            record, attempt=attempt, failures=0, failed=(), losses=0, speculative=False
        )
    state = TaskState.WAITING
    if record.state in (TaskState.COMMITTED, TaskState.FAILED, TaskState.CANCELLED):
        state = next_task_state(record.state, TaskCause.RESUMED)
    return TaskRecord(task_id=name, state=state, attempt=attempt, failure=record.failure)


def _note(spec: JobSpec, kept: frozenset[TaskId], reason: str) -> str:
    if not kept:
        return f"everything runs again: {reason or 'nothing of it is kept'}"
    counts = ((TaskKind.MAP, spec.maps), (TaskKind.REDUCE, spec.reduces))
    words = [
        f"{sum(task_kind(task) is kind for task in kept)} of {total} {kind}s"
        for kind, total in counts
        if total
    ]
    return f"{' and '.join(words)} are kept"
