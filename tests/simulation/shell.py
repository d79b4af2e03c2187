"""A simulated coordinator: the real scheduler, commands carried out one by one, death between any two."""

from collections import deque
from collections.abc import Sequence

from coordinator.commands import (
    EFFECTS,
    AbandonOutput,
    Command,
    EmitEvent,
    EndJob,
    FinishOutput,
    InspectClaims,
    PublishTasks,
    Reopen,
    SaveJob,
    SendControl,
    Speculate,
)
from coordinator.events import (
    CancelRequested,
    ClaimsObserved,
    Event,
    JobAccepted,
    JobRestored,
    OutputFailed,
    OutputFinished,
    QueueObserved,
    ReportReceived,
    WorkersObserved,
)
from coordinator.invariants import check
from coordinator.reports import checked
from coordinator.scheduler import Scheduler
from coordinator.state import submitted_record
from mr.protocol.failures import Failure, FailureKind
from mr.protocol.ids import JobId, TaskId, TaskKind
from mr.protocol.records import JobRecord, JobState, TaskRecord, TaskResult
from tests.simulation.broker import ReportDelivery
from tests.simulation.data import SimulatedJob
from tests.simulation.worker import Surroundings
from tests.simulation.world import now_or_never


class Died(Exception):
    """The coordinator was killed between two commands."""


