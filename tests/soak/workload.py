"""The jobs of the soak: submitted, sometimes cancelled, awaited, and held to what their embedded run gave."""

import asyncio
import random
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from mr.client import Client
from mr.errors import BadJob, MrError
from mr.protocol.ids import JobId
from mr.protocol.jobs import REQUEST_VERSION, JobRequest
from mr.protocol.records import JobRecord, JobState
from tests.soak.kinds import Prepared, Result
from tests.soak.site import Site, everything_below
from tests.soak.tally import Tally

JOBS_AT_ONCE = 4
CANCELLED_SHARE = 0.12
MOST_SECONDS_BEFORE_CANCEL = 3.0
#: Between two looks at a job.
LOOK_SECONDS = 0.25
#: How long a coordinator may leave a request unanswered before it is sent again.
ANSWER_SECONDS = 15.0
#: No job takes as long: one that does hangs.
JOB_SECONDS = 600.0
#: A record may be away from a store that was emptied.
AWAY_SECONDS = 60.0
#: When the last file of an ended job must have gone from the spools: a frozen worker deletes when it goes on.
CLEAN_SECONDS = 90.0
#: Failed attempts are the soak's own work: no number of them may fail a job.
MANY_ATTEMPTS = 100


@dataclass(frozen=True)
class Draw:
    """What chance decides of one job."""

    number: int
    prepared: Prepared
    priority: int
    pause: float
    #: Seconds from its acceptance to its cancel; None = it is not cancelled.
    cancel_after: float | None

    @property
    def job(self) -> JobId:
        """Its id."""
        return JobId(f"{self.prepared.kind.name}-{self.number}")


