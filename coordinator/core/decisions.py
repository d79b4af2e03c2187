"""What follows from a batch of events: changes of the state, and commands. Pure."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from mr.coordinator.core.commands import (
    AbandonOutput,
    CloseJob,
    Command,
    EmitEvent,
    FinishOutput,
    InspectClaims,
    LogFault,
    ProbeWorker,
    Publication,
    PublishTasks,
    ReleaseDead,
    Reopen,
    SaveJob,
    SendControl,
    Speculate,
    WriteBack,
)
from mr.coordinator.core.state import RECENT_STEPS, ActiveJob, SchedulerState, Task
from mr.coordinator.core.transitions import JobCause, TaskCause, next_job_state, next_task_state
from mr.error_text import bounded
from mr.protocol.bounds import clamped
from mr.protocol.claims import Placement
from mr.protocol.failures import Failure
from mr.protocol.ids import Incarnation, JobId, TaskId, WorkerId
from mr.protocol.messages import WIRE_VERSION, Control, EndJob, LifecycleEvent, TaskMessage
from mr.protocol.queues import task_priority
from mr.protocol.records import Incident, IncidentKind, JobRecord, JobState, TaskRecord, Transition

#: Characters of a cause in a lifecycle event: it may quote what a task printed or raised.
CAUSE_CHARACTERS = 10_000

NO_INCARNATION = Incarnation("")

T = TypeVar("T")


@dataclass(slots=True)
class _Gathered(Generic[T]):
    """What one command is to carry, in the order it was decided, and the causes."""

    items: list[T] = field(default_factory=list)
    causes: dict[str, None] = field(default_factory=dict)

    def add(self, cause: str, *items: T) -> None:
        self.items += items
        self.causes[cause] = None

    @property
    def cause(self) -> str:
        return "; ".join(self.causes)


class Decisions:
    """The scheduler's state, and the commands gathered while events change it.

    Nothing else changes the record of a job or a task, and each change marks the record to be saved. A job
    that changes several times is saved once.
    """

    def __init__(self, state: SchedulerState, now: float = 0.0, time_of_day: float | None = None) -> None:
        self.state = state
        #: Seconds by the clock on which decisions depend; it never goes back.
        self.now = now
        self._time_of_day = time_of_day
        self._changed: dict[JobId, _Gathered[TaskId]] = defaultdict(_Gathered)
        self._lost: dict[JobId, _Gathered[tuple[TaskId, Placement]]] = defaultdict(_Gathered)
        self._released: dict[JobId, _Gathered[tuple[TaskId, Incarnation]]] = defaultdict(_Gathered)
        self._backups: dict[JobId, _Gathered[TaskId]] = defaultdict(_Gathered)
        self._published: _Gathered[Publication] = _Gathered()
        self._inspected: dict[JobId, str] = {}
        self._written_back: dict[JobId, str] = {}
        self._closed: list[tuple[ActiveJob, JobCause]] = []
        self._broken: list[tuple[CloseJob, AbandonOutput]] = []
        self._controls: list[SendControl] = []
        self._events: list[EmitEvent] = []
        self._probes: list[ProbeWorker] = []
        self._finished: list[FinishOutput] = []
        self._faults: list[LogFault] = []

    @property
    def time_of_day(self) -> float:
        """What records and events show: seconds since the epoch."""
        return self.now if self._time_of_day is None else self._time_of_day

    # --- changes of the state

    def move(self, job: ActiveJob, task: Task, cause: TaskCause, **fields: object) -> None:
        """Take a task's step in the table, and change other fields of its record.

        Raises IllegalTransition, and changes nothing, if the table does not list the step.
        """
        target = next_task_state(task.state, cause, task.history)
        task.history = (*task.history, (self.now, cause))[-RECENT_STEPS:]
        job.write_task(task, state=target, **fields)
        self._changed[job.job_id].add(cause, task.task_id)

    def change(self, job: ActiveJob, task: Task, cause: str, **fields: object) -> None:
        """Change fields of a task's record other than its state."""
        job.write_task(task, **fields)
        self._changed[job.job_id].add(cause, task.task_id)

    def step(self, job: ActiveJob, cause: JobCause, detail: str = "") -> None:
        """Take a job's step in the table. One to another state enters the history and is emitted.

        Raises IllegalTransition, and changes nothing, if the table does not list the step.
        """
        before = [(step.at, step.cause) for step in job.record.history]
        state = next_job_state(job.record.state, cause, before)
        if state is job.record.state:
            return
        line = f"{cause}: {detail}" if detail else str(cause)
        job.write(
            state=state,
            history=(*job.record.history, Transition(state, self.time_of_day, line)),
            cause=(detail or line) if state in (JobState.FAILED, JobState.CANCELLED) else "",
            waiting_for="" if state.terminal else job.record.waiting_for,
        )
        self._changed[job.job_id].add(cause)
        self.emit_job_event(job.record, cause)

    def note_waiting(self, job: ActiveJob, waiting_for: str) -> None:
        """Record what a job waits for; empty if it proceeds."""
        if waiting_for != job.record.waiting_for:
            job.write(waiting_for=waiting_for)
            self._changed[job.job_id].add("what it waits for")

    def note_kept(self, job: ActiveJob, kept: bool) -> None:
        """Record whether the outputs of a job that has just ended are kept."""
        job.write(kept=kept)

    def add_failure(self, job: ActiveJob, task: Task, failure: Failure) -> None:
        """Count a failed attempt in the job's record."""
        job.group_failure(task, failure)
        self.note(job, IncidentKind.ATTEMPT_FAILED, failure.kind, attempts=1)
        job.write(attempts_failed=clamped(job.record.attempts_failed + 1))
        self._changed[job.job_id].add("attempt failed")

    def note(
        self,
        job: ActiveJob,
        kind: IncidentKind,
        subject: str = "",
        incarnation: Incarnation = NO_INCARNATION,
        reason: str = "",
        *,
        times: int = 1,
        attempts: int = 0,
        outputs: int = 0,
    ) -> None:
        """Add to a job's story what happened beside its plan. It is saved with the next change of the job."""
        incident = Incident(
            kind=kind,
            at=self.time_of_day,
            subject=subject,
            incarnation=incarnation,
            reason=reason,
            times=times,
            attempts=attempts,
            outputs=outputs,
        )
        job.story.note(incident)

    def note_ended(self, ended: set[Incarnation]) -> None:
        """Note the end of workers in the jobs of which they ran tasks or held map outputs."""
        if ended:
            for job in self.state.jobs.values():
                for incarnation in sorted(ended & (job.outputs.keys() | job.running_on().keys())):
                    self.note_lost(job, incarnation, "")

    def note_lost(
        self, job: ActiveJob, incarnation: Incarnation, cause: str, *, attempts: int = 0, outputs: int = 0
    ) -> None:
        """Note what a job has lost with a worker, or for some `cause` although the worker lives."""
        membership, times = self.state.membership, 0
        if membership.has_left(incarnation):
            kind, cause = IncidentKind.WORKER_LEFT, ""
        elif membership.is_dead(incarnation):
            kind, cause = IncidentKind.WORKER_DIED, ""
        else:
            kind, times = IncidentKind.OUTPUT_LOST if outputs else IncidentKind.ATTEMPT_LOST, 1
        worker = membership.worker_of(incarnation)
        self.note(job, kind, worker, incarnation, cause, times=times, attempts=attempts, outputs=outputs)

    def save_all(self, job: ActiveJob, cause: str) -> None:
        """Save a job and all of its tasks."""
        for name in job.tasks:
            self._changed[job.job_id].add(cause, name)

    # --- commands

    def reopen(self, job: ActiveJob, task: Task, place: Placement, cause: str) -> None:
        """Declare a committed output lost."""
        self._lost[job.job_id].add(cause, (task.task_id, place))
        self.note_lost(job, place.incarnation, cause, outputs=1)

    def release_dead(self, job: ActiveJob, task: Task, incarnation: Incarnation, cause: str) -> None:
        """Give back the lease of an incarnation that is known to have ended."""
        self._released[job.job_id].add(cause, (task.task_id, incarnation))

    def speculate(self, job: ActiveJob, task: Task, cause: str) -> None:
        """Allow a task a backup attempt."""
        self._backups[job.job_id].add(cause, task.task_id)
        if not task.record.speculative:  # else only its message is published again
            self.note(job, IncidentKind.BACKUP, reason=cause, attempts=1)

    def publish(self, job: ActiveJob, task: Task, cause: str, *, priority: int | None = None) -> None:
        """Put a message for a task on the queue, by default at its job's priority."""
        message = TaskMessage(WIRE_VERSION, job.job_id, task.task_id)
        if priority is None:
            priority = task_priority(job.spec.options.priority, task.kind)
        self._published.add(cause, Publication(message, priority))

    def control(self, control: Control, cause: str) -> None:
        """Broadcast a control message to the workers."""
        self._controls.append(SendControl(control, cause=cause))

    def probe(self, commands: Iterable[ProbeWorker]) -> None:
        """Ask whether workers' processes run."""
        self._probes += commands

    def inspect(self, job: ActiveJob, cause: str) -> None:
        """Read the claims of a job."""
        job.inspected_at = self.now
        self._inspected[job.job_id] = cause

    def write_back(self, job: ActiveJob, cause: str) -> None:
        """Give the store back what it has lost of a job."""
        self._written_back[job.job_id] = cause

    def finish(self, command: FinishOutput) -> None:
        """Complete a job's output."""
        self._finished.append(command)

    def close(self, job: ActiveJob, cause: JobCause) -> None:
        """Forget a job that has entered its last state, and close it in the store and on the workers."""
        del self.state.jobs[job.job_id]
        self._closed.append((job, cause))
        self.control(EndJob(job.job_id), cause)

    def close_broken(self, record: JobRecord, tasks: tuple[TaskRecord, ...], output: str) -> None:
        """Close a job that could not be handled. `record` is its last; `output` is empty when unknown."""
        cause = JobCause.BROKEN
        abandon = AbandonOutput(record.job_id, output, cause=cause)
        self._broken.append((CloseJob(record, tasks, cause=cause), abandon))
        self.control(EndJob(record.job_id), cause)
        self.emit_job_event(record, cause)

    def log_fault(self, text: str, cause: str) -> None:
        """Log a failure of the engine itself."""
        self._faults.append(LogFault(text, cause=cause))

    def emit_job_event(self, record: JobRecord, cause: str) -> None:
        """Publish that a job entered its state."""
        step = record.history[-1]
        event = LifecycleEvent(
            WIRE_VERSION,
            record.job_id,
            str(record.state),
            self.time_of_day,
            cause=bounded(step.cause, CAUSE_CHARACTERS),
        )
        self._events.append(EmitEvent(event, cause=cause))

    def emit_task_event(
        self,
        job: ActiveJob,
        task: Task,
        state: str,
        attempt: int,
        worker: WorkerId,
        failure: Failure | None = None,
    ) -> None:
        """Publish how an attempt ended."""
        event = LifecycleEvent(
            WIRE_VERSION,
            job.job_id,
            state,
            self.time_of_day,
            task.task_id,
            attempt,
            worker,
            cause=None if failure is None else bounded(failure.message, CAUSE_CHARACTERS),
            failure_kind=None if failure is None else failure.kind,
        )
        self._events.append(EmitEvent(event, cause=f"attempt {state.lower()}"))

    # --- the result

    def commands(self, isolate: "Isolate") -> list[Command]:
        """All commands, in the order of effects, except those for jobs that have ended meanwhile.

        An exception while the records of a job are made fails only that job, through `isolate(self, job)`.
        """
        saves = [*self._saves(isolate), *self._closings(isolate)]
        # Only now is it known which jobs are left: making the records may have failed some.
        return [
            *self._claim_changes(),
            *saves,
            *(close for close, _ in self._broken),
            *self._publications(),
            *self._controls,
            *self._events,
            *self._questions(),
            *(finish for finish in self._finished if finish.job_id in self.state.jobs),
            *(
                AbandonOutput(job.job_id, job.spec.output, keep=job.record.kept, cause=cause)
                for job, cause in self._closed
                if job.record.state is not JobState.COMPLETED
            ),
            *(abandon for _, abandon in self._broken),
            *self._faults,
        ]

    def _saves(self, isolate: "Isolate") -> list[Command]:
        saves: list[Command] = []
        for job_id, changed in self._changed.items():
            job = self.state.jobs.get(job_id)
            if job is not None:
                with isolate(self, job):
                    record, tasks = job.current_record(), _records(job, changed.items)
                    saves.append(SaveJob(record, tasks, cause=changed.cause))
        return saves

    def _closings(self, isolate: "Isolate") -> list[Command]:
        """Close jobs with the records of all tasks, since a store that lost data may miss any of them."""
        closings: list[Command] = []
        for job, cause in self._closed:
            with isolate(self, job):
                closings.append(CloseJob(job.current_record(), _records(job, job.tasks), cause=cause))
        return closings

    def _claim_changes(self) -> list[Command]:
        jobs = self.state.jobs
        return [
            *(Reopen(j, dict(lost.items), cause=lost.cause) for j, lost in self._lost.items() if j in jobs),
            *(
                ReleaseDead(j, tuple(held.items), cause=held.cause)
                for j, held in self._released.items()
                if j in jobs
            ),
            *(
                Speculate(j, tuple(tasks.items), cause=tasks.cause)
                for j, tasks in self._backups.items()
                if j in jobs
            ),
        ]

    def _publications(self) -> list[Command]:
        left = tuple(p for p in self._published.items if p.message.job_id in self.state.jobs)
        return [PublishTasks(left, cause=self._published.cause)] if left else []

    def _questions(self) -> list[Command]:
        jobs = self.state.jobs
        return [
            *(
                InspectClaims(j, tuple(jobs[j].outstanding), jobs[j].doubtful, self.now, cause=cause)
                for j, cause in self._inspected.items()
                if j in jobs
            ),
            *self._probes,
            *(WriteBack(j, cause=cause) for j, cause in self._written_back.items() if j in jobs),
        ]


#: Handles one job: an exception inside fails that job.
Isolate = Callable[[Decisions, ActiveJob], AbstractContextManager[None]]


def _records(job: ActiveJob, tasks: Iterable[TaskId]) -> tuple[TaskRecord, ...]:
    return tuple(job.tasks[name].record for name in dict.fromkeys(tasks))
