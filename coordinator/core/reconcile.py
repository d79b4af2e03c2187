"""What is done about workers that died, attempts that nobody runs and messages that were lost. Pure.

A suspicion only has the claims read. They decide whether a task is committed, held by a live worker, or free
to run again.
"""

from collections.abc import Iterator

from mr.coordinator.core.attempts import (
    check_result,
    lose_attempts,
    publish_task,
    record_outcome,
    reopen_output,
    replace_result,
    was_adopted,
)
from mr.coordinator.core.decisions import Decisions
from mr.coordinator.core.events import ClaimsObserved, JobWrittenBack
from mr.coordinator.core.isolation import each_job, isolated
from mr.coordinator.core.policy import LEASE_PATIENCE, PATIENCE
from mr.coordinator.core.state import OPEN_STATES, ActiveJob, RunningAttempt, Task
from mr.coordinator.core.transitions import TaskCause
from mr.protocol.claims import Claim, Holder
from mr.protocol.ids import Incarnation, TaskId
from mr.protocol.records import IncidentKind, Outcome, RunningTask, TaskState, WorkerView

# --- what heartbeats show


def note_running(decisions: Decisions) -> None:
    """Take in the running attempts of the live workers' heartbeats."""
    for view in decisions.state.membership.views.values():
        for running in view.beat.running:
            job = decisions.state.jobs.get(running.job_id)
            task = job.tasks.get(running.task_id) if job is not None else None
            if job is not None and task is not None:
                with isolated(decisions, job):
                    _note_sighting(decisions, job, task, view, running)


def _note_sighting(
    decisions: Decisions, job: ActiveJob, task: Task, view: WorkerView, running: RunningTask
) -> None:
    """Mark one attempt as running, unless its end is known: a heartbeat may be older than a report."""
    number = running.attempt
    if task.state not in OPEN_STATES or number in task.failed or number <= task.fenced_attempt:
        return
    known = task.running.get(number)
    started_at = decisions.now - view.age_seconds - running.elapsed_seconds
    if known is None or known.incarnation != view.beat.incarnation:
        known = RunningAttempt(view.beat.worker, view.beat.incarnation, decisions.now, started_at)
        start_attempt(decisions, job, task, number, known)
    known.seen_at, known.started_at = decisions.now, started_at
    known.bytes_in, known.share = running.bytes_in, running.progress
    known.stalled_seconds = running.stalled_seconds


def start_attempt(
    decisions: Decisions, job: ActiveJob, task: Task, number: int, attempt: RunningAttempt
) -> None:
    """Take in that an attempt runs which was not known to run."""
    fields: dict[str, object] = {}
    if number >= task.record.attempt:
        started_at = decisions.time_of_day - (decisions.now - attempt.started_at)
        fields = {"attempt": number, "worker": attempt.worker, "started_at": started_at}
    decisions.move(job, task, TaskCause.STARTED, **fields)
    task.running[number] = attempt
    task.lost.discard(number)


# --- suspicion


def inspect_suspects(decisions: Decisions, ended: set[Incarnation]) -> None:
    """Read the claims of each job that an ended worker may affect, or that has a task silent for too long."""
    each_job(decisions, lambda job: _inspect(decisions, job, ended))


def _inspect(decisions: Decisions, job: ActiveJob, ended: set[Incarnation]) -> None:
    if not job.outstanding:
        return
    pause_seconds = decisions.now - job.inspected_at
    silent = pause_seconds >= decisions.state.settings.lease_seconds and any(_suspects(decisions, job))
    if ended or silent:
        decisions.inspect(job, "a worker has ended" if ended else "a task is silent")


def _suspects(decisions: Decisions, job: ActiveJob) -> Iterator[TaskId]:
    """The tasks about which nothing was heard for too long."""
    for task_id in job.outstanding:
        task = job.tasks[task_id]
        if task.state is TaskState.QUEUED:
            suspicious = is_overdue(decisions, task)
        else:
            seen_at = max((a.seen_at for a in task.running.values()), default=0.0)
            suspicious = decisions.now - seen_at > decisions.state.settings.lease_seconds
        if suspicious:
            yield task_id


def is_overdue(decisions: Decisions, task: Task) -> bool:
    """Whether a queued task's message must be assumed lost."""
    waited_seconds = decisions.now - task.queued_at
    limit_seconds = decisions.state.settings.republish_seconds
    if decisions.state.ready > 0:
        limit_seconds *= PATIENCE
    return waited_seconds > limit_seconds


# --- what the claims show


def is_behind(job: ActiveJob, answer: ClaimsObserved) -> bool:
    """Whether the claims show that the store has lost data, so it would grant attempt numbers twice.

    The job's generation does not show this if the coordinator wrote nothing between the lost writes and the
    loss. A commit that became known after the claims were read proves nothing; other news since then may
    cause a needless rewrite, which does no harm.
    """
    return any(_has_forgotten(task, answer) for task in job.tasks.values())


def _has_forgotten(task: Task, answer: ClaimsObserved) -> bool:
    claim = answer.claims.get(task.task_id, Claim())
    if task.state is TaskState.COMMITTED:
        return not claim.winner and task.committed_at <= answer.asked_at
    result = answer.results.get(task.task_id)
    if claim.winner and result is not None and was_adopted(task, result.output):
        return False
    return claim.attempt < task.record.attempt or claim.fenced_attempt < task.fenced_attempt


