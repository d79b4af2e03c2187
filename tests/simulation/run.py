"""One simulation from one seed, and what must be true at its end."""

from dataclasses import dataclass

from mr.adapters.memory.store import MemoryStore
from mr.coordinator.core.invariants import InvariantBroken
from mr.protocol.ids import JobId
from mr.protocol.records import JobState, TaskState
from mr.settings import Settings
from tests.simulation.broker import SimulatedBroker
from tests.simulation.data import Faults, FileSystem, SimulatedJob, make_job
from tests.simulation.shell import SimulatedCoordinator
from tests.simulation.worker import SimulatedWorker, Surroundings
from tests.simulation.world import World, now_or_never

SETTINGS = Settings(tick_seconds=1.0, straggler_min_seconds=5.0, exclude_seconds=30.0)
#: Virtual seconds in which every job must have ended.
DEADLINE_SECONDS = 3600.0
#: Virtual seconds after the last job's end in which the cluster must have come to rest.
REST_SECONDS = 180.0


class SimulationFailed(AssertionError):
    """Something that must hold did not."""


@dataclass
class Outcome:
    """How a simulation ended."""

    trace: list[str]
    virtual_seconds: float
    states: dict[JobId, JobState]


class Simulation:
    """A cluster, its jobs and its misfortunes, all drawn from one seed."""

    def __init__(self, seed: int) -> None:
        self.world = world = World(seed)
        chance = world.chance
        #: A third of the seeds has no faults of a kind at all, so that no fault hides another.
        draw = lambda most: 0.0 if chance.random() < 0.33 else chance.uniform(0, most)  # noqa: E731
        store = MemoryStore(lambda: world.now)
        now_or_never(store.connect())
        broker = SimulatedBroker(world, drop=draw(0.05), double=draw(0.3))
        self.around = Surroundings(world, SETTINGS, broker, store, FileSystem(), {})
        faults = Faults(
            crash=draw(0.02),
            blip=draw(0.02),
            disconnect=draw(0.03),
            slow=draw(0.15),
            infrastructure=draw(0.1),
            unreachable=draw(0.05),
        )
        for number in range(chance.randint(1, 5)):
            worker = SimulatedWorker(self.around, faults, f"worker-{number}", chance.randint(1, 3))
            self.around.workers[worker.name] = worker
            world.after(chance.uniform(0.0, 5.0), worker.start)
        self.coordinator = SimulatedCoordinator(
            self.around, crash=draw(0.01), wipe=draw(0.02), go_back=draw(0.05)
        )
        world.after(chance.uniform(0.0, 3.0), self.coordinator.start)
        world.after(0.0, self.coordinator.watch_store)
        for number in range(chance.randint(1, 4)):
            self._plan_job(make_job(chance, number, world.now))

    def _plan_job(self, job: SimulatedJob) -> None:
        chance = self.world.chance
        submitted_after = chance.choice((0.0, 0.0, chance.uniform(0, 40)))
        self.around.jobs[job.spec.job_id] = job
        self.world.after(submitted_after, lambda: self.coordinator.requests.append(job))
        if chance.random() < 0.1:
            job.cancelled = True
            cancel_after = submitted_after + chance.uniform(2.0, 30.0)
            self.world.after(cancel_after, lambda: self.coordinator.cancellations.append(job.spec.job_id))

    def run(self) -> Outcome:
        """Run until all is over. Raises SimulationFailed or InvariantBroken."""
        deadline = self.world.now + DEADLINE_SECONDS
        while not self._all_ended():
            if self.world.now > deadline:
                self._fail(f"not ended within {DEADLINE_SECONDS:g} virtual seconds: {self._states()}")
            self.world.step()
        ended_at = self.world.now
        for job in self.around.jobs.values():
            self._check_job(job)
        while self.world.now < max(ended_at, self.world.trouble_until) + REST_SECONDS:
            self.world.step()
        self._check_rest()
        return Outcome(self.world.trace, ended_at - 1000.0, self._states())

    def _states(self) -> dict[JobId, JobState]:
        return {name: record.state for name, (record, _) in sorted(self.coordinator.ended.items())}

    def _all_ended(self) -> bool:
        return len(self.coordinator.ended) == len(self.around.jobs)

    def _fail(self, message: str) -> None:
        raise SimulationFailed(message)

    def _check_job(self, job: SimulatedJob) -> None:
        """Its state is the one it deserves, and a completed one's output is the reference."""
        name = job.spec.job_id
        record, tasks = self.coordinator.ended[name]
        if any(task.state in (TaskState.WAITING, TaskState.QUEUED, TaskState.RUNNING) for task in tasks):
            self._fail(f"{name} is {record.state}, but a task is not: {tasks}")
        if record.state is JobState.CANCELLED and not job.cancelled:
            self._fail(f"{name} was cancelled, but nobody asked for it")
        if record.state is JobState.FAILED:
            self._check_failed(job, record.cause)
        if record.state is not JobState.COMPLETED:
            return
        if job.doomed is not None:
            self._fail(f"{name} is COMPLETED, though {job.doomed} always raises")
        parts = self.around.files.final.get(name, {})
        if [parts.get(index) for index in range(job.spec.parts)] != job.reference():
            self._fail(f"{name} wrote {parts}, not {job.reference()}")
        manifest = self.around.files.success[name]
        if [p.task_id for p in manifest.parts] != sorted({p.task_id for p in manifest.parts}):
            self._fail(f"{name} lists a part twice: {manifest.parts}")
        words = sum(len(words) for words in job.words)
        if manifest.counters.get("words", 0) != words:
            self._fail(f"{name} counted {manifest.counters}, not {words} words")
        if any(line.endswith(f"  {name} had completed") for line in self.world.trace):
            return  # known by its `_SUCCESS`; of its tasks the store may have lost some
        if record.stats.counters.get("words", 0) != words:
            self._fail(f"{name} shows {record.stats.counters}, not {words} words")
        committed = [t for t in tasks if t.state is TaskState.COMMITTED]
        outputs = [t for t in committed if t.task_id.startswith(str(job.spec.output_kind))]
        if len(outputs) != job.spec.parts:
            self._fail(f"{name} is COMPLETED with {len(outputs)} of {job.spec.parts} parts committed")

    def _check_failed(self, job: SimulatedJob, cause: str) -> None:
        if job.doomed is None:
            self._fail(f"{job.spec.job_id} FAILED ({cause}), though its code is good")
        elif job.raised[job.doomed] < job.spec.options.max_attempts:
            self._fail(
                f"{job.spec.job_id} FAILED after {job.raised[job.doomed]} of {job.spec.options.max_attempts}"
            )

    def _check_rest(self) -> None:
        """Nothing runs, nothing is queued, nothing is remembered."""
        if self.coordinator.alive and self.coordinator.scheduler.active_jobs():
            self._fail(f"the scheduler still remembers {self.coordinator.scheduler.active_jobs()}")
        if self.around.broker.tasks or self.around.broker.reports:
            self._fail(f"still queued: {self.around.broker.tasks} {self.around.broker.reports}")
        for name, state in self._states().items():
            files = self.around.files
            left = name in files.final or name in files.prepared or name in files.success
            if state is not JobState.COMPLETED and left:
                self._fail(f"{name} is {state}, but left output behind")
            if state is JobState.COMPLETED and name not in files.success:
                self._fail(f"{name} is {state}, but has no _SUCCESS")
        for worker in self.around.workers.values():
            if worker.spool.served or worker.spool.left:
                self._fail(f"{worker.name} still keeps {list(worker.spool.served)} {list(worker.spool.left)}")
            if worker.attempts:
                self._fail(f"{worker.name} still runs {[(a.id.task, a.state) for a in worker.attempts]}")


def simulate(seed: int) -> Outcome:
    """Run one seed. Raises SimulationFailed with the command that replays it."""
    simulation = Simulation(seed)
    try:
        return simulation.run()
    except (AssertionError, InvariantBroken) as error:
        tail = "\n".join(simulation.world.trace[-15:])
        raise SimulationFailed(
            f"seed {seed}: {error}\nreplay it with: python -m tests.simulation --seed {seed} -v\n{tail}"
        ) from error