class SimulatedCoordinator:
    """One coordinator daemon and its lives."""

    def __init__(self, around: Surroundings, crash: float, wipe: float) -> None:
        self.around = around
        self.world = around.world
        self.crash_probability = crash
        self.wipe_probability = wipe
        self.life = 0
        self.alive = False
        self.epoch = 0
        self.scheduler = Scheduler(around.settings, 0)
        #: Requests not yet accepted and cancellations not yet obeyed: their queue is durable.
        self.requests: deque[SimulatedJob] = deque()
        self.cancellations: deque[JobId] = deque()
        #: Jobs whose output could not be finished once: the next try is a success.
        self.output_failed: set[JobId] = set()
        #: Final records as the store took them: an emptied store no longer has them.
        self.ended: dict[JobId, tuple[JobRecord, Sequence[TaskRecord]]] = {}
        around.broker.on_report = self._take_reports

    def start(self) -> None:
        """Take the lead and go on where the jobs stood."""
        self.life += 1
        self.alive = True
        self.epoch += 1
        self.scheduler = Scheduler(self.around.settings, self.epoch)
        self.world.say(f"coordinator starts, life {self.life}")
        life = self.life
        self._sweep()
        try:
            for job in now_or_never(self.around.store.restore(self.epoch)):
                self._handle(JobRestored(self.world.now, job))
        except Died:
            return
        self._tick(life)
        self._take_reports()

    def _sweep(self) -> None:
        """Clear what is left of jobs of which the end was recorded by a coordinator that then died."""
        for name, (record, _) in self.ended.items():
            if record.state is not JobState.COMPLETED and name in self.around.files.prepared:
                self.around.files.abandon(name)

    def _die(self) -> None:
        self.world.say("coordinator dies")
        self.alive = False
        self.world.after(self.world.chance.uniform(0.5, 30.0), self.start)
        raise Died

    # --- events

    def _tick(self, life: int) -> None:
        if not self.alive or self.life != life:
            return
        self.world.after(self.around.settings.tick_seconds, lambda: self._tick(life))
        try:
            self._take_requests()
            if self.world.strikes(self.wipe_probability * self.around.settings.tick_seconds):
                self._wipe_store()
            self._handle(QueueObserved(self.world.now, len(self.around.broker.tasks)))
            self._handle(WorkersObserved(self.world.now, tuple(now_or_never(self.around.store.workers()))))
        except Died:
            return

    def _wipe_store(self) -> None:
        """The store comes back empty, and this coordinator, which lives, notices a moment later."""
        self.world.say("the store is emptied")
        server = self.around.store.server
        server.jobs.clear()
        server.workers.clear()
        life = self.life
        noticed_after = self.world.chance.choice((0.01, self.world.chance.uniform(0.1, 5.0)))
        self.world.after(noticed_after, lambda: self._refill(life))
        #: A coordinator that dies now takes the jobs with it: that is no promise of ours.
        self.crash_probability = 0.0

    def _refill(self, life: int) -> None:
        if self.alive and self.life == life:
            for job in self.scheduler.active_jobs():
                restored = self.scheduler.snapshot(job)
                assert restored is not None
                now_or_never(self.around.store.rewrite(restored, self.epoch))
            self.world.say("the coordinator writes its jobs into the store again")

    def _take_requests(self) -> None:
        while self.requests:
            job = self.requests[0]
            record = submitted_record(job.spec)
            created = now_or_never(self.around.store.create_job(job.spec, job.splits, record, self.epoch))
            if self.world.strikes(self.crash_probability):
                self._die()
            self.around.files.prepared.add(job.spec.job_id)
            self.requests.popleft()
            if created:
                self._handle(JobAccepted(self.world.now, job.spec, job.splits))
        while self.cancellations:
            self._handle(CancelRequested(self.world.now, self.cancellations[0], "cancelled by its owner"))
            self.cancellations.popleft()

    def _take_reports(self) -> None:
        """Handle, carry out, then acknowledge: a report comes again when the coordinator dies before."""
        while self.alive and self.around.broker.reports:
            index = self.world.chance.randrange(len(self.around.broker.reports))
            delivery: ReportDelivery = self.around.broker.reports[index]
            try:
                event = ReportReceived(self.world.now, delivery.report)
                active = self.scheduler.active_jobs()
                (read,) = now_or_never(checked(self.around.store, (event,), active))
                self._handle(read)
            except Died:
                return
            self.around.broker.reports.remove(delivery)

    def _handle(self, event: Event) -> None:
        commands = self.scheduler.handle(event)
        check(self.scheduler.core)
        steps = [EFFECTS[type(command)] for command in commands]
        assert steps == sorted(steps), f"commands out of the order of effects: {commands}"
        for command in commands:
            if self.world.strikes(self.crash_probability):
                self._die()
            self._perform(command)

    def _send(self, life: int, event: Event) -> None:
        if self.alive and self.life == life:
            try:
                self._handle(event)
            except Died:
                return

    # --- commands

    def _perform(self, command: Command) -> None:
        store, broker = self.around.store, self.around.broker
        match command:
            case Reopen():
                self.world.say(f"{command.job_id}: lost {command.lost}")
                now_or_never(store.reopen(command.job_id, command.lost, self.epoch))
            case Speculate():
                self.world.say(f"{command.job_id}: backup for {command.tasks}")
                now_or_never(store.speculate(command.job_id, command.tasks, self.epoch))
            case SaveJob():
                now_or_never(store.save_job(command.record, command.tasks, self.epoch))
            case EndJob():
                self.world.say(f"{command.record.job_id} {command.record.state}: {command.record.cause}")
                history_seconds = self.around.settings.history_seconds
                now_or_never(store.end_job(command.record, command.tasks, self.epoch, history_seconds))
                self._archive(command.record.job_id)
            case PublishTasks():
                for task in command.tasks:
                    self.world.say(f"publish {task.message.job_id} {task.message.task_id}")
                    broker.publish_task(task.message, task.priority)
            case SendControl():
                broker.broadcast(command.control)
            case EmitEvent():
                self.world.say(f"event {command.event.job_id} {command.event.state}")
            case InspectClaims():
                self._inspect(command)
            case FinishOutput():
                life = self.life
                self.world.after(self.world.delay(2.0), lambda: self._finish(life, command))
            case AbandonOutput():
                self.around.files.abandon(command.job_id)

    def _archive(self, name: JobId) -> None:
        record = now_or_never(self.around.store.get_job(name))
        assert record is not None
        assert name not in self.ended, f"{name} ended twice"
        self.ended[name] = (record, now_or_never(self.around.store.get_tasks(name)))

    def _inspect(self, command: InspectClaims) -> None:
        """Read now, answer later: other events come between."""
        store = self.around.store
        claims = dict(now_or_never(store.claims(command.job_id)))
        results: dict[TaskId, TaskResult] = {}
        for kind in TaskKind:
            results.update(now_or_never(store.get_results(command.job_id, kind)))
        life = self.life

        def answer() -> None:
            self._send(
                life,
                ClaimsObserved(
                    self.world.now, command.job_id, claims, results, command.outputs, command.asked_at
                ),
            )

        self.world.after(self.world.delay(), answer)

    def _finish(self, life: int, command: FinishOutput) -> None:
        if not self.alive or self.life != life or command.job_id not in self.scheduler.active_jobs():
            return
        if self.world.strikes(0.05) and command.job_id not in self.output_failed:
            self.output_failed.add(command.job_id)
            failure = Failure(FailureKind.INFRASTRUCTURE, "the file system is away")
            self._send(life, OutputFailed(self.world.now, command.job_id, failure))
            return
        self.around.files.finish(command.manifest)
        self._send(life, OutputFinished(self.world.now, command.job_id))
