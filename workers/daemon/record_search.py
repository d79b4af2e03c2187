"""Runs a map attempt that may skip bad records: finds those it fails over, then runs it without them.

The attempt first runs at full speed. Records that cannot be read are skipped in the same pass. When `map_fn`
raises or its process ends, the same attempt runs again on this worker as a *search*: record by record,
without output, noting each record over which `map_fn` raises and, before each, its place. A search whose
process ends leaves the place of the record it had begun. That record runs alone; if it ends its process, it
is bad. If not, the records begun so far are halved until one is found that does. At last the attempt runs at
full speed without the records that were found, so that its output is that of an input which never held them.
"""

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from mr.error_text import bounded, error_text
from mr.protocol.bad_records import TRACEBACK_CHARACTERS, BadRecord
from mr.protocol.failures import Failure, FailureKind
from mr.protocol.jobs import Split
from mr.workers.messages import RunTask
from mr.workers.process.executor import Outcome
from mr.workers.task.record_notes import add_known, only, read_known, read_started

#: Runs one RunTask in a child; raises what ends the attempt, such as Stopped.
Run = Callable[[RunTask], Awaitable[Outcome]]
Place = tuple[int, int]


class _Ended(Exception):
    """The search is over without success."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class RecordSearch:
    """All runs of one attempt. They share its directory, and each has one of its own below it."""

    def __init__(self, run_task: RunTask, split: Split, run: Run) -> None:
        self._directory = Path(run_task.work_dir)
        self._known_bad = str(self._directory / "bad-records")
        self._started = str(self._directory / "started")
        self._task = msgspec.structs.replace(run_task, known_bad=self._known_bad)
        self._split = split
        self._run = run
        self._runs = 0

    async def outcome(self) -> Outcome:
        """Run the attempt to its end. Raises what `run` does."""
        try:
            outcome = await self._run_once(self._task)
            while outcome.failure is not None and self._may_be_a_record(outcome.failure):
                known = await self._count_known()
                await self._search(outcome.failure)
                if await self._count_known() == known:
                    break  # nothing to blame: it fails as it did
                outcome = await self._run_once(self._task)
        except _Ended as ended:
            return Outcome(failure=ended.failure)
        except OSError as error:
            message = f"the spool {self._directory} cannot be used: {error_text(error)}"
            return Outcome(failure=Failure(FailureKind.INFRASTRUCTURE, message))
        return outcome

    def _may_be_a_record(self, failure: Failure) -> bool:
        """Whether a record may be to blame. What `map_batch` was given is many, so none is searched there."""
        if "map_fn" not in self._task.spec.code.functions:
            return False
        by_record = failure.kind is FailureKind.USER_ERROR and failure.function == "map_fn"
        return by_record or failure.rule.ends_process

    async def _run_once(self, run_task: RunTask) -> Outcome:
        """Run in an empty directory; what the run before left there is removed."""
        self._runs += 1
        directory = self._directory / f"run-{self._runs}"
        before = self._directory / f"run-{self._runs - 1}"
        await asyncio.to_thread(_replace_directory, before, directory)
        return await self._run(msgspec.structs.replace(run_task, work_dir=str(directory)))

    async def _search(self, first: Failure) -> None:
        """Note all records over which the attempt fails. Raises _Ended; `first` if none is to blame."""
        while True:
            known = await self._count_known()
            failure = (await self._try(self._split)).failure
            if failure is None:
                return
            if not failure.rule.ends_process:
                raise _Ended(failure)
            killer = await self._narrow(await asyncio.to_thread(read_started, self._started, self._split))
            if killer is not None:
                await asyncio.to_thread(add_known, self._known_bad, killer)
            elif await self._count_known() == known:
                raise _Ended(first)

    async def _narrow(self, begun: list[Place]) -> BadRecord | None:
        """Find the one record among those begun that ends its process when it runs alone."""
        suspects = begun[-1:]
        death = await self._death_of(suspects) if suspects else None
        if death is None:
            suspects = begun
        while len(suspects) > 1:
            half = len(suspects) // 2
            for part in (suspects[half:], suspects[:half]):
                death = await self._death_of(part)
                if death is not None:
                    suspects = part
                    break
            else:
                return None
        if death is None:
            return None
        number, position = suspects[0]
        piece = self._split.ranges[number]
        return BadRecord(
            path=piece.path,
            position=position,
            kind=death.kind,
            message=death.message,
            function="map_fn",
            traceback=bounded(death.traceback or death.output_tail, TRACEBACK_CHARACTERS),
            signal=death.signal,
        )

    async def _death_of(self, places: list[Place]) -> Failure | None:
        """How the process ends that maps these records alone; None if it does not. Raises _Ended."""
        failure = (await self._try(only(self._split, places))).failure
        if failure is not None and not failure.rule.ends_process:
            raise _Ended(failure)
        return failure

    async def _try(self, split: Split) -> Outcome:
        return await self._run_once(msgspec.structs.replace(self._task, split=split, started=self._started))

    async def _count_known(self) -> int:
        return len(await asyncio.to_thread(read_known, self._known_bad))


def _replace_directory(old: Path, new: Path) -> None:
    shutil.rmtree(old, ignore_errors=True)
    new.mkdir()