class Workload:
    """Keeps JOBS_AT_ONCE jobs on their way."""

    def __init__(
        self, site: Site, client: Client, kinds: Sequence[Prepared], tally: Tally, seed: str
    ) -> None:
        self._site = site
        self._client = client
        self._kinds = kinds
        self._tally = tally
        self._chance = random.Random(f"{seed}/jobs")
        self._outputs = site.directory / "outputs"
        self._marks = site.directory / "marks"
        for directory in (self._outputs, self._marks):
            directory.mkdir()
        #: Jobs of which a coordinator has said that they are cancelled.
        self._cancelled: set[JobId] = set()

    async def run(self, until: float) -> None:
        """Start jobs until `until` (monotonic), and follow all to their ends."""
        running: set[asyncio.Task[None]] = set()
        cleaning: set[asyncio.Task[None]] = set()
        number = 0
        try:
            while time.monotonic() < until or running:
                while len(running) < JOBS_AT_ONCE and time.monotonic() < until:
                    number += 1
                    running.add(asyncio.create_task(self._follow(self._draw(number), cleaning)))
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
                for task in [task for task in cleaning if task.done()]:
                    cleaning.remove(task)
                    task.result()
            await asyncio.gather(*cleaning)
        finally:
            for task in running | cleaning:
                task.cancel()
            await asyncio.gather(*running, *cleaning, return_exceptions=True)

    def _draw(self, number: int) -> Draw:
        weights = [prepared.kind.weight for prepared in self._kinds]
        (prepared,) = self._chance.choices(self._kinds, weights)
        priority = self._chance.choice((0, 1, 2, 2, 2, 3, 4))
        pause = self._chance.uniform(0, prepared.kind.most_pause)
        cancelled, after = self._chance.random(), self._chance.uniform(0, MOST_SECONDS_BEFORE_CANCEL)
        return Draw(number, prepared, priority, pause, after if cancelled < CANCELLED_SHARE else None)

    async def _follow(self, draw: Draw, cleaning: set[asyncio.Task[None]]) -> None:
        """One job from its request to the look at what it left."""
        output = self._outputs / draw.job
        self._tally.note(
            f"job {draw.job} priority {draw.priority}" + (", to be cancelled" if draw.cancel_after else "")
        )
        began = time.monotonic()
        try:
            async with asyncio.timeout(JOB_SECONDS):
                if not await self._submit(draw, output):
                    return
                record = await self._end(draw)
        except TimeoutError:
            await self._hung(draw)
            return
        if record is None:
            self._tally.defect("lost", f"{draw.job} was accepted, and the store knows it no more")
            return
        self._tally.note(f"job {draw.job} is {record.state}")
        if record.state is JobState.COMPLETED:
            self._tally.seconds.append(time.monotonic() - began)
        await self._count(record)
        problems = await asyncio.to_thread(lambda: list(self._judge(draw, record, output)))
        for kind, text in problems:
            self._tally.defect(kind, f"{draw.job} is {record.state}: {text}; see {output}")
        if not problems:
            await asyncio.to_thread(shutil.rmtree, output, ignore_errors=True)
            (self._marks / draw.job).unlink(missing_ok=True)
        cleaning.add(asyncio.create_task(self._expect_clean(draw)))

    async def _submit(self, draw: Draw, output: Path) -> bool:
        """Hand it over, again and again while a fault is in the way; False when it is refused."""
        prepared = draw.prepared
        params = {**prepared.kind.params, "pause": f"{draw.pause:.3f}"}
        if prepared.kind.marked:
            params["mark"] = str(self._marks / draw.job)
        raw = {
            "version": REQUEST_VERSION,
            "job": prepared.bundle.code_id,
            "job_id": draw.job,
            "inputs": [str(prepared.source)],
            "output": str(output),
            "priority": draw.priority,
            "max_attempts": 2 if prepared.kind.fails else MANY_ATTEMPTS,
            "params": params,
            **prepared.kind.options,
        }
        request = msgspec.convert(raw, JobRequest)
        while True:
            try:
                await self._client.upload(prepared.bundle, prepared.manifest)
                await self._client.submit(request, timeout_seconds=ANSWER_SECONDS)
                return True
            except BadJob as error:
                # Redis may have lost the code between the upload and the coordinator's look at it.
                if "code" not in str(error):
                    self._tally.defect("FAILED", f"{draw.job} was refused: {error}")
                    return False
            except MrError as error:
                self._tally.note(f"job {draw.job} is not accepted yet: {error}")
            await asyncio.sleep(LOOK_SECONDS)

    async def _end(self, draw: Draw) -> JobRecord | None:
        """Wait until it has ended, having cancelled it if it is to be; None when the store has lost it."""
        cancelling = asyncio.create_task(self._cancel(draw))
        seen = time.monotonic()
        try:
            while time.monotonic() - seen < AWAY_SECONDS:
                try:
                    record = await self._client.store.get_job(draw.job)
                except MrError:
                    seen = time.monotonic()
                    continue
                if record is not None:
                    seen = time.monotonic()
                    if record.state.terminal:
                        return record
                await asyncio.sleep(LOOK_SECONDS)
            return None
        finally:
            cancelling.cancel()
            await asyncio.gather(cancelling, return_exceptions=True)

    async def _cancel(self, draw: Draw) -> None:
        if draw.cancel_after is None:
            return
        await asyncio.sleep(draw.cancel_after)
        while True:
            try:
                await self._client.cancel(draw.job, timeout_seconds=ANSWER_SECONDS)
                self._cancelled.add(draw.job)
                return
            except BadJob:
                # It ended before, or it is away from the store for the moment.
                await asyncio.sleep(1)
            except MrError:
                await asyncio.sleep(LOOK_SECONDS)

    async def _count(self, record: JobRecord) -> None:
        self._tally.jobs[record.state.lower()] += 1
        self._tally.tasks += record.maps + record.reduces
        try:
            views = await self._client.tasks(record.job_id)
        except MrError:
            return
        self._tally.reruns += sum(view.record.losses + view.record.failures for view in views)

    def _judge(self, draw: Draw, record: JobRecord, output: Path) -> Iterator[tuple[str, str]]:
        """Hold an ended job to what it must have left; gives kind and text of each defect."""
        expected = draw.prepared.expected
        if record.state is JobState.COMPLETED:
            if expected is None:
                yield "wrong end", "it has to fail"
            elif draw.job in self._cancelled:
                yield "wrong end", "its cancel was accepted"
            else:
                yield from compare(Result.read(output), expected)
                if left := set(_files(output)) - {"_SUCCESS", *expected.parts}:
                    yield "left behind", f"OUT holds {sorted(left)[:5]}"
            return
        if record.state is JobState.FAILED and expected is not None:
            yield "FAILED", f"{record.cause}; {record.failures}"
        elif record.state is JobState.CANCELLED and draw.cancel_after is None:
            yield "wrong end", "nobody asked for it"
        # Its end is in the store before its last file is gone.
        deadline = time.monotonic() + CLEAN_SECONDS
        while (left := set(_files(output))) and time.monotonic() < deadline:
            time.sleep(LOOK_SECONDS)
        if left:
            yield "left behind", f"OUT holds {sorted(left)[:5]}"

    async def _expect_clean(self, draw: Draw) -> None:
        """No worker holds a file of an ended job for long."""
        deadline = time.monotonic() + CLEAN_SECONDS
        while left := await asyncio.to_thread(self._site.cluster.job_files, draw.job):
            if time.monotonic() > deadline:
                self._tally.defect("left behind", f"the spools hold files of {draw.job}: {left[:5]}")
                return
            await asyncio.sleep(1)

    async def _hung(self, draw: Draw) -> None:
        self._tally.jobs["hung"] += 1
        cluster = self._site.cluster
        told = []
        for command in (("status", draw.job), ("tasks", draw.job), ("workers",)):
            done = await asyncio.to_thread(cluster.run, *command)
            told.append((done.stdout + done.stderr).decode(errors="replace"))
        logs = [f"--- {name}\n{cluster.log(name)}" for name in cluster.daemons]
        self._tally.defect(
            "hung", f"{draw.job} has not ended after {JOB_SECONDS:.0f} s\n" + "\n".join((*told, *logs))
        )
        await asyncio.to_thread(cluster.run, "cancel", draw.job)


def compare(result: Result, expected: Result) -> Iterator[tuple[str, str]]:
    """Say how a completed job differs from its embedded run, if it does."""
    numbers = {"rows": (result.rows, expected.rows)}
    for name, number in expected.counters.items():
        numbers[name] = (result.counters.get(name, 0), number)
    if any(got < wanted for got, wanted in numbers.values()):
        yield "lost", f"what it has and should have: {numbers}"
    elif any(got > wanted for got, wanted in numbers.values()):
        yield "doubled", f"what it has and should have: {numbers}"
    elif result != expected:
        names = sorted(result.parts.keys() | expected.parts.keys())
        parts = [name for name in names if result.parts.get(name) != expected.parts.get(name)]
        yield "wrong", f"the parts {parts} differ; counters {result.counters} and {expected.counters}"


def _files(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in everything_below(directory))
