"""The coordinator's mind: events in, commands out. Pure: time and chance arrive as arguments."""

from collections.abc import Iterable

import msgspec

from mr.coordinator.core import lost_outputs, reconcile, speculation
from mr.coordinator.core.attempts import SchedulerState, advance, end_job, fail_attempt, record_outcome
from mr.coordinator.core.commands import Command
from mr.coordinator.core.decisions import Decisions
from mr.coordinator.core.dispatch import fill_window, publish_aged
from mr.coordinator.core.events import (
    CancelRequested,
    ClaimsObserved,
    Event,
    JobAccepted,
    JobBroken,
    JobRestored,
    JobWrittenBack,
    OutputFailed,
    OutputFinished,
    QueueObserved,
    ReportReceived,
    WorkerProbed,
    WorkersObserved,
)
from mr.coordinator.core.isolation import break_event, each_job, isolated, logged, note_event
from mr.coordinator.core.membership import Cluster
from mr.coordinator.core.policy import retry_delay_seconds
from mr.coordinator.core.reachability import Reachability
from mr.coordinator.core.restore import new_job, restored_job, snapshot
from mr.coordinator.core.state import ActiveJob, Task
from mr.coordinator.core.transitions import JobCause
from mr.ports.scheduling import RestoredJob
from mr.protocol.ids import JobId, TaskId, TaskKind
from mr.protocol.messages import TaskCommitted, TaskFailed, WorkerStopped
from mr.protocol.records import JobState, TaskState
from mr.settings import Settings


