"""The pool of child processes that run attempts. A child runs one attempt at a time, and all of one job.

User code never runs in the daemon. To stop an attempt, its child and the child's process group are killed;
a crash is a Failure with a signal number. Two limits are enforced here: the wall time of an attempt, by a
timer, and the memory of its process, sampled every MEMORY_WATCH_SECONDS. Measured are the private resident
bytes (resident minus shared and file-backed), because a limit on the address space (RLIMIT_AS) would count
what Arrow reserves and memory-maps. So an attempt may exceed its limit between two samples, and memory of
processes that user code starts is not counted.
"""

import asyncio
import os
import time
from collections.abc import Callable, Sequence

import msgspec

from mr.protocol.codec import UNDECODABLE
from mr.protocol.failures import Failure
from mr.protocol.ids import AttemptId, JobId
from mr.protocol.records import RunningTask, TaskResult
from mr.settings import Settings
from mr.workers.messages import Done, Failed, FromChild, Progress, RunTask
from mr.workers.process import channel as frames
from mr.workers.process import exit_failures
from mr.workers.process.child_process import ChildProcess
from mr.workers.process.progress_reporter import PROGRESS_SECONDS
from mr.workers.process.template_client import SpawnRefused, Template, TemplateDied

DEFAULT_ENTRY = "mr.workers.task.entry:run_attempt"
DEFAULT_PRELOAD = ("pyarrow", "pyarrow.compute", "mr.workers.task.entry")
MEMORY_WATCH_SECONDS = 0.5
#: A child that has not reported for this many times PROGRESS_SECONDS may be at another record by now.
REPORTS_MISSED = 3
#: How long a child that closed its channel may take to end before it is killed.
HANG_UP_SECONDS = 2.0


class Outcome(msgspec.Struct, frozen=True):
    """How an attempt's process ended: a result, a failure, or neither when it was stopped."""

    result: TaskResult | None = None
    failure: Failure | None = None
    #: What it printed, bounded; empty when it printed nothing.
    printed: str = ""

    @property
    def stopped(self) -> bool:
        """Whether `stop` ended it."""
        return self.result is None and self.failure is None


class _Running:
    """One attempt while its child runs it."""

    def __init__(self, run_task: RunTask, child: ChildProcess) -> None:
        self.run_task = run_task
        self.child = child
        self.started_at = time.time()
        self.started = time.monotonic()
        self._progress = Progress(0.0, 0, "")
        #: When it last began, finished a record, or went on to the next phase; and when it last reported.
        self._advanced = self._reported = self.started
        #: Why the executor kills it: a failure, or None for a stop.
        self.verdict: Failure | None = None
        self.killed = False
        #: Ends it at its time limit.
        self.timer: asyncio.TimerHandle | None = None

    def begun_bytes(self) -> int:
        """Size of the notes that a search makes of each record it begins; 0 if it is none."""
        try:
            return os.stat(self.run_task.started).st_size if self.run_task.started else 0  # noqa: PTH116
        except OSError:
            return 0

    def note(self, progress: Progress) -> None:
        """Take in what the child reports."""
        before, self._progress, self._reported = self._progress, progress, time.monotonic()
        if (progress.phase, progress.records, progress.bytes_in) != (
            before.phase,
            before.records,
            before.bytes_in,
        ):
            self._advanced = self._reported

    @property
    def stalled_seconds(self) -> float:
        """How long it has finished no record, and has not gone on to another phase either."""
        return time.monotonic() - self._advanced

    @property
    def record(self) -> str:
        """The record that it is at and was at a while ago; empty if that is not known.

        Code that holds the interpreter's lock lets no report through, so the last one may be out of date.
        """
        patience_seconds = REPORTS_MISSED * PROGRESS_SECONDS
        silent_seconds = time.monotonic() - self._reported
        known = silent_seconds <= patience_seconds < self.stalled_seconds
        return self._progress.record if known else ""

    def describe(self, stall_seconds: float) -> RunningTask:
        """What it does; names the record of one that has stalled for longer than `stall_seconds`."""
        progress, stalled_seconds = self._progress, self.stalled_seconds
        return RunningTask(
            *self.run_task.attempt,
            started_at=self.started_at,
            elapsed_seconds=time.monotonic() - self.started,
            progress=progress.share,
            records=progress.records,
            memory_bytes=self.child.memory_bytes(),
            cpu_percent=self.child.cpu_percent(),
            bytes_in=progress.bytes_in,
            phase=progress.phase,
            stalled_seconds=stalled_seconds,
            record=self.record if stalled_seconds > stall_seconds else "",
        )


