"""A simulated coordinator: the real scheduler, commands carried out one by one, death between any two."""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence

from mr.adapters.memory.state import MemoryStoreServer
from mr.adapters.memory.store import MemoryStore
from mr.coordinator.core.commands import (
    AbandonOutput,
    CloseJob,
    Command,
    EmitEvent,
    FinishOutput,
    InspectClaims,
    ProbeWorker,
    PublishTasks,
    ReleaseDead,
    Reopen,
    SaveJob,
    SendControl,
    Speculate,
    WriteBack,
)
from mr.coordinator.core.events import (
    CancelRequested,
    ClaimsObserved,
    Event,
    JobAccepted,
    OutputFailed,
    OutputFinished,
    ProbeOutcome,
    QueueObserved,
    ReportReceived,
    WorkerProbed,
    WorkersObserved,
)
from mr.coordinator.core.invariants import check
from mr.coordinator.core.job_records import submitted_record
from mr.coordinator.core.scheduler import Scheduler
from mr.coordinator.effects import Effects
from mr.coordinator.reports import with_outcomes
from mr.coordinator.stored_jobs import StoredJobs
from mr.errors import StoreBehind
from mr.protocol.failures import Failure, FailureKind
from mr.protocol.ids import JobId, TaskId, TaskKind
from mr.protocol.records import JobRecord, JobState, TaskRecord, TaskResult
from tests.simulation.broker import ReportDelivery
from tests.simulation.data import SimulatedJob
from tests.simulation.worker import Surroundings
from tests.simulation.world import World, now_or_never


class Died(Exception):
    """The coordinator was killed between two commands."""


class WorldClock:
    """The simulated time, for the coordinator's own code."""

    def __init__(self, world: World) -> None:
        self._world = world

    def now(self) -> float:
        """Virtual seconds."""
        return self._world.now

    def wall(self) -> float:
        """Virtual seconds."""
        return self._world.now

    async def sleep(self, seconds: float) -> None:
        """Nothing here sleeps."""
        raise AssertionError(f"the simulation is not to sleep {seconds:g} s")


class SimulatedEffects(Effects):
    """The real effects as far as stored jobs need them, on the simulated file system."""

    def __init__(self, coordinator: "SimulatedCoordinator") -> None:
        self._store = coordinator.store
        self._clock = WorldClock(coordinator.world)
        self._coordinator = coordinator
        self.epoch = coordinator.epoch

    async def persist(self, commands: Iterable[Command]) -> None:
        """End jobs again."""
        for command in commands:
            assert isinstance(command, CloseJob)
            self._coordinator.world.say(f"{command.record.job_id} is ended again")
            self._coordinator.end_job(command)

    async def finished(self, outputs: Mapping[JobId, str]) -> set[JobId]:
        """Those whose `_SUCCESS` is there."""
        files, world = self._coordinator.around.files, self._coordinator.world
        for name in outputs:
            if name in files.success:
                world.say(f"{name} had completed")
        return {name for name in outputs if name in files.success}


