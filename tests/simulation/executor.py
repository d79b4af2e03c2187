"""The child processes of one worker: they run tiny maps and reduces, fetch from others, raise, and die."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mr.formats import storage
from mr.protocol.failures import Failure, FailureKind, Loss, LostInput
from mr.protocol.ids import AttemptId, JobId, TaskId, TaskKind, task_index, task_kind
from mr.protocol.part_names import temporary_part
from mr.protocol.records import MapOutput, PartOutput, RunningTask, TaskResult, TaskStats
from mr.workers.messages import RunTask
from mr.workers.process.executor import Outcome
from tests.simulation.data import as_part, merged
from tests.simulation.loop import Life

if TYPE_CHECKING:
    from tests.simulation.worker import SimulatedWorker

#: How long a reducer goes on asking a worker that cannot be reached.
PATIENCE_SECONDS = 3.0


@dataclass(eq=False)
class _Child:
    """The process of one attempt."""

    run_task: RunTask
    life: Life
    ended: "asyncio.Future[Outcome]"
    started: float
    wall: float
    progress: float = 0.0


@dataclass
class SimulatedExecutor:
    """The interface of the real Executor, as far as the daemon uses it."""

    worker: "SimulatedWorker"
    life: Life
    _running: dict[AttemptId, _Child] = field(default_factory=dict)
    _closed: bool = False

    async def run(self, run_task: RunTask, on_start: Callable[[], None] | None = None) -> Outcome:
        """Run one attempt to its end."""
        world = self.worker.world
        await asyncio.sleep(world.chance.uniform(0.001, 0.05))
        if self._closed:
            return Outcome(failure=Failure(FailureKind.INFRASTRUCTURE, "the worker is stopping"))
        attempt = run_task.attempt
        assert attempt not in self._running, f"{attempt} runs twice in one worker"
        ended = world.loop.create_future()
        life = Life(world.loop, f"{self.life.name}'s child")
        child = self._running[attempt] = _Child(run_task, life, ended, world.now, self.worker.clock.wall())
        self.worker.note_begin(attempt)
        try:
            if on_start is not None:
                on_start()
            if not ended.done():  # stopped in its first moment
                life.start(self._work(child), "an attempt")
            return await ended
        finally:
            del self._running[attempt]
            life.end()

    def stop(self, attempt: AttemptId) -> None:
        """Kill an attempt's process, unless its answer has come."""
        child = self._running.get(attempt)
        if child is not None and not child.ended.done():
            child.life.end()
            child.ended.set_result(Outcome())

    def die(self) -> None:
        """Every child dies with the daemon."""
        for child in self._running.values():
            child.life.end()

    async def close(self) -> None:
        """Kill every child."""
        self._closed = True
        for attempt in tuple(self._running):
            self.stop(attempt)

    def forget_job(self, job: JobId) -> None:
        """No process outlives its attempt here."""

    def own_cpu_seconds(self) -> float:
        """None is used."""
        return 0.0

    def running(self) -> tuple[RunningTask, ...]:
        """What each busy slot does."""
        now = self.worker.world.now
        return tuple(
            RunningTask(*attempt, started_at=child.wall, elapsed_seconds=now - child.started)
            for attempt, child in self._running.items()
        )

    # --- in the child

    async def _work(self, child: _Child) -> None:
        run_task, chance, faults = child.run_task, self.worker.world.chance, self.worker.faults
        seconds = chance.uniform(12.0, 15.0) if self.worker.cluster.long_tasks else chance.uniform(0.1, 2.0)
        if self.worker.world.strikes(faults.slow):
            seconds *= 30
        await asyncio.sleep(seconds / 2)
        try:
            outcome = await self._outcome(run_task, seconds)
        except Exception as error:  # noqa: BLE001 (whatever it is, it fails the simulation)
            self.worker.cluster.fail(f"{self.life.name}'s child: {error!r}", error)
            return
        if not child.ended.done():
            child.ended.set_result(outcome)

    async def _outcome(self, run_task: RunTask, seconds: float) -> Outcome:
        attempt = run_task.attempt
        job, world = self.worker.jobs[attempt.job], self.worker.world
        segments: list[bytes] = []
        if task_kind(attempt.task) is TaskKind.REDUCE:
            fetched = await self._fetch_all(run_task)
            if isinstance(fetched, Failure):
                return Outcome(failure=fetched)
            segments = fetched
        await asyncio.sleep(seconds / 2)
        if world.strikes(self.worker.faults.infrastructure):
            return Outcome(failure=Failure(FailureKind.INFRASTRUCTURE, "the disk is full"))
        if job.raises(attempt.task):
            if task_index(attempt.task) % 2:
                return Outcome(failure=Failure(FailureKind.KILLED, "killed by signal 9", signal=9))
            return Outcome(failure=Failure(FailureKind.USER_ERROR, "ValueError: bad", traceback="line 3"))
        if task_kind(attempt.task) is TaskKind.REDUCE:
            part = merged(segments)
            return self._write_part(run_task, part, TaskStats(wall_seconds=seconds))
        index = task_index(attempt.task)
        words = job.words[index]
        stats = TaskStats(records_in=len(words), wall_seconds=seconds, counters={"words": len(words)})
        if job.reduces == 0:
            return self._write_part(run_task, as_part((word, 1) for word in words), stats)
        made = f"{run_task.work_dir}/segments"
        self.worker.disk.files[made] = job.map(index)
        identity = run_task.identity
        where = (identity.worker, identity.incarnation, identity.address, identity.host, made)
        return Outcome(result=TaskResult(MapOutput(attempt, *where), stats), printed="")

    @staticmethod
    def _write_part(run_task: RunTask, part: bytes, stats: TaskStats) -> Outcome:
        job, task, number = run_task.attempt
        identity, spec = run_task.identity, run_task.spec
        path = temporary_part(
            spec.output, job, task_index(task), number, identity.incarnation, spec.options.output_format
        )
        try:
            with storage.open_write(path) as file:
                file.write(part)
        except OSError as error:
            return Outcome(failure=Failure(FailureKind.INFRASTRUCTURE, f"{path}: {error}"))
        rows = len(json.loads(part))
        output = PartOutput(
            run_task.attempt, identity.worker, identity.incarnation, rows, len(part), "0" * 16
        )
        return Outcome(result=TaskResult(output, stats))

    async def _fetch_all(self, run_task: RunTask) -> list[bytes] | Failure:
        """This partition of every map output."""
        segments: dict[TaskId, bytes] = {}
        remote: dict[str, list[MapOutput]] = {}
        index = task_index(run_task.attempt.task)
        for output in run_task.map_outputs.unpack(run_task.attempt.job):
            local = output.host == self.worker.disk.host and self.worker.disk.files.get(output.path)
            if local:
                segments[output.attempt.task] = local[index]
            else:
                remote.setdefault(output.address, []).append(output)
        lost: list[LostInput] = []
        for address, outputs in sorted(remote.items()):
            found = await self._fetch(run_task, address, outputs)
            if isinstance(found, list):
                lost += found
            else:
                segments.update({task: parts[index] for task, parts in found.items()})
        if lost:
            return Failure(FailureKind.INPUT_LOST, f"{len(lost)} map outputs are lost", lost=tuple(lost))
        return [segments[task] for task in sorted(segments)]

    async def _fetch(
        self, run_task: RunTask, address: str, outputs: list[MapOutput]
    ) -> dict[TaskId, list[bytes]] | list[LostInput]:
        """Ask whoever listens at an address, for some seconds if nobody answers."""
        world = self.worker.world
        deadline = world.now + PATIENCE_SECONDS
        while True:
            await asyncio.sleep(world.delay(0.2))
            server = self.worker.peer(address)
            if server is not None and not world.strikes(self.worker.faults.unreachable):
                return server.serve(run_task.spec.token, outputs)
            if world.now > deadline:
                return [_lost(output, Loss.UNREACHABLE) for output in outputs]
            await asyncio.sleep(1.0)


def _lost(output: MapOutput, found: Loss) -> LostInput:
    return LostInput(output.attempt.task, output.attempt.number, output.worker, output.incarnation, found)


def missing(outputs: list[MapOutput]) -> list[LostInput]:
    """What a worker answers that does not have some outputs."""
    return [_lost(output, Loss.MISSING) for output in outputs]
