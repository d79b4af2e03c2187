"""What one turn of the scheduler decides, gathered, then given out in the order of effects. Pure."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager

from mr.coordinator.core.commands import (
    AbandonOutput,
    Command,
    EmitEvent,
    EndJob,
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
from mr.coordinator.core.state import ActiveJob, Task
from mr.error_text import bounded
from mr.protocol import messages
from mr.protocol.claims import Placement
from mr.protocol.ids import Incarnation, JobId, TaskId, WorkerId
from mr.protocol.messages import WIRE_VERSION, Control, LifecycleEvent, TaskMessage
from mr.protocol.queues import task_priority
from mr.protocol.records import JobRecord, JobState, TaskRecord

#: Characters of a cause in a lifecycle event: it may quote what a task printed or raised.
CAUSE_CHARACTERS = 10_000

#: Handles one job: an exception inside fails that job.
Isolate = Callable[[ActiveJob], AbstractContextManager[None]]


class Decisions:
    """Collects decisions; the jobs that changed are saved once, whatever happened to them."""

    def __init__(self) -> None:
        #: What decisions go by: never goes back.
        self.now = 0.0
        #: What records and events show: seconds since the epoch.
        self.wall = 0.0
        self._changed: dict[JobId, dict[TaskId, None]] = {}
        self._lost: dict[JobId, dict[TaskId, Placement]] = {}
        self._released: dict[JobId, list[tuple[TaskId, Incarnation]]] = {}
        self._backups: dict[JobId, list[TaskId]] = {}
        self._probes: list[ProbeWorker] = []
        self._published: list[Publication] = []
        self._controls: list[Control] = []
        self._events: list[LifecycleEvent] = []
        self._inspected: dict[JobId, None] = {}
        self._written_back: dict[JobId, None] = {}
        self._finished: list[FinishOutput] = []
        self._ended: list[ActiveJob] = []
        self._broken: list[tuple[EndJob, str]] = []
        self._faults: list[LogFault] = []

    def touch(self, job: ActiveJob, task: Task | None = None) -> None:
        """Have a job's record saved, and that of the task."""
        changed = self._changed.setdefault(job.job_id, {})
        if task is not None:
            changed[task.task_id] = None

    def reopen(self, job: ActiveJob, task: Task, place: Placement) -> None:
        """Declare a committed output lost."""
        self._lost.setdefault(job.job_id, {})[task.task_id] = place

    def release_dead(self, job: ActiveJob, task: Task, incarnation: Incarnation) -> None:
        """Give back the lease of a life that is known to have ended."""
        self._released.setdefault(job.job_id, []).append((task.task_id, incarnation))

    def probe(self, commands: Iterable[ProbeWorker]) -> None:
        """Ask for workers' processes."""
        self._probes += commands

    def speculate(self, job: ActiveJob, task: Task) -> None:
        """Allow a task a backup attempt."""
        self._backups.setdefault(job.job_id, []).append(task.task_id)

    def publish(self, job: ActiveJob, task: Task, *, priority: int | None = None) -> None:
        """Put a message for a task on the queue, at its job's priority unless another is given."""
        message = TaskMessage(WIRE_VERSION, job.job_id, task.task_id)
        if priority is None:
            priority = task_priority(job.spec.priority, task.kind)
        self._published.append(Publication(message, priority))

    def control(self, control: Control) -> None:
        """Tell the workers something."""
        self._controls.append(control)

    def inspect(self, job: ActiveJob) -> None:
        """Ask for the claims of a job."""
        job.inspected_at = self.now
        self._inspected[job.job_id] = None

    def write_back(self, job: ActiveJob) -> None:
        """Have the store given back what it has lost of a job."""
        self._written_back[job.job_id] = None

    def finish(self, command: FinishOutput) -> None:
        """Have a job's output completed."""
        self._finished.append(command)

    def end(self, job: ActiveJob) -> None:
        """Have a job that has just become terminal closed."""
        self._ended.append(job)
        self._controls.append(messages.EndJob(job.job_id))

    def end_broken(self, record: JobRecord, tasks: tuple[TaskRecord, ...], output: str) -> None:
        """Have a job closed that could not be handled; `record` says so."""
        self._broken.append((EndJob(record, tasks), output))
        self._controls.append(messages.EndJob(record.job_id))
        self._tell(record)

    def log_fault(self, text: str) -> None:
        """Have a failure of the engine's own logged."""
        self._faults.append(LogFault(text))

    def emit_job_event(self, job: ActiveJob) -> None:
        """Let the world know that a job entered its state."""
        self._tell(job.record)

    def _tell(self, record: JobRecord) -> None:
        cause = bounded(record.history[-1].cause, CAUSE_CHARACTERS)
        self._events.append(
            LifecycleEvent(WIRE_VERSION, record.job_id, str(record.state), self.wall, cause=cause)
        )

    def emit_task_event(
        self, job: ActiveJob, task: Task, state: str, attempt: int, worker: WorkerId, cause: str | None = None
    ) -> None:
        """Let the world know how an attempt ended."""
        cause = None if cause is None else bounded(cause, CAUSE_CHARACTERS)
        self._events.append(
            LifecycleEvent(
                WIRE_VERSION, job.job_id, state, self.wall, task.task_id, attempt, worker, cause=cause
            )
        )

    def commands(self, jobs: Mapping[JobId, ActiveJob], isolate: Isolate) -> list[Command]:
        """Everything decided, in the order of effects, without what concerns a job that ended meanwhile.

        An exception while the records of a job are made fails that job alone, by `isolate(job)`.
        """
        saved: list[Command] = []
        for job_id, changed in self._changed.items():
            if job_id in jobs:
                job = jobs[job_id]
                with isolate(job):
                    saved.append(SaveJob(job.current_record(), _records(job, changed)))
        for job in self._ended:
            with isolate(job):
                saved.append(EndJob(*self._final(job)))
        commands: list[Command] = []
        commands += [Reopen(job, lost) for job, lost in self._lost.items() if job in jobs]
        commands += [ReleaseDead(job, tuple(held)) for job, held in self._released.items() if job in jobs]
        commands += [Speculate(job, tuple(tasks)) for job, tasks in self._backups.items() if job in jobs]
        commands += saved
        commands += [end for end, _ in self._broken]
        published = tuple(p for p in self._published if p.message.job_id in jobs)
        if published:
            commands.append(PublishTasks(published))
        commands += [SendControl(control) for control in self._controls]
        commands += [EmitEvent(event) for event in self._events]
        commands += [
            InspectClaims(job, tuple(jobs[job].outstanding), jobs[job].doubtful, self.now)
            for job in self._inspected
            if job in jobs
        ]
        commands += self._probes
        commands += [WriteBack(job) for job in self._written_back if job in jobs]
        commands += [finish for finish in self._finished if finish.job_id in jobs]
        commands += [
            AbandonOutput(job.job_id, job.spec.output)
            for job in self._ended
            if job.record.state is not JobState.COMPLETED
        ]
        commands += [AbandonOutput(end.record.job_id, output) for end, output in self._broken]
        commands += self._faults
        return commands

    def _final(self, job: ActiveJob) -> tuple[JobRecord, tuple[TaskRecord, ...]]:
        """All of a job's records: an emptied store may have lost those that did not change."""
        return job.current_record(), _records(job, job.tasks)


def _records(job: ActiveJob, changed: Iterable[TaskId]) -> tuple[TaskRecord, ...]:
    return tuple(job.tasks[task].record for task in changed)