class SimulatedCoordinator:
    """One coordinator daemon and its incarnations."""

    def __init__(self, around: Surroundings, crash: float, wipe: float, go_back: float) -> None:
        self.around = around
        self.world = around.world
        self.crash_probability = crash
        self.wipe_probability = wipe
        self.go_back_probability = go_back
        #: The store as it was a moment ago, and before that.
        self.snapshots: deque[MemoryStoreServer] = deque(maxlen=8)
        self.incarnation = 0
        self.alive = False
        self.epoch = 0
        self._begin_life()
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
        self.incarnation += 1
        self.alive = True
        self.epoch += 1
        self._begin_life()
        self.world.say(f"coordinator starts, incarnation {self.incarnation}")
        incarnation = self.incarnation
        self._sweep()
        try:
            for event in now_or_never(self.jobs.restore()):
                self._handle(event)
        except Died:
            return
        self._tick(incarnation)
        self._take_reports()

    def _begin_life(self) -> None:
        """Know nothing, and have acknowledged nothing."""
        self.store = MemoryStore(lambda: self.world.now, self.around.store.server)
        now_or_never(self.store.connect())
        self.scheduler = Scheduler(self.around.settings, self.epoch)
        clock = WorldClock(self.world)
        self.effects = SimulatedEffects(self)
        self.jobs = StoredJobs(
            self.around.settings, self.store, clock, self.effects, self.scheduler.snapshot, self._hold_lead
        )
        #: Outputs that are being finished, and those that are to be abandoned after that.
        self.finishing: set[JobId] = set()
        self.abandoning: set[JobId] = set()

    async def _hold_lead(self) -> None:
        """Nobody else leads here."""

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

    def _tick(self, incarnation: int) -> None:
        if not self.alive or self.incarnation != incarnation:
            return
        self.world.after(self.around.settings.tick_seconds, lambda: self._tick(incarnation))
        try:
            self._take_requests()
            if self.world.strikes(self.wipe_probability * self.around.settings.tick_seconds):
                self._wipe_store()
            self._handle(QueueObserved(self.world.now, len(self.around.broker.tasks)))
            self._handle(WorkersObserved(self.world.now, tuple(now_or_never(self.store.workers()))))
            if now_or_never(self.jobs.forgotten()):
                self._write_back()
                self._take_news()
        except Died:
            return

    def _wipe_store(self) -> None:
        """The store comes back empty, and this coordinator, which is alive, notices at its next look."""
        self.world.say("the store is emptied")
        server = self.around.store.server
        server.jobs.clear()
        server.workers.clear()
        #: A coordinator that dies now takes the jobs with it; mrmq does not promise otherwise.
        self.crash_probability = 0.0
        self.snapshots.clear()

    def watch_store(self) -> None:
        """Now and then, let the store come back as it was some seconds ago."""
        self.world.after(0.5, self.watch_store)
        if self.snapshots and self.world.strikes(self.go_back_probability * 0.5):
            age = self.world.chance.randrange(len(self.snapshots))
            self.world.say(f"the store comes back as it was {0.5 * (len(self.snapshots) - age):g} s ago")
            self.around.store.server.go_back(self.snapshots[age])
            self.snapshots.clear()
        if self.go_back_probability:
            self.snapshots.append(self.around.store.server.snapshot())

    def _promise(self) -> None:
        """A job was accepted or ended: a coordinator that may die lets no store go back behind that."""
        if self.crash_probability:
            self.snapshots.clear()

    def _take_requests(self) -> None:
        while self.requests:
            job = self.requests[0]
            record = submitted_record(job.spec)
            created = now_or_never(self.store.create_job(job.spec, job.splits, record, self.epoch))
            self._promise()
            if self.world.strikes(self.crash_probability):
                self._die()
            self.around.files.prepared.add(job.spec.job_id)
            self.requests.popleft()
            if created:
                now_or_never(self.jobs.take_code(job.spec, b""))
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
                try:
                    (read,) = now_or_never(with_outcomes(self.store, (event,), active))
                except StoreBehind:
                    self._write_back()
                    (read,) = now_or_never(with_outcomes(self.store, (event,), active))
                self._handle(read)
            except Died:
                return
            self.around.broker.reports.remove(delivery)

    def _handle(self, event: Event) -> None:
        commands = self.scheduler.handle(event)
        check(self.scheduler.state)
        steps = [command.effect for command in commands]
        assert steps == sorted(steps), f"commands out of the order of effects: {commands}"
        for command in commands:
            if self.world.strikes(self.crash_probability):
                self._die()
            try:
                self._perform(command)
            except StoreBehind:
                self._write_back()
                self._perform(command)
        self._take_news()

    def _write_back(self) -> None:
        self.world.say("the coordinator writes back what the store had forgotten")
        now_or_never(self.jobs.write_back_all())

    def _take_news(self) -> None:
        for event in now_or_never(self.jobs.news()):
            self._handle(event)

    def _send(self, incarnation: int, event: Event) -> None:
        if self.alive and self.incarnation == incarnation:
            try:
                self._handle(event)
            except Died:
                return

    # --- commands

    def _perform(self, command: Command) -> None:
        store, broker = self.store, self.around.broker
        match command:
            case Reopen():
                self.world.say(f"{command.job_id}: lost {command.lost}")
                now_or_never(store.reopen(command.job_id, command.lost, self.epoch))
            case ReleaseDead():
                self.world.say(f"{command.job_id}: {command.leases} are given back")
                now_or_never(store.release_dead(command.job_id, command.leases, self.epoch))
            case ProbeWorker():
                self._probe(command)
            case Speculate():
                self.world.say(f"{command.job_id}: backup for {command.tasks}")
                now_or_never(store.speculate(command.job_id, command.tasks, self.epoch))
            case SaveJob():
                now_or_never(store.save_job(command.record, command.tasks, self.epoch))
            case CloseJob():
                self.world.say(f"{command.record.job_id} {command.record.state}: {command.record.cause}")
                self.end_job(command)
                self.jobs.note_ended(command)
                self._archive(command.record.job_id)
                self._promise()
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
            case WriteBack():
                self.world.say(f"{command.job_id}: the store was seen to have forgotten some of it")
                now_or_never(self.jobs.write_back([command.job_id]))
            case FinishOutput():
                incarnation = self.incarnation
                self.finishing.add(command.job_id)
                self.world.after(self.world.delay(2.0), lambda: self._finish(incarnation, command))
                if self.world.strikes(0.1):
                    self.around.jobs[command.job_id].cancelled = True
                    self.cancellations.append(command.job_id)
            case AbandonOutput():
                self._abandon(command.job_id)

    def end_job(self, command: CloseJob) -> None:
        """Write a job's end."""
        seconds = self.around.settings.history_seconds
        now_or_never(self.store.end_job(command.record, command.tasks, self.epoch, seconds))

    def _abandon(self, name: JobId) -> None:
        """Remove a job's output, never while it is being finished."""
        if name in self.finishing:
            self.abandoning.add(name)
        else:
            self.around.files.abandon(name)

    def _archive(self, name: JobId) -> None:
        record = now_or_never(self.store.get_job(name))
        assert record is not None
        assert name not in self.ended, f"{name} ended twice"
        self.ended[name] = (record, now_or_never(self.store.get_tasks(name)))

    def _inspect(self, command: InspectClaims) -> None:
        """Read now, answer later: other events come between."""
        store = self.store
        try:
            claims = dict(now_or_never(store.claims(command.job_id)))
        except StoreBehind:
            return
        results: dict[TaskId, TaskResult] = {}
        for kind in TaskKind:
            results.update(now_or_never(store.get_results(command.job_id, kind)))
        incarnation = self.incarnation

        def answer() -> None:
            self._send(
                incarnation,
                ClaimsObserved(
                    self.world.now, command.job_id, claims, results, command.outputs, command.asked_at
                ),
            )

        self.world.after(self.world.delay(), answer)

    def _probe(self, command: ProbeWorker) -> None:
        """Ask for a process, and now and then take one that lives for dead."""
        lives = any(w.alive and w.incarnation == command.incarnation for w in self.around.workers.values())
        is_reached = lives and not self.world.strikes(0.002)
        is_news = not command.reachable if is_reached else command.reachable or command.replaced
        if not is_news:
            return
        outcome = ProbeOutcome.REACHED if is_reached else ProbeOutcome.GONE
        incarnation = self.incarnation

        def answer() -> None:
            self.world.say(f"{command.incarnation} {'lives' if lives else 'is dead'}, found {outcome}")
            self._send(
                incarnation, WorkerProbed(self.world.now, command.incarnation, command.number, outcome)
            )

        self.world.after(self.world.delay(), answer)

    def _finish(self, incarnation: int, command: FinishOutput) -> None:
        if not self.alive or self.incarnation != incarnation:
            return
        self.finishing.discard(command.job_id)
        if self.world.strikes(0.05) and command.job_id not in self.output_failed:
            self.output_failed.add(command.job_id)
            failure = Failure(FailureKind.INFRASTRUCTURE, "the file system is away")
            self._send(incarnation, OutputFailed(self.world.now, command.job_id, failure))
            return
        self.around.files.finish(command.parts, command.manifest)
        if command.job_id in self.abandoning:
            self.around.files.abandon(command.job_id)
        self.world.after(self.world.delay(), lambda: self._finished(incarnation, command.job_id))

    def _finished(self, incarnation: int, name: JobId) -> None:
        self._send(incarnation, OutputFinished(self.world.now, name))
