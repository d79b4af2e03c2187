"""Active jobs made, from a request or from what the store kept, and given back to an emptied store. Pure."""

import msgspec

from mr.coordinator.core.attempts import SchedulerState, check_result
from mr.coordinator.core.decisions import Decisions
from mr.coordinator.core.events import JobAccepted
from mr.coordinator.core.policy import ATTEMPT_GAP
from mr.coordinator.core.state import ActiveJob, RunningAttempt, Task, submitted_record
from mr.ports.scheduling import RestoredJob
from mr.protocol.claims import Claim, Holder
from mr.protocol.ids import TaskId, TaskKind
from mr.protocol.jobs import JobSpec
from mr.protocol.records import MapOutput, TaskRecord, TaskResult, TaskState


def new_job(core: SchedulerState, event: JobAccepted) -> ActiveJob:
    """Make the state of an accepted job: every task waits."""
    job = ActiveJob(event.spec, event.splits, submitted_record(event.spec), core.accepted, event.now)
    core.accepted += 1
    for kind, name in job.ids():
        job.add(Task(kind, TaskRecord(task_id=name, state=TaskState.WAITING)))
    return job


def restored_job(core: SchedulerState, restored: RestoredJob, turn: Decisions) -> ActiveJob:
    """Make the state of a job from what the store kept.

    Claims and results outrank the task records: they say what is committed and what may run.
    Whatever nobody holds waits, and is published again: a message too many does no harm.
    Raises BadMessage for a result that cannot be that of its task.
    """
    job = ActiveJob(restored.spec, restored.splits, restored.record, core.accepted, turn.now)
    core.accepted += 1
    for kind, name in job.ids():
        record = restored.tasks.get(name) or TaskRecord(task_id=name, state=TaskState.WAITING)
        claim = restored.claims.get(name, Claim())
        job.add(_restored_task(core, job.spec, kind, record, claim, restored.results.get(name), turn))
    core.peak_window = max(core.peak_window, sum(len(j.outstanding) for j in [*core.jobs.values(), job]))
    return job


def _restored_task(
    core: SchedulerState,
    spec: JobSpec,
    kind: TaskKind,
    record: TaskRecord,
    claim: Claim,
    result: TaskResult | None,
    turn: Decisions,
) -> Task:
    attempt = max(record.attempt, claim.attempt)
    #: A record that waits or is queued has counted the end of every attempt it knows of.
    settled = record.attempt if record.state in (TaskState.WAITING, TaskState.QUEUED) else record.attempt - 1
    held = {holder.attempt for holder in claim.running}
    task = Task(kind, record, fenced_attempt=claim.fenced_attempt)
    #: A store that came back older may show one as running whose failure is counted.
    task.failed = (set(range(claim.fenced_attempt + 1, settled + 1)) - held) | set(record.failed)
    task.failed.discard(claim.winner)
    running = [holder for holder in claim.running if holder.attempt not in task.failed]
    for holder in claim.running:
        core.cluster.hear_of(holder.worker, holder.incarnation, turn.now)
    if claim.winner and result is not None:
        check_result(spec, kind, record.task_id, claim.winner, result)
        task.result, task.committed_at = result, turn.now
        if isinstance(result.output, MapOutput):
            core.cluster.hear_of(result.output.worker, result.output.incarnation, turn.now)
        changes = {
            "state": TaskState.COMMITTED,
            "stats": result.stats,
            "ended_at": record.ended_at or turn.wall,
        }
    elif running:
        now = turn.now
        task.running = {h.attempt: RunningAttempt(h.worker, h.incarnation, now, now) for h in running}
        changes = {"state": TaskState.RUNNING, "worker": running[-1].worker}
    else:
        changes = {"state": TaskState.WAITING}
    task.record = msgspec.structs.replace(record, attempt=attempt, **changes)
    return task


def snapshot(job: ActiveJob) -> RestoredJob:
    """Everything known of a job, to be written into a store that has lost some of it.

    Attempts may have been granted that we never heard of, so numbers go on after a gap. A number whose end
    is known is fenced: a store that forgot it may have given it again, and nothing said of it is believed.
    The store gives the leases their time.
    """
    claims: dict[TaskId, Claim] = {}
    for name, task in job.tasks.items():
        if task.result is not None:
            claims[name] = Claim(task.record.attempt, task.fenced_attempt, task.result.output.attempt)
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
    """The highest number up to which every attempt is lost for good or has failed."""
    number = task.fenced_attempt
    while number + 1 in task.failed:
        number += 1
    return number
