"""Makes active jobs from a request or from the store, and snapshots of them for a rewrite. Pure."""

import msgspec

from mr.coordinator.core.attempts import check_result
from mr.coordinator.core.decisions import Decisions
from mr.coordinator.core.events import JobAccepted
from mr.coordinator.core.job_records import submitted_record
from mr.coordinator.core.policy import ATTEMPT_GAP
from mr.coordinator.core.state import ActiveJob, RunningAttempt, SchedulerState, Task
from mr.protocol.claims import Claim, Holder
from mr.protocol.ids import TaskId, TaskKind
from mr.protocol.records import MapOutput, RestoredJob, TaskRecord, TaskState


def new_job(state: SchedulerState, event: JobAccepted) -> ActiveJob:
    """Make an accepted job, all of whose tasks are WAITING."""
    job = ActiveJob(event.spec, event.splits, submitted_record(event.spec), state.accepted, event.now)
    state.accepted += 1
    for kind, name in job.ids():
        job.add(Task(kind, TaskRecord(task_id=name, state=TaskState.WAITING)))
    return job


def restored_job(decisions: Decisions, restored: RestoredJob) -> ActiveJob:
    """Make a job from what the store has.

    Claims and results take precedence over task records: they say what is committed and what may run. Tasks
    that nobody holds are WAITING and are published again; a second message does no harm.
    Raises BadMessage for a result that cannot belong to its task.
    """
    state = decisions.state
    job = ActiveJob(restored.spec, restored.splits, restored.record, state.accepted, decisions.now)
    state.accepted += 1
    for kind, name in job.ids():
        job.add(_restored_task(decisions, restored, kind, name))
    outstanding = sum(len(j.outstanding) for j in (*state.jobs.values(), job))
    state.peak_window = max(state.peak_window, outstanding)
    return job


def _restored_task(decisions: Decisions, restored: RestoredJob, kind: TaskKind, name: TaskId) -> Task:
    record = restored.tasks.get(name) or TaskRecord(task_id=name, state=TaskState.WAITING)
    claim, result = restored.claims.get(name, Claim()), restored.results.get(name)
    # A record that is WAITING or QUEUED has counted the end of every attempt it knows of.
    settled = record.attempt if record.state in (TaskState.WAITING, TaskState.QUEUED) else record.attempt - 1
    held = {holder.attempt for holder in claim.running}
    # A store that lost data may show an attempt as running whose failure is counted.
    failed = (set(range(claim.fenced_attempt + 1, settled + 1)) - held) | set(record.failed)
    failed.discard(claim.winner)
    running = [holder for holder in claim.running if holder.attempt not in failed]
    membership, now = decisions.state.membership, decisions.now
    for holder in claim.running:
        membership.hear_of(holder.worker, holder.incarnation, now)
    fields: dict[str, object] = {"state": TaskState.WAITING}
    if claim.winner and result is not None:
        check_result(restored.spec, name, claim.winner, result)
        if isinstance(result.output, MapOutput):
            membership.hear_of(result.output.worker, result.output.incarnation, now)
        ended_at = record.ended_at or decisions.time_of_day
        fields = {"state": TaskState.COMMITTED, "stats": result.stats, "ended_at": ended_at}
    elif running:
        fields = {"state": TaskState.RUNNING, "worker": running[-1].worker}
    record = msgspec.structs.replace(record, attempt=max(record.attempt, claim.attempt), **fields)
    task = Task(kind, record, failed=failed, fenced_attempt=claim.fenced_attempt)
    if record.state is TaskState.COMMITTED:
        task.result, task.committed_at = result, now
    elif record.state is TaskState.RUNNING:
        task.running = {h.attempt: RunningAttempt(h.worker, h.incarnation, now, now) for h in running}
    return task


def snapshot(job: ActiveJob) -> RestoredJob:
    """Everything known of a job, to be written into a store that has lost some of it.

    The store may have granted attempts that are not known here, so numbers continue after a gap. A number
    whose end is known is fenced: the store may have granted it again, and that attempt must not count.
    The store sets the expiry of the leases.
    """
    claims: dict[TaskId, Claim] = {}
    for name, task in job.tasks.items():
        if task.result is not None:
            claims[name] = Claim(task.record.attempt, task.fenced_attempt, task.result.output.attempt.number)
        elif task.record.attempt or task.state is not TaskState.WAITING:
            holders = tuple(Holder(a.worker, a.incarnation, n, 1) for n, a in task.running.items())
            number = task.record.attempt + ATTEMPT_GAP
            claims[name] = Claim(number, _ended_up_to(task), 0, task.record.speculative, holders)
    return RestoredJob(
        record=job.current_record(),
        spec=job.spec,
        splits=job.splits,
        tasks={name: task.record for name, task in job.tasks.items()},
        claims=claims,
        results={name: task.result for name, task in job.tasks.items() if task.result is not None},
    )


def _ended_up_to(task: Task) -> int:
    """The highest number up to which all attempts have failed or are fenced."""
    number = task.fenced_attempt
    while number + 1 in task.failed:
        number += 1
    return number