class Executor:
    """Runs up to `slots` attempts at once, each in a child process. Lives on one event loop."""

    def __init__(
        self,
        *,
        slots: int,
        settings: Settings,
        entry: str = DEFAULT_ENTRY,
        preload: Sequence[str] = DEFAULT_PRELOAD,
    ) -> None:
        self._slots = slots
        self._settings = settings
        self._template = Template(entry, preload)
        self._restart = asyncio.Lock()
        self._idle: list[ChildProcess] = []
        self._children: set[ChildProcess] = set()
        self._running: dict[AttemptId, _Running] = {}
        self._endings: set[asyncio.Task[None]] = set()
        self._watch: asyncio.Task[None] | None = None
        self._closed = False
        self._retired_cpu_seconds = 0.0
        self._decoder = msgspec.msgpack.Decoder(FromChild)

    async def start(self) -> None:
        """Start the fork template. Raises TemplateDied when it cannot import what it should preload."""
        await self._template.start()
        self._watch = asyncio.create_task(self._watch_memory())

    async def close(self) -> None:
        """Kill every child and the template, and wait until they are gone. From now on `run` refuses."""
        self._closed = True
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.wait([self._watch])
        for running in self._running.values():
            self._kill(running, None)
        await self._template.close()
        for child in tuple(self._children):
            self._retire(child)
        await self.wait_retired()

    async def run(self, run_task: RunTask, on_start: Callable[[], None] | None = None) -> Outcome:
        """Run one attempt to its end. Never raises for anything that user code or the process does."""
        try:
            child = await self._child_for(run_task)
        except (TemplateDied, SpawnRefused) as error:
            return Outcome(failure=exit_failures.no_process(error))
        running = _Running(run_task, child)
        self._running[run_task.attempt] = running
        reusable = False
        try:
            if on_start is not None:
                on_start()
            outcome = await self._converse(running)
            reusable = outcome.result is not None
        finally:
            del self._running[run_task.attempt]
            if reusable:
                self._idle.append(child)
            else:
                self._retire(child)
        return outcome

    def stop(self, attempt: AttemptId) -> None:
        """Kill an attempt's process group; its `run` returns a stopped Outcome. No effect on others."""
        if running := self._running.get(attempt):
            self._kill(running, None)

    def forget_job(self, job: JobId) -> None:
        """End the idle children that served a job which is over."""
        for child in [c for c in self._idle if c.job == job]:
            self._idle.remove(child)
            self._retire(child)

    def own_cpu_seconds(self) -> float:
        """CPU time that all children of this executor have used so far."""
        return self._retired_cpu_seconds + sum(child.cpu_seconds() for child in self._children)

    def running(self) -> tuple[RunningTask, ...]:
        """What each busy slot is doing."""
        return tuple(r.describe(self._settings.stall_seconds) for r in self._running.values())

    # --- children

    async def _child_for(self, run_task: RunTask) -> ChildProcess:
        """An idle child of the same job, or a new one in place of another job's."""
        job, code_dir = run_task.spec.job_id, run_task.code_dir
        for child in self._idle:
            if child.job == job and child.code_dir == code_dir:
                self._idle.remove(child)
                if child.process.exited.done():
                    self._retire(child)
                    break
                child.begin()
                return child
        if len(self._running) + len(self._idle) >= self._slots and self._idle:
            self._retire(self._idle.pop(0))
        async with self._restart:
            if self._closed:
                raise TemplateDied("the worker is stopping")
            if not self._template.alive:
                await self._template.close()
                await self._template.start()
        child = ChildProcess(await self._template.spawn(), job, code_dir, self._settings.log_bytes)
        await child.open()
        self._children.add(child)
        return child

    def _retire(self, child: ChildProcess) -> None:
        """Kill a child and close its ends once it is gone."""
        if child in self._children:
            self._children.discard(child)
            self._retired_cpu_seconds += child.cpu_seconds()
            ending = asyncio.create_task(self._end(child))
            self._endings.add(ending)
            ending.add_done_callback(self._endings.discard)

    async def _end(self, child: ChildProcess) -> None:
        self._template.kill(child.process)
        await child.process.exited
        child.close()

    # --- one attempt

    async def _converse(self, running: _Running) -> Outcome:
        """Send the RunTask and listen until the child answers or dies."""
        child, run_task = running.child, running.run_task
        self._arm_timer(running)
        try:
            answer = await self._listen(running, frames.frame(run_task))
        finally:
            if running.timer is not None:
                running.timer.cancel()
        if answer is None or running.killed:
            status = await self._exit_status(running)
        child.drain()
        printed = child.printed.text()
        if running.killed:
            failure = running.verdict
        elif isinstance(answer, Done):
            return Outcome(result=answer.result, printed=printed)
        elif isinstance(answer, Failed):
            failure = answer.failure
        else:
            failure = exit_failures.explain(status, run_task.spec.options.task_memory)
        if failure is not None:
            failure = msgspec.structs.replace(
                exit_failures.located(failure, run_task),
                output_tail=child.printed.last_lines(),
                wall_seconds=round(time.monotonic() - running.started, 3),
            )
        return Outcome(failure=failure, printed=printed)

    async def _listen(self, running: _Running, frame: bytes) -> Done | Failed | None:
        """Return the child's answer; None when it died or was killed first."""
        child = running.child
        try:
            child.writer.write(frame)
            await child.writer.drain()
        except ConnectionError:
            return None
        while (body := await frames.read(child.reader)) is not None:
            try:
                message: Progress | Done | Failed = self._decoder.decode(body)
            except UNDECODABLE as error:
                return Failed(exit_failures.protocol_error(error))
            if not isinstance(message, Progress):
                return message
            running.note(message)
        return None

    async def _exit_status(self, running: _Running) -> int | None:
        """How the child ended. One that closed its channel and still runs is killed."""
        exited = running.child.process.exited
        done, _ = await asyncio.wait([exited], timeout=HANG_UP_SECONDS)
        if not done:
            self._kill(running, exit_failures.hung_up())
        return await exited

    def _kill(self, running: _Running, verdict: Failure | None) -> None:
        """Kill an attempt, once; the first reason counts."""
        if not running.killed:
            running.killed, running.verdict = True, verdict
            self._template.kill(running.child.process)

    # --- limits

    def _arm_timer(self, running: _Running) -> None:
        seconds = running.run_task.spec.options.task_timeout
        if seconds > 0:
            loop = asyncio.get_running_loop()
            running.timer = loop.call_later(seconds, self._time_out, running, running.begun_bytes())

    def _time_out(self, running: _Running, begun_bytes: int) -> None:
        """Kill an attempt at its time limit. In a search for bad records the limit is that of each record."""
        if running.begun_bytes() > begun_bytes:
            self._arm_timer(running)
            return
        limit_seconds = running.run_task.spec.options.task_timeout
        failure = exit_failures.too_slow(limit_seconds, running.stalled_seconds, running.record)
        self._kill(running, failure)

    async def _watch_memory(self) -> None:
        while True:
            await asyncio.sleep(MEMORY_WATCH_SECONDS)
            for running in tuple(self._running.values()):
                limit = running.run_task.spec.options.task_memory
                used = running.child.memory_bytes() if limit else 0
                if used > limit > 0:
                    self._kill(running, exit_failures.too_big(limit))

    async def wait_retired(self) -> None:
        """Wait until every child that was retired has ended."""
        while self._endings:
            await asyncio.wait(self._endings)