def settle_claims(decisions: Decisions, job: ActiveJob, answer: ClaimsObserved | JobWrittenBack) -> None:
    """Bring each open task in line with its claim."""
    for task_id, claim in answer.claims.items():
        task = job.tasks.get(task_id)
        if task is None or task.state not in OPEN_STATES or job.job_id not in decisions.state.jobs:
            continue
        task.fenced_attempt = max(task.fenced_attempt, claim.fenced_attempt)
        if not claim.winner:
            _settle_open(decisions, job, task, claim)
        else:
            record_outcome(decisions, job, task, Outcome(claim, answer.results.get(task_id)))
    for task_id in list(job.outstanding):
        if task_id not in answer.claims and job.job_id in decisions.state.jobs:
            _settle_open(decisions, job, job.tasks[task_id], Claim())


def settle_written_back(decisions: Decisions, job: ActiveJob, answer: JobWrittenBack) -> None:
    """Bring a job in line with a store that had lost data and was rewritten.

    Meanwhile it may have granted tasks to other workers, which committed. Workers may have dropped messages
    because the store did not know the job, so queued tasks are published again.
    """
    decisions.note(job, IncidentKind.STORE_LOST_DATA)
    for task in job.tasks.values():
        claim = answer.claims.get(task.task_id, Claim())
        result = answer.results.get(task.task_id)
        task.leases = {h.attempt: (h.expires_ms, decisions.now) for h in claim.running}
        if task.state is TaskState.QUEUED:
            task.queued_at = decisions.now  # published again below, if nobody holds it
        if task.state is not TaskState.COMMITTED:
            continue
        if not claim.winner:
            reopen_output(decisions, job, task, "the store has lost the commit")
        elif result is not None and result != task.result and claim.winner > task.fenced_attempt:
            check_result(job.spec, task.task_id, claim.winner, result)
            replace_result(decisions, job, task, result)
    job.doubtful = False
    settle_claims(decisions, job, answer)
    for task_id in list(job.outstanding):
        task = job.tasks[task_id]
        if task.state is TaskState.QUEUED and job.job_id in decisions.state.jobs:
            publish_task(decisions, job, task, "the store came back older")


def _settle_open(decisions: Decisions, job: ActiveJob, task: Task, claim: Claim) -> None:
    """Bring a task that is not committed in line with its claim: a live worker holds it, or it runs again."""
    if claim.attempt > task.record.attempt:
        decisions.change(job, task, "the store has given a claim", attempt=claim.attempt)
    holders = [h for h in claim.running if h.attempt not in task.failed and h.attempt > task.fenced_attempt]
    living = [h for h in holders if _is_alive(decisions, task, h)]
    for holder in claim.running:
        if decisions.state.membership.is_gone(holder.incarnation):
            decisions.release_dead(job, task, holder.incarnation, "the process has ended")
    if living:
        _keep_holders(decisions, job, task, living)
    elif task.state is TaskState.RUNNING:
        if holders or not _reported_lately(decisions, task):
            _lose(decisions, job, task, holders)
    elif task.state is TaskState.QUEUED:
        if any(h.attempt not in task.lost for h in holders):
            _lose(decisions, job, task, holders)
        elif is_overdue(decisions, task):
            decisions.note(job, IncidentKind.MESSAGE_LOST)
            publish_task(decisions, job, task, "its message was lost")


def _is_alive(decisions: Decisions, task: Task, holder: Holder) -> bool:
    """Whether a holder still runs: its worker is alive, and renews the lease.

    The expiry is by the store's clock and cannot be compared with `now`; what counts is whether it changes.
    """
    decisions.state.membership.hear_of(holder.worker, holder.incarnation, decisions.now)
    noted = task.leases.get(holder.attempt)
    if noted is None or noted[0] != holder.expires_ms:
        noted = task.leases[holder.attempt] = (holder.expires_ms, decisions.now)
    patience_seconds = LEASE_PATIENCE * decisions.state.settings.lease_seconds
    return (
        not decisions.state.membership.is_dead(holder.incarnation)
        and decisions.now - noted[1] <= patience_seconds
    )


def _keep_holders(decisions: Decisions, job: ActiveJob, task: Task, living: list[Holder]) -> None:
    """Let exactly these holders count as running."""
    numbers = {h.attempt for h in living}
    for number in [n for n in task.running if n not in numbers]:
        del task.running[number]
    for holder in living:
        seen_at = task.leases[holder.attempt][1]
        known = task.running.get(holder.attempt)
        if known is None:
            attempt = RunningAttempt(holder.worker, holder.incarnation, seen_at, seen_at)
            start_attempt(decisions, job, task, holder.attempt, attempt)
        else:
            known.seen_at = max(known.seen_at, seen_at)


def _reported_lately(decisions: Decisions, task: Task) -> bool:
    """Whether a task without a holder ran a moment ago on a live worker: its report is on its way."""
    return any(
        not decisions.state.membership.is_dead(a.incarnation)
        and decisions.now - a.seen_at <= decisions.state.settings.lease_seconds
        for a in task.running.values()
    )


def _lose(decisions: Decisions, job: ActiveJob, task: Task, holders: list[Holder]) -> None:
    """Give the attempts up. The task runs again when the store can grant it to others."""
    due_at = max(
        (decisions.state.membership.leases_gone_at(h.incarnation, decisions.now) for h in holders),
        default=decisions.now,
    )
    task.lost |= {h.attempt for h in holders} | set(task.running)
    ran_on = {h.incarnation for h in holders} | {a.incarnation for a in task.running.values()}
    lose_attempts(decisions, job, task, due_at, ran_on)