class Scheduler:
    """Decides what runs, what runs again and what ends. Equal events and seed give equal commands.

    It never raises for an event, whatever order events come in; what makes no sense changes nothing. Where
    the engine itself fails over a job, that job fails, and the others go on.
    """

    def __init__(self, settings: Settings, seed: int) -> None:
        cluster = Cluster(settings)
        self.core = SchedulerState(settings, seed, cluster, Reachability(settings, cluster))
        self._now = 0.0

    # --- the outside

    def handle(self, event: Event, wall: float | None = None) -> list[Command]:
        """Take one event in. Returns what to do about it, in the order of effects."""
        return self.handle_all((event,), wall)

    def handle_all(self, events: Iterable[Event], wall: float | None = None) -> list[Command]:
        """Take in events that wait together; each job that changed is saved once.

        `wall`: the time of day for the records, in seconds since the epoch (that of the events if not given).
        Nothing is decided by it: it may be set back, and the next coordinator's may be another.
        """
        turn = Decisions()
        for event in events:
            self._now = turn.now = max(self._now, event.now)
            turn.wall = turn.now if wall is None else wall
            note_event(self.core, event)
            try:
                self._dispatch(turn, event)
            except Exception as error:  # noqa: BLE001 - the outermost frame around one event: logged, its job fails
                break_event(self.core, turn, event, error)
        with logged(turn, "filling the window"):
            fill_window(self.core, turn)
        each_job(self.core, turn, lambda job: self._note_waiting(turn, job))
        return turn.commands(self.core.jobs, lambda job: isolated(self.core, turn, job))

    def active_jobs(self) -> tuple[JobId, ...]:
        """Jobs that have not ended, in order of acceptance."""
        return tuple(self.core.jobs)

    def snapshot(self, job_id: JobId) -> RestoredJob | None:
        """Everything known of an active job, to be written into a store that has lost it."""
        job = self.core.jobs.get(job_id)
        return None if job is None else snapshot(job)

    # --- events

    def _dispatch(self, turn: Decisions, event: Event) -> None:
        match event:
            case JobAccepted():
                self._accept(turn, event)
            case JobRestored():
                self._restore(turn, event)
            case ReportReceived():
                self._report(turn, event)
            case QueueObserved():
                self.core.ready = event.ready
            case WorkersObserved():
                self._tick(turn, event)
            case ClaimsObserved():
                self._claims(turn, event)
            case JobWrittenBack():
                self._written_back(turn, event)
            case WorkerProbed():
                self._probed(turn, event)
            case CancelRequested():
                self._cancel(turn, event)
            case JobBroken():
                self._broken(turn, event)
            case OutputFinished():
                self._output_finished(turn, event)
            case OutputFailed():
                self._output_failed(turn, event)

    def _accept(self, turn: Decisions, event: JobAccepted) -> None:
        if event.spec.job_id in self.core.jobs:
            return
        job = new_job(self.core, event)
        self.core.jobs[job.job_id] = job
        turn.emit_job_event(job)
        self._plan(turn, job)

    def _restore(self, turn: Decisions, event: JobRestored) -> None:
        if event.job.spec.job_id in self.core.jobs or event.job.record.state.terminal:
            return
        job = restored_job(self.core, event.job, turn)
        self.core.jobs[job.job_id] = job
        if job.record.state is JobState.SUBMITTED:
            self._plan(turn, job)
        if event.finished:
            end_job(self.core, turn, job, JobCause.OUTPUT_FINISHED)
            return
        for task in job.tasks.values():
            turn.touch(job, task)
        advance(turn, job)

    def _plan(self, turn: Decisions, job: ActiveJob) -> None:
        """Let a job's maps begin."""
        job.step(JobCause.PLANNED, turn.wall)
        for task in job.tasks.values():
            turn.touch(job, task)
        turn.emit_job_event(job)
        advance(turn, job)

    def _report(self, turn: Decisions, event: ReportReceived) -> None:
        report = event.report
        if isinstance(report, WorkerStopped):
            if event.beats:
                return
            news = self.core.cluster.stopped(
                report.worker, report.incarnation, turn.now, leaves_outputs=report.leaves_outputs
            )
            if news:
                lost_outputs.doubt_outputs(self.core, turn)
                reconcile.inspect_suspects(self.core, turn, {report.incarnation})
            return
        found = self._find(report.job_id, report.task_id)
        if found is None:
            return
        job, task = found
        if isinstance(report, TaskCommitted):
            record_outcome(self.core, turn, job, task, event.outcome)
        elif isinstance(report, TaskFailed) and event.outcome.claim.was_given(
            report.worker, report.incarnation, report.attempt
        ):
            fail_attempt(self.core, turn, job, task, report)

    def _find(self, job_id: JobId, task_id: TaskId) -> tuple[ActiveJob, Task] | None:
        job = self.core.jobs.get(job_id)
        task = None if job is None else job.tasks.get(task_id)
        return None if job is None or task is None else (job, task)

    def _tick(self, turn: Decisions, event: WorkersObserved) -> None:
        core = self.core
        ended = core.cluster.observe(turn.now, event.views)
        reconcile.note_running(core, turn)
        lost_outputs.doubt_outputs(core, turn)
        reconcile.inspect_suspects(core, turn, ended)
        speculation.start_backups(core, turn)
        turn.probe(core.cluster.due_probes(turn.now))
        publish_aged(core, turn)
        each_job(core, turn, lambda job: advance(turn, job))

    def _probed(self, turn: Decisions, event: WorkerProbed) -> None:
        """Act on a death as soon as it is certain."""
        if self.core.cluster.probed(event.incarnation, event.number, event.outcome):
            lost_outputs.doubt_outputs(self.core, turn)
            reconcile.inspect_suspects(self.core, turn, {event.incarnation})

    def _note_waiting(self, turn: Decisions, job: ActiveJob) -> None:
        """Say in the job's record what keeps it from going on."""
        cluster = self.core.cluster
        running = any(job.count(kind, TaskState.RUNNING) for kind in TaskKind)
        waiting_for = ""
        if job.output_done or not cluster.observed:
            waiting_for = ""
        elif cluster.slots == 0:
            # Workers that are just starting have a lease's time to be heard of.
            silent_seconds = turn.now - job.known_at
            waiting_for = "no live workers" if silent_seconds >= self.core.settings.lease_seconds else ""
        elif cluster.open_slots == 0 and not running:
            waiting_for = "workers take no tasks" + (f" ({cluster.limits()})" if cluster.limits() else "")
        elif job.record.state is JobState.REDUCING and not job.maps_done:
            waiting_for = "lost map outputs are made again"
        if waiting_for != job.record.waiting_for:
            job.record = msgspec.structs.replace(job.record, waiting_for=waiting_for)
            turn.touch(job)

    def _claims(self, turn: Decisions, event: ClaimsObserved) -> None:
        job = self.core.jobs.get(event.job_id)
        if job is not None and reconcile.is_behind(job, event):
            turn.write_back(job)
        elif job is not None:
            if job.doubtful and event.outputs:
                lost_outputs.settle_outputs(self.core, turn, job, event)
            reconcile.settle_claims(self.core, turn, job, event.claims, event.results)

    def _written_back(self, turn: Decisions, event: JobWrittenBack) -> None:
        job = self.core.jobs.get(event.job_id)
        if job is not None:
            reconcile.settle_written_back(self.core, turn, job, event.claims, event.results)

    def _cancel(self, turn: Decisions, event: CancelRequested) -> None:
        job = self.core.jobs.get(event.job_id)
        # While the output is being finished nothing else ends the job: `_SUCCESS` may be there any moment.
        if job is not None and not job.finishing:
            end_job(self.core, turn, job, JobCause.CANCELLED, event.cause)

    def _broken(self, turn: Decisions, event: JobBroken) -> None:
        job = self.core.jobs.get(event.job_id)
        if job is not None and not job.finishing:
            end_job(self.core, turn, job, JobCause.BROKEN, event.cause)

    def _output_finished(self, turn: Decisions, event: OutputFinished) -> None:
        job = self.core.jobs.get(event.job_id)
        if job is not None and job.output_done:
            end_job(self.core, turn, job, JobCause.OUTPUT_FINISHED)

    def _output_failed(self, turn: Decisions, event: OutputFailed) -> None:
        """Try again while the failure's rule and `max_attempts` allow it, else the job fails."""
        job = self.core.jobs.get(event.job_id)
        if job is None or not job.finishing:
            return
        job.finishing = False
        job.finish_tries += 1
        if not event.failure.rule.retry or job.finish_tries >= job.spec.max_attempts:
            end_job(self.core, turn, job, JobCause.OUTPUT_FAILED, event.failure.message)
            return
        name = TaskId("output")
        seconds = retry_delay_seconds(self.core.settings, self.core.seed, job.job_id, name, job.finish_tries)
        job.finish_due_at = turn.now + seconds
