"""One simulation from one seed, and what must be true at its end."""

import contextlib
import gc
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from unittest import mock

import msgspec

from mr.coordinator.core.invariants import InvariantBroken, check
from mr.coordinator.core.scheduler import Scheduler
from mr.protocol.ids import JobId, TaskKind, task_kind
from mr.protocol.queues import DEAD_QUEUE, REPORTS_QUEUE, TASKS_QUEUE
from mr.protocol.records import JobRecord, JobState, Manifest
from tests.simulation.cluster import Cluster
from tests.simulation.data import SimulatedJob
from tests.simulation.files import FILES_AWAY, Away, SimulatedFileSystem
from tests.simulation.loop import START

#: Virtual seconds after the end of all trouble in which every job must have ended.
DEADLINE_SECONDS = 600.0
#: Virtual seconds after that in which the cluster must have come to rest.
REST_SECONDS = 240.0
#: How often it is looked whether it has.
LOOK_SECONDS = 5.0


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
        self.cluster = Cluster(seed)
        self.world = self.cluster.world
        self.world.after(self.world.trouble_until - self.world.now, self.cluster.heal)

    def run(self) -> Outcome:
        """Run until all is over. Raises SimulationFailed."""
        cluster, world = self.cluster, self.world
        try:
            with self._watched():
                deadline = world.trouble_until + DEADLINE_SECONDS
                if not world.loop.run_until(self._all_ended, deadline):
                    raise SimulationFailed(f"not ended in time: {self._states()}")
                ended_at = world.now
                self._check_failures()
                for job in cluster.jobs.values():
                    self._check_job(job)
                self._come_to_rest(max(ended_at, world.trouble_until))
                self._check_failures()
            return Outcome(world.trace, ended_at - START, self._states())
        finally:
            world.loop.close()

    def _states(self) -> dict[JobId, JobState]:
        return {name: record.state for name, record in sorted(self.cluster.store.ended.items())}

    def _all_ended(self) -> bool:
        cluster = self.cluster
        return bool(cluster.failures) or (
            len(cluster.store.ended) == len(cluster.jobs) == len(cluster.client.accepted)
        )

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        """Check the scheduler's invariants after each batch, and take what is logged as an error for one."""
        cluster = self.cluster
        handle_all = Scheduler.handle_all

        def checked(scheduler: Scheduler, *arguments: Any) -> Any:
            commands = handle_all(scheduler, *arguments)
            try:
                check(scheduler.state)
            except InvariantBroken as error:
                cluster.fail(str(error), error)
            return commands

        handler = _Errors(cluster)
        logger = logging.getLogger("mr")
        level, propagate = logger.level, logger.propagate
        logger.setLevel(logging.ERROR)
        logger.propagate = False
        logger.addHandler(handler)
        try:
            with mock.patch.object(Scheduler, "handle_all", checked):
                yield
        finally:
            logger.removeHandler(handler)
            logger.setLevel(level)
            logger.propagate = propagate

    def _check_failures(self) -> None:
        for message, error in self.cluster.failures:
            raise SimulationFailed(message) from error

    # --- jobs

    def _check_job(self, job: SimulatedJob) -> None:
        """Its state is the one it deserves, and a completed one's output is the reference."""
        record = self.cluster.store.ended[job.id]
        if record.state is JobState.CANCELLED and not job.cancelled:
            raise SimulationFailed(f"{job.id} was cancelled, but nobody asked for it")
        if record.state is JobState.FAILED:
            self._check_failed(job, record)
        if record.state is JobState.COMPLETED:
            self._check_completed(job, record)

    def _check_completed(self, job: SimulatedJob, record: JobRecord) -> None:
        if job.doomed is not None:
            raise SimulationFailed(f"{job.id} is COMPLETED, though {job.doomed} always raises")
        files = SimulatedFileSystem.files
        found = [files.get(f"{job.output}/part-{index:05d}") for index in range(job.parts)]
        if found != job.reference():
            raise SimulationFailed(f"{job.id} wrote {found}, not {job.reference()}")
        manifest = msgspec.json.decode(files[f"{job.output}/_SUCCESS"], type=Manifest)
        names = [part.task_id for part in manifest.parts]
        if names != sorted(set(names)) or len(names) != job.parts:
            raise SimulationFailed(f"{job.id} lists other parts than there are: {names}")
        words = sum(len(words) for words in job.words)
        if manifest.counters.get("words", 0) != words:
            raise SimulationFailed(f"{job.id} counted {manifest.counters}, not {words} words")

        self._check_once(job)

    def _check_once(self, job: SimulatedJob) -> None:
        """In a gentle seed no task runs again without a reason.

        Reasons are a backup, and for a reduce a worker that left at the end of `drain_seconds`: the reduce
        fails until the next worker has adopted the map outputs.
        """
        backups = self.cluster.store.backups
        left = any(worker.left_early for worker in self.cluster.workers)
        again = {
            str(task): count
            for task, count in job.begun.items()
            if count != 1 + job.raised[task]
            and (job.id, task) not in backups
            and not (left and task_kind(task) is TaskKind.REDUCE)
        }
        if again and self.cluster.gentle:
            raise SimulationFailed(f"{job.id} ran tasks again for no reason: {again}")

    @staticmethod
    def _check_failed(job: SimulatedJob, record: JobRecord) -> None:
        if FILES_AWAY in record.cause:
            return  # the coordinator tries to finish an output a few times, not for ever
        if job.doomed is None:
            raise SimulationFailed(f"{job.id} FAILED ({record.cause}), though its code is good")
        if job.raised[job.doomed] < job.max_attempts:
            raise SimulationFailed(
                f"{job.id} FAILED after {job.raised[job.doomed]} of {job.max_attempts} attempts"
            )

    # --- rest

    def _come_to_rest(self, since: float) -> None:
        """Run until nothing is left to do. Raises SimulationFailed when something always is."""
        loop, at = self.world.loop, since
        while at < since + REST_SECONDS:
            loop.run_until(lambda: self.world.now >= at, at)  # noqa: B023 (called at once)
            if not self._unrest():
                return
            at += LOOK_SECONDS
        raise SimulationFailed(f"no rest: {self._unrest()}")

    def _unrest(self) -> str:
        """What is still under way, or was left behind; empty when there is nothing."""
        cluster = self.cluster
        for queue in (TASKS_QUEUE, REPORTS_QUEUE, DEAD_QUEUE):
            if ready := cluster.queues.queues[queue].ready:
                return f"{ready} messages in {queue}"
        files = SimulatedFileSystem.files
        for name, state in self._states().items():
            left = [path for path in files if path.startswith(cluster.jobs[name].output + "/")]
            if state is not JobState.COMPLETED and left:
                return f"{name} is {state}, but left {left}"
            if state is JobState.COMPLETED and any("/_temporary/" in path for path in left):
                return f"{name} left {left}"
            entry = cluster.store.server.jobs.get(name)
            shown = None if entry is None else msgspec.msgpack.decode(entry.record, type=JobRecord).state
            if shown is not state:
                return f"{name} ended as {state}, but the store shows {shown}"
        for worker in cluster.workers:
            if worker.daemon is not None and worker.daemon.executor.running():
                return f"{worker.incarnation} still runs {worker.daemon.executor.running()}"
            kept = [path for path in worker.disk.files if "/jobs/" in path]
            if kept:
                return f"{worker.disk.host} keeps {kept}"
        return ""


class _Errors(logging.Handler):
    """Takes what the product logs as an error for a failure, except where the simulation made it fail."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(logging.ERROR)
        self._cluster = cluster

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, Away):
            self._cluster.fail(f"{record.name}: {record.getMessage()}: {error!r}", error)


def simulate(seed: int) -> Outcome:
    """Run one seed. Raises SimulationFailed with the command that replays it."""
    simulation = Simulation(seed)
    enabled = gc.isenabled()
    gc.disable()  # so that what a dead daemon left is not closed at a moment that the collector chooses
    try:
        return simulation.run()
    except AssertionError as error:
        tail = "\n".join(simulation.world.trace[-15:])
        raise SimulationFailed(
            f"seed {seed}: {error}\nreplay it with: python -m tests.simulation --seed {seed} -v\n{tail}"
        ) from error
    finally:
        if enabled:
            gc.enable()
