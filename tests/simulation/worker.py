"""A simulated worker: the real life cycle and the real claims, in an unreliable body."""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from mr.adapters.memory.store import MemoryStore
from mr.protocol.claims import Verdict
from mr.protocol.failures import Failure, FailureKind, Loss, LostInput
from mr.protocol.ids import (
    AttemptId,
    Incarnation,
    JobId,
    TaskId,
    TaskKind,
    WorkerId,
    task_id,
    task_index,
    task_kind,
)
from mr.protocol.messages import (
    Control,
    EndJob,
    PauseWorker,
    StopAttempt,
    TaskCommitted,
    TaskFailed,
    WorkerStopped,
)
from mr.protocol.records import MapOutput, PartOutput, RunningTask, TaskResult, TaskStats, WorkerBeat
from mr.settings import Settings
from mr.workers.daemon.lifecycle import AttemptEvent, AttemptState, advance
from tests.simulation.broker import SimulatedBroker, TaskDelivery
from tests.simulation.data import Faults, FileSystem, SimulatedJob, is_output, part_key
from tests.simulation.spool import SimulatedSpool
from tests.simulation.world import World, now_or_never


@dataclass
class Surroundings:
    """What every worker reaches."""

    world: World
    settings: Settings
    broker: SimulatedBroker
    store: MemoryStore
    files: FileSystem
    jobs: dict[JobId, SimulatedJob]
    workers: "dict[WorkerId, SimulatedWorker]" = field(default_factory=dict)


@dataclass(eq=False)
class SimulatedAttempt:
    """One attempt in a slot."""

    job: SimulatedJob
    id: AttemptId
    delivery: TaskDelivery
    started_at: float
    state: AttemptState = AttemptState.CLAIMED

    def step(self, event: AttemptEvent) -> None:
        """Take a step of the real table."""
        self.state = advance(self.state, event)


