"""The scheduler: events in, commands out. Pure: time and chance arrive as arguments."""

from collections.abc import Iterable

from mr.coordinator.core import lost_outputs, reconcile, speculation
from mr.coordinator.core.attempts import fail_attempt, record_outcome
from mr.coordinator.core.commands import Command
from mr.coordinator.core.complaints import Complaints
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
from mr.coordinator.core.isolation import break_event, each_job, isolated, job_of, logged, note_event
from mr.coordinator.core.job_phases import advance, end_job, note_waiting, retry_output
from mr.coordinator.core.job_records import failed_record
from mr.coordinator.core.membership import Membership
from mr.coordinator.core.restore import new_job, restored_job, snapshot
from mr.coordinator.core.state import ActiveJob, SchedulerState
from mr.coordinator.core.transitions import JobCause
from mr.protocol.ids import Incarnation, JobId
from mr.protocol.messages import TaskCommitted, TaskFailed, WorkerStopped
from mr.protocol.records import IncidentKind, JobState, RestoredJob
from mr.settings import Settings


class Scheduler:
    """Decides what runs, what runs again and what ends. Equal events and seed give equal commands.

    It never raises for an event, whatever order events come in; what makes no sense changes nothing. Where
    the engine itself fails over a job, that job fails, and the others go on.
    """

    def __init__(self, settings: Settings, seed: int) -> None:
        membership = Membership(settings)
        self.state = SchedulerState(settings, seed, membership, Complaints(settings, membership))
        self._now = 0.0

    def handle(self, event: Event, time_of_day: float | None = None) -> list[Command]:
        """Take one event in. Returns what to do about it, in the order of effects."""
        return self.handle_all((event,), time_of_day)

    def handle_all(self, events: Iterable[Event], time_of_day: float | None = None) -> list[Command]:
        """Take in events that wait together; each job that changed is saved once.

        `time_of_day` is for the records, in seconds since the epoch (default: `now` of the events). No
        decision depends on it: it may be set back, and the next coordinator's clock may differ.
        """
        decisions = Decisions(self.state, self._now, time_of_day)
        for event in events:
            self._now = decisions.now = max(self._now, event.now)
            note_event(self.state, event)
            try:
                self._dispatch(decisions, event)
            except Exception as error:  # noqa: BLE001 - the outermost frame around one event: logged, its job fails
                break_event(decisions, event, error)
        with logged(decisions, "filling the window"):
            fill_window(decisions)
        each_job(decisions, lambda job: note_waiting(decisions, job))
        return decisions.commands(isolated)

    def active_jobs(self) -> tuple[JobId, ...]:
        """Jobs that have not ended, in order of acceptance."""
        return tuple(self.state.jobs)

    def snapshot(self, job_id: JobId) -> RestoredJob | None:
        """Everything known of an active job, to be written into a store that has lost it."""
        job = self.state.jobs.get(job_id)
        return None if job is None else snapshot(job)

    # --- events

    def _dispatch(self, decisions: Decisions, event: Event) -> None:
        match event:
            case QueueObserved():
                self.state.ready = event.ready
            case WorkersObserved():
                self._tick(decisions, event)
            case WorkerProbed():
                if self.state.membership.probed(event.incarnation, event.number, event.outcome):
                    _worker_ended(decisions, event.incarnation)
            case ReportReceived(report=WorkerStopped() as report):
                self._worker_stopped(decisions, report, beats=event.beats)
            case _:
                job = self.state.jobs.get(job_of(event) or JobId(""))
                if job is not None:
                    self._dispatch_to_job(decisions, job, event)
                elif isinstance(event, JobAccepted):
                    self._accept(decisions, event)
                elif isinstance(event, JobRestored) and not event.job.record.state.terminal:
                    self._restore(decisions, event)
                elif isinstance(event, JobBroken) and event.record is not None:
                    record = failed_record(event.record, event.cause, decisions.time_of_day)
                    decisions.close_broken(record, (), record.output)

    def _dispatch_to_job(self, decisions: Decisions, job: ActiveJob, event: Event) -> None:
        match event:
            case ReportReceived():
                self._report(decisions, job, event)
            case ClaimsObserved():
                self._claims(decisions, job, event)
            case JobWrittenBack():
                reconcile.settle_written_back(decisions, job, event)
            # While the output is being finished nothing else ends the job: `_SUCCESS` may appear any moment.
            case CancelRequested() if not job.finishing:
                end_job(decisions, job, JobCause.CANCELLED, event.cause, keep=event.keep)
            case JobBroken() if not job.finishing:
                end_job(decisions, job, JobCause.BROKEN, event.cause)
            case OutputFinished() if job.output_done:
                end_job(decisions, job, JobCause.OUTPUT_FINISHED)
            case OutputFailed() if job.finishing:
                retry_output(decisions, job, event.failure)

    def _accept(self, decisions: Decisions, event: JobAccepted) -> None:
        job = new_job(self.state, event)
        self.state.jobs[job.job_id] = job
        decisions.emit_job_event(job.record, "submitted")
        self._plan(decisions, job)

    def _restore(self, decisions: Decisions, event: JobRestored) -> None:
        job = restored_job(decisions, event.job)
        self.state.jobs[job.job_id] = job
        if job.record.state is JobState.SUBMITTED:
            self._plan(decisions, job)
        if event.finished:
            end_job(decisions, job, JobCause.OUTPUT_FINISHED)
            return
        if event.resumed:
            decisions.emit_job_event(job.record, JobCause.RESUMED)
        else:
            decisions.note(job, IncidentKind.TAKEN_OVER)
        decisions.save_all(job, JobCause.RESUMED if event.resumed else "taken over")
        advance(decisions, job)

    def _plan(self, decisions: Decisions, job: ActiveJob) -> None:
        """Let a job's maps begin."""
        decisions.step(job, JobCause.PLANNED)
        decisions.save_all(job, JobCause.PLANNED)
        advance(decisions, job)

    def _worker_stopped(self, decisions: Decisions, report: WorkerStopped, *, beats: bool) -> None:
        if beats:
            return
        if self.state.membership.stopped(
            report.worker, report.incarnation, decisions.now, leaves_outputs=report.leaves_outputs
        ):
            _worker_ended(decisions, report.incarnation)

    def _report(self, decisions: Decisions, job: ActiveJob, event: ReportReceived) -> None:
        report = event.report
        task = None if isinstance(report, WorkerStopped) else job.tasks.get(report.attempt.task)
        if task is None:
            return
        if isinstance(report, TaskCommitted):
            record_outcome(decisions, job, task, event.outcome)
        elif isinstance(report, TaskFailed) and event.outcome.claim.was_given(
            report.worker, report.incarnation, report.attempt.number
        ):
            fail_attempt(decisions, job, task, report)

    def _tick(self, decisions: Decisions, event: WorkersObserved) -> None:
        ended = self.state.membership.observe(decisions.now, event.views)
        reconcile.note_running(decisions)
        decisions.note_ended(ended | self.state.membership.began_draining)
        lost_outputs.doubt_outputs(decisions)
        reconcile.inspect_suspects(decisions, ended)
        speculation.start_backups(decisions)
        decisions.probe(self.state.membership.due_probes(decisions.now))
        publish_aged(decisions)
        each_job(decisions, lambda job: advance(decisions, job))

    def _claims(self, decisions: Decisions, job: ActiveJob, event: ClaimsObserved) -> None:
        if reconcile.is_behind(job, event):
            decisions.write_back(job, "the store knows less of its claims than is known here")
            return
        if job.doubtful and event.outputs:
            lost_outputs.settle_outputs(decisions, job, event)
        reconcile.settle_claims(decisions, job, event)


def _worker_ended(decisions: Decisions, incarnation: Incarnation) -> None:
    """Act on the end of a worker as soon as it is certain."""
    decisions.note_ended({incarnation})
    lost_outputs.doubt_outputs(decisions)
    reconcile.inspect_suspects(decisions, {incarnation})
