"""Prepares an attempt whose claim was granted: the job's spec, its code, a reducer's inputs."""

import asyncio
import logging
from collections.abc import Awaitable
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec

from mr.error_text import error_text
from mr.errors import BadJob, BadMessage, MrError
from mr.ports.code import CodeStore
from mr.ports.jobs import JobStore
from mr.protocol.claims import Placement
from mr.protocol.failures import Failure, FailureKind
from mr.protocol.ids import JobId, TaskKind, task_kind
from mr.protocol.jobs import JobSpec
from mr.protocol.locations import PackedOutputs
from mr.settings import Settings
from mr.workers.daemon.claimed_attempt import HeldAttempt
from mr.workers.daemon.spool import Spool
from mr.workers.messages import RunTask, WorkerIdentity

T = TypeVar("T")

log = logging.getLogger(__name__)


class Unprepared(MrError):
    """An attempt cannot be started on this worker now."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class _Job:
    """A job's spec, fetched once."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.spec: JobSpec | None = None


class InputStore(JobStore, CodeStore, Protocol):
    """What an attempt needs before it can start: the job's spec, its code, where the map outputs lie."""


class Preparation:
    """Makes the RunTask of an attempt; keeps specs and unpacked code for as long as their jobs last."""

    def __init__(self, store: InputStore, spool: Spool, settings: Settings, identity: WorkerIdentity) -> None:
        self._store = store
        self._spool = spool
        self._identity = identity
        # User code must not see the passwords of the servers.
        self._settings = msgspec.structs.replace(settings, broker_url="", redis_url="")
        self._jobs: dict[JobId, _Job] = {}

    async def run_task(self, attempt: HeldAttempt) -> RunTask | None:
        """Prepare an attempt. None: its job is over. Raises Unprepared."""
        spec = await self._job_spec(attempt.id.job, attempt.resumed)
        if spec is None:
            return None
        outputs = PackedOutputs()
        if task_kind(attempt.id.task) is TaskKind.REDUCE:
            outputs = await self._map_outputs(spec)
        try:
            work_dir = await asyncio.to_thread(self._spool.make_attempt, attempt.id)
        except OSError as error:
            raise _no_disk(self._spool.directory, error) from error
        return RunTask(
            spec=spec,
            attempt=attempt.id,
            identity=self._identity,
            code_dir=str(self._spool.code_dir(attempt.id.job, spec.code)),
            work_dir=str(work_dir),
            settings=self._settings,
            split=attempt.split,
            map_outputs=outputs,
        )

    async def look_again(self, job: JobId, failure: Failure) -> Failure:
        """Remove lost inputs that are elsewhere by now: the next attempt finds them there."""
        try:
            outputs = await asyncio.to_thread((await self._store.map_outputs(job)).unpack, job)
        except BadMessage as error:
            log.warning("job %s: where its lost inputs are now is not known: %s", job, error)
            return failure
        recorded = {(output.attempt.task, output.placement) for output in outputs}
        lost = tuple(
            item
            for item in failure.lost
            if (item.task_id, Placement(item.attempt, item.incarnation)) in recorded
        )
        return msgspec.structs.replace(failure, lost=lost)

    def forget(self, job: JobId) -> None:
        """Drop what is known of a job that is over."""
        self._jobs.pop(job, None)

    async def _job_spec(self, job: JobId, resumed: int) -> JobSpec | None:
        """The spec, once its code is unpacked; attempts of one job wait for the first.

        None if the job is over, or was resumed since: the attempt is then one of the time before.
        """
        known = self._jobs.setdefault(job, _Job())
        async with known.lock:
            spec = known.spec
            if spec is None or spec.resumed < resumed or not await self._has_code(spec):
                spec = await _readable(self._store.get_spec(job))
                if spec is None:
                    self._jobs.pop(job, None)
                    record = await _readable(self._store.get_job(job))
                    if record is None or not record.state.terminal:
                        raise _forgotten(job)
                    return None
                await self._unpack(spec)
                known.spec = spec
        return spec if spec.resumed == resumed else None

    async def _has_code(self, spec: JobSpec) -> bool:
        return await asyncio.to_thread(self._spool.has_code, spec.job_id, spec.code)

    async def _unpack(self, spec: JobSpec) -> None:
        bundle = await self._code(spec)
        try:
            await asyncio.to_thread(self._spool.unpack_code, spec.job_id, spec.code, bundle)
        except BadJob as error:
            raise Unprepared(Failure(FailureKind.BAD_JOB, str(error))) from error
        except OSError as error:
            raise _no_disk(self._spool.code_dir(spec.job_id, spec.code), error) from error

    async def _code(self, spec: JobSpec) -> bytes:
        """A job's bundle. Raises Unprepared: for good only if the store has the job but not its code.

        An emptied store is given the code back before the job, so code that is missing while the job is there
        is asked for once more.
        """
        for _ in range(2):
            bundle = await self._store.get_code(spec.code_id)
            if bundle is not None:
                return bundle
            if await _readable(self._store.get_spec(spec.job_id)) is None:
                raise _forgotten(spec.job_id)
        missing = f"the store has no code {spec.code_id[:19]}...; submit the job again"
        raise Unprepared(Failure(FailureKind.BAD_JOB, missing))

    async def _map_outputs(self, spec: JobSpec) -> PackedOutputs:
        outputs = await _readable(self._store.map_outputs(spec.job_id))
        if outputs.count < spec.maps:
            missing = spec.maps - outputs.count
            raise Unprepared(
                Failure(FailureKind.INPUT_LOST, f"{missing} of {spec.maps} map outputs are being made again")
            )
        return outputs


async def _readable(read: Awaitable[T]) -> T:
    """What the store has. Raises Unprepared if another version wrote it: workers of that one may read it."""
    try:
        return await read
    except BadMessage as error:
        raise Unprepared(Failure(FailureKind.INFRASTRUCTURE, str(error))) from error


def _forgotten(job: JobId) -> Unprepared:
    """The store was emptied under a running job: the coordinator writes it back, and the task runs then."""
    return Unprepared(Failure(FailureKind.INFRASTRUCTURE, f"the store had lost job {job} for a moment"))


def _no_disk(path: Path, error: OSError) -> Unprepared:
    return Unprepared(
        Failure(FailureKind.INFRASTRUCTURE, f"the spool {path} cannot be written: {error_text(error)}")
    )