class SimulatedWorker:
    """One worker daemon and its lives."""

    def __init__(self, around: Surroundings, faults: Faults, name: str, slots: int) -> None:
        self.around = around
        self.world = around.world
        self.faults = faults
        self.name = WorkerId(name)
        self.slots = slots
        self.unsettled: list[TaskDelivery] = []
        self.attempts: list[SimulatedAttempt] = []
        self.spool = SimulatedSpool()
        #: When a drain ends at the latest; infinite while it takes tasks.
        self.drained_at = math.inf
        self.alive = False
        self.life = 0
        self.beats = 0
        #: Heartbeats and renewals do not get through until then.
        self.mute_until = 0.0
        self.paused_until = 0.0

    @property
    def incarnation(self) -> Incarnation:
        """Its present life."""
        return Incarnation(f"{self.name}.{self.life}")

    # --- life

    def start(self) -> None:
        """Begin a life: what an earlier one left in the spool is adopted before the first heartbeat."""
        self.life += 1
        self.alive = True
        self.paused_until = 0.0
        self.drained_at = math.inf
        self.world.say(f"{self.incarnation} starts")
        for job, task, number in self.spool.adopt(self.around.store, self.name, self.incarnation):
            self.world.say(f"{self.incarnation} adopts {job} {task}/{number}")
        self.around.broker.consumers.append(self)
        self._beat(self.life)
        self.around.broker.pump()

    def crash(self) -> None:
        """Die at once, as after SIGKILL: the broker redelivers, and the disk may be lost too."""
        self.world.say(f"{self.incarnation} crashes with {[a.id.task for a in self.attempts]}")
        self._leave()
        if self.world.chance.random() < 0.4:
            self.world.say(f"{self.incarnation} loses its disk")
            self.spool.left.clear()
        self.world.after(self.world.chance.uniform(0.5, 40.0), self.start)

    def stop(self) -> None:
        """Leave in good order: leases given back, the coordinator told, outputs left in the spool."""
        self.world.say(f"{self.incarnation} stops in good order")
        store = self.around.store
        for attempt in self.attempts:
            now_or_never(store.release(attempt.id, self.incarnation))
        now_or_never(store.forget_worker(self.name, self.incarnation))
        self.around.broker.publish_report(WorkerStopped(self.name, self.incarnation, bool(self.spool.served)))
        self._leave()
        self.world.after(self.world.chance.uniform(0.5, 40.0), self.start)

    def _leave(self) -> None:
        self.alive = False
        self.attempts.clear()
        self.spool.leave(self.incarnation)
        self.around.broker.consumers.remove(self)
        self.around.broker.disconnect(self)

    def _in_this_life(self, call: Callable[[], None]) -> Callable[[], None]:
        """Make a call void when the worker died meanwhile."""
        life = self.life

        def guarded() -> None:
            if self.alive and self.life == life:
                call()

        return guarded

    def _later(self, seconds: float, call: Callable[[], None]) -> None:
        self.world.after(seconds, self._in_this_life(call))

    def _beat(self, life: int) -> None:
        """Say that it lives, renew leases, and suffer what this seed has in store."""
        if not self.alive or self.life != life:
            return
        interval = self.around.settings.heartbeat_seconds
        self.world.after(interval, lambda: self._beat(life))
        if self.world.now >= self.mute_until:
            self._renew()
            self._sweep()
            self._register()
            self.around.broker.pump()
        if self.world.strikes(self.faults.crash * interval):
            self._later(self.world.chance.uniform(0, interval), self.crash)
        elif self.world.strikes(self.faults.crash * interval / 4):
            self._later(self.world.chance.uniform(0, interval), self.stop)
        elif self.world.strikes(self.faults.crash * interval / 4):
            self.drained_at = self.world.now + self.world.chance.uniform(0.0, 60.0)
            self.world.say(f"{self.incarnation} drains")
        elif self.world.strikes(self.faults.blip * interval):
            self.mute_until = self.world.now + self.world.chance.uniform(1.0, 40.0)
            self.world.say(f"{self.name} is mute until {self.mute_until - 1000.0:.1f}")
        elif self.world.strikes(self.faults.disconnect * interval):
            self.world.say(f"{self.name} loses its connection to the broker")
            self.around.broker.disconnect(self)
        if self._is_drained():
            self._later(0.0, self.stop)

    def _is_drained(self) -> bool:
        """Whether a drain is over: nothing runs, and no reduce needs what is served here, or time is up."""
        if self.drained_at == math.inf or self.attempts:
            return False
        others = [w for w in self.around.workers.values() if w is not self and w.alive]
        wanted = any(w.drained_at == math.inf for w in others) and self.spool.needed(self.around.store)
        return not wanted or self.world.now >= self.drained_at

    def _register(self) -> None:
        """Beat; the life that had the name before is known to be dead."""
        self.beats += 1
        beat, lease_seconds = self._heartbeat(), self.around.settings.lease_seconds
        owner = now_or_never(self.around.store.heartbeat(beat, lease_seconds))
        if owner is not None:
            now_or_never(self.around.store.heartbeat(beat, lease_seconds, owner.beat))

    def _renew(self) -> None:
        by_job: dict[JobId, dict[TaskId, int]] = {}
        for attempt in (a for a in self.attempts if a.state is AttemptState.RUNNING):
            by_job.setdefault(attempt.id.job, {})[attempt.id.task] = attempt.id.number
        for job, attempts in by_job.items():
            lease_seconds = self.around.settings.lease_seconds
            stopped = now_or_never(self.around.store.renew(job, attempts, self.incarnation, lease_seconds))
            for task in stopped:
                self._stop_attempts(job, task, "its claim is gone")

    def _sweep(self) -> None:
        """Now and then, delete files of jobs that ended while nobody could tell us."""
        if self.world.chance.random() < 0.1:
            self.spool.sweep(self.around.store)

    def _heartbeat(self) -> WorkerBeat:
        now = self.world.now
        running = tuple(RunningTask(*a.id, a.started_at, now - a.started_at) for a in self.attempts)
        return WorkerBeat(
            worker=self.name,
            incarnation=self.incarnation,
            host=self.name,
            address=f"{self.name}:1",
            version="0",
            started_at=0.0,
            slots=self.slots,
            open_slots=self.prefetch(),
            draining=self.drained_at < math.inf,
            running=running,
            number=self.beats,
            control_queue=f"control-{self.incarnation}",
        )

    # --- what the broker hands over

    def prefetch(self) -> int:
        """As many deliveries as slots; none while paused or draining."""
        return 0 if self.world.now < self.paused_until or self.drained_at < math.inf else self.slots

    def deliver(self, delivery: TaskDelivery) -> None:
        """Ask for the claim, and run the task or forget it."""
        message = delivery.message
        store, settings = self.around.store, self.around.settings
        reply = now_or_never(
            store.claim(message.job_id, message.task_id, self.name, self.incarnation, settings.lease_seconds)
        )
        self.world.say(
            f"{self.name} asks for {message.job_id} {message.task_id}: {reply.verdict} {reply.attempt}"
        )
        if reply.verdict is Verdict.GRANTED:
            self._stop_attempts(message.job_id, message.task_id, "a newer attempt of it is here")
            self._begin(delivery, reply.attempt)
            return
        if reply.verdict is Verdict.COMMITTED:
            self._report_committed(AttemptId(message.job_id, message.task_id, reply.attempt))
        self._later(self.world.delay(), lambda: self.around.broker.ack(self, delivery))

    def _begin(self, delivery: TaskDelivery, number: int) -> None:
        """Run a granted attempt, once an older one that was given the same number has left."""
        id = AttemptId(delivery.message.job_id, delivery.message.task_id, number)
        if any(a.id == id for a in self.attempts):
            self._later(0.1, lambda: self._begin(delivery, number))
            return
        attempt = SimulatedAttempt(self.around.jobs[id.job], id, delivery, self.world.now)
        attempt.step(AttemptEvent.PREPARED)
        self.attempts.append(attempt)
        seconds = self.world.chance.uniform(0.2, 3.0)
        if self.world.chance.random() < self.faults.slow:
            seconds *= 30
        self._later(seconds, lambda: self._finish(attempt))

    def control(self, control: Control) -> None:
        """Obey a broadcast."""
        if not self.alive:
            return
        if isinstance(control, EndJob):
            self._stop_attempts(control.job_id, None, "the job is over")
            self.spool.drop_job(control.job_id)
        elif isinstance(control, StopAttempt):
            self._stop_attempts(*control.winner[:2], "another attempt won", control.winner.number)
        elif isinstance(control, PauseWorker) and control.worker == self.name:
            self.world.say(f"{self.name} is paused: {control.reason}")
            self.paused_until = self.world.now + control.seconds
            self._later(control.seconds + 0.001, self.around.broker.pump)

    def _stop_attempts(self, job: JobId, task: TaskId | None, why: str, winner: int = 0) -> None:
        for attempt in list(self.attempts):
            meant = attempt.id.job == job and task in (None, attempt.id.task)
            if meant and attempt.id.number != winner and attempt.state is AttemptState.RUNNING:
                self.world.say(f"{self.name} stops {job} {attempt.id.task}/{attempt.id.number}: {why}")
                attempt.step(AttemptEvent.STOP)
                attempt.step(AttemptEvent.KILLED)
                attempt.step(AttemptEvent.DISCARDED)
                self._settle(attempt)

    # --- an attempt's way through the life cycle

    def _finish(self, attempt: SimulatedAttempt) -> None:
        """The child is done: raise, or commit, or report what is missing."""
        if attempt.state is not AttemptState.RUNNING:
            return
        result = self._compute(attempt)
        if isinstance(result, Failure):
            self._fail(attempt, result)
            return
        attempt.step(AttemptEvent.FINISHED)
        self._later(self.world.delay(), lambda: self._commit(attempt, result))

    def _compute(self, attempt: SimulatedAttempt) -> TaskResult | Failure:
        if self.world.strikes(self.faults.infrastructure):
            return Failure(FailureKind.INFRASTRUCTURE, "the disk is full")
        if attempt.job.raises(attempt.id.task):
            if task_index(attempt.id.task) % 2:
                return Failure(FailureKind.KILLED, "killed by signal 9", signal=9)
            return Failure(FailureKind.USER_ERROR, "ValueError: bad word", traceback="map_fn, line 3")
        job, (_, task, number) = attempt.job, attempt.id
        if task_kind(task) is TaskKind.MAP:
            words = job.words[task_index(task)]
            stats = TaskStats(records_in=len(words), wall_seconds=1.0, counters={"words": len(words)})
            if is_output(job, task):
                return self._write_part(attempt, tuple(words), stats)
            partitions = job.map(task_index(task))
            self.spool.served[job.spec.job_id, task, number] = partitions
            where = (self.name, self.incarnation, f"{self.name}:1", self.name, "/spool")
            return TaskResult(MapOutput(attempt.id, *where), stats)
        fetched = self._fetch(attempt)
        if isinstance(fetched, Failure):
            return fetched
        return self._write_part(attempt, dict(sorted(fetched.items())), TaskStats(wall_seconds=1.0))

    def _write_part(
        self, attempt: SimulatedAttempt, part: dict[str, int] | tuple[str, ...], stats: TaskStats
    ) -> TaskResult:
        job, task, number = attempt.id
        name = f"{task}/{number}/{self.incarnation}"
        assert (job, name) not in self.around.files.temporary, "two attempts share a file"
        self.around.files.temporary[job, name] = part
        return TaskResult(PartOutput(attempt.id, self.name, self.incarnation, len(part), 1, "0"), stats)

    def _fetch(self, attempt: SimulatedAttempt) -> Counter[str] | Failure:
        """Read a partition of every map output from the workers that hold them."""
        spec, index = attempt.job.spec, task_index(attempt.id.task)
        located = now_or_never(self.around.store.map_outputs(spec.job_id)).unpack(spec.job_id)
        outputs = {output.attempt.task: output for output in located}
        if len(outputs) < spec.maps:
            return Failure(FailureKind.INPUT_LOST, "some map outputs are not in the store")
        total: Counter[str] = Counter()
        lost: list[LostInput] = []
        for number in range(spec.maps):
            name = task_id(TaskKind.MAP, number)
            output = outputs[name]
            holder = self.around.workers[output.worker]
            here = holder.alive and holder.incarnation == output.incarnation
            segments = holder.spool.served.get((spec.job_id, name, output.attempt.number)) if here else None
            unreachable = not holder.alive or (
                holder is not self and self.world.strikes(self.faults.unreachable)
            )
            if segments is None or unreachable:
                found = Loss.UNREACHABLE if unreachable else Loss.MISSING
                lost.append(LostInput(name, output.attempt.number, output.worker, output.incarnation, found))
            else:
                total.update(segments[index])
        if lost:
            return Failure(FailureKind.INPUT_LOST, f"{len(lost)} map outputs are lost", lost=tuple(lost))
        return total

    def _commit(self, attempt: SimulatedAttempt, result: TaskResult) -> None:
        job, task, number = attempt.id
        if not now_or_never(self.around.store.commit(attempt.id, result)):
            self.world.say(f"{self.name} may not commit {job} {task}/{number}")
            attempt.step(AttemptEvent.LOST)
            self.spool.served.pop((job, task, number), None)
            if isinstance(result.output, PartOutput):
                self.around.files.temporary.pop((job, part_key(result.output)), None)
            attempt.step(AttemptEvent.DISCARDED)
            self._settle(attempt)
            return
        self.world.say(f"{self.name} commits {job} {task}/{number}")
        attempt.step(AttemptEvent.WON)
        self._later(self.world.delay(), lambda: self._after_commit(attempt, result))

    def _after_commit(self, attempt: SimulatedAttempt, result: TaskResult) -> None:
        if isinstance(result.output, PartOutput):
            self.around.files.publish(attempt.id.job, result.output)
        self._report_committed(attempt.id)
        attempt.step(AttemptEvent.REPORTED)
        self._later(self.world.delay(), lambda: self._settle(attempt))

    def _report_committed(self, attempt: AttemptId) -> None:
        self.around.broker.publish_report(TaskCommitted(attempt, self.name, self.incarnation))

    def _fail(self, attempt: SimulatedAttempt, failure: Failure) -> None:
        job, task, number = attempt.id
        self.world.say(f"{self.name} fails {job} {task}/{number}: {failure.kind}")
        attempt.step(AttemptEvent.FAILED)
        now_or_never(self.around.store.release(attempt.id, self.incarnation))
        attempt.step(AttemptEvent.RELEASED)
        self._later(self.world.delay(), lambda: self._report_failed(attempt, failure))

    def _report_failed(self, attempt: SimulatedAttempt, failure: Failure) -> None:
        self.around.broker.publish_report(TaskFailed(attempt.id, self.name, self.incarnation, failure))
        attempt.step(AttemptEvent.REPORTED)
        self._later(self.world.delay(), lambda: self._settle(attempt))

    def _settle(self, attempt: SimulatedAttempt) -> None:
        attempt.step(AttemptEvent.ACKNOWLEDGED)
        self.attempts.remove(attempt)
        self.around.broker.ack(self, attempt.delivery)
