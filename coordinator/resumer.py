"""Lets a job that failed or was cancelled go on: what it left is checked, then the job is opened again."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from mr.bundle import check_bundle
from mr.coordinator.core.events import JobRestored
from mr.coordinator.core.resume import Resumption, plan_resume
from mr.coordinator.core.transitions import JobCause
from mr.coordinator.effects import Effects
from mr.coordinator.outputs import Outputs
from mr.coordinator.stored_jobs import StoredJobs
from mr.errors import BadJob, NotFound, OutputExists, StoreBehind
from mr.formats.allowed_paths import AllowedPaths
from mr.formats.output.directory import abandon_output, leave_output, missing_files, retake_output
from mr.guards import FATAL, surviving
from mr.ports.clock import Clock
from mr.ports.store import StateStore
from mr.protocol.codec import check_size
from mr.protocol.ids import CodeId, JobId, TaskId
from mr.protocol.jobs import CodeManifest, RequestReply, ResumeRequest
from mr.protocol.records import JobRecord, JobState, RestoredJob
from mr.settings import Settings

log = logging.getLogger(__name__)


class Resumer:
    """Answers the requests to resume a job, of which one for each job may come at a time.

    `hold_lead` keeps the lead or raises Deposed; `handle` returns when an event's commands are carried out.
    """

    def __init__(
        self,
        settings: Settings,
        store: StateStore,
        clock: Clock,
        effects: Effects,
        outputs: Outputs,
        jobs: StoredJobs,
        hold_lead: Callable[[], Awaitable[None]],
        handle: Callable[[JobRestored], Awaitable[None]],
    ) -> None:
        self._settings = settings
        self._store = store
        self._clock = clock
        self._effects = effects
        self._outputs = outputs
        self._jobs = jobs
        self._hold_lead = hold_lead
        self._handle = handle

    async def resume(self, request: ResumeRequest) -> RequestReply:
        """Resume a job once it is known to be right. A refusal raises BadJob, BadInput or NotFound."""
        job_id = JobId(request.job_id)
        record = await self._store.get_job(job_id)
        if record is None:
            raise NotFound("there is no such job")
        if self._was_resumed(record, request):
            return RequestReply(accepted=True, job_id=job_id, duplicate=True)
        if self._jobs.is_unfinished(job_id) or not record.state.terminal:
            raise BadJob(f"it has not ended: {record.state}")
        if record.state is JobState.COMPLETED:
            raise BadJob("it has completed")
        async with self._outputs.lock(job_id):
            ended = await self._store.ended_job(job_id)
            if ended is None:
                raise BadJob(self._why_gone())
            self._jobs.check_share(ended.spec.sender)
            manifest, bundle = await self._code(request, ended)
            resumption, resumed = await self._open_again(ended, manifest)
            self._jobs.forget_end(job_id)
            with surviving(f"keeping the code of job {job_id}"):
                await self._jobs.take_code(resumed.spec, bundle)
        log.info("job %s %s: %s", job_id, JobCause.RESUMED, resumption.note)
        await self._handle(JobRestored(self._clock.now(), resumed, resumed=True))
        return RequestReply(accepted=True, job_id=job_id, note=resumption.note)

    def _was_resumed(self, record: JobRecord, request: ResumeRequest) -> bool:
        """Whether the same request was carried out before: a message may be delivered twice."""
        if request.resumed is not None:
            return record.resumed > request.resumed
        return record.resumed > 0 and not record.state.terminal

    def _why_gone(self) -> str:
        if self._settings.resume_seconds <= 0:
            return "this cluster keeps nothing of ended jobs (resume_seconds is 0); submit it again"
        hours = self._settings.resume_seconds / 3600
        return f"what a resume needs is kept for {hours:.3g} h (resume_seconds) and is gone; submit it again"

    async def _code(self, request: ResumeRequest, ended: RestoredJob) -> tuple[CodeManifest, bytes]:
        """The code to go on with. Raises NotFound, BadJob, BadMessage."""
        manifest: CodeManifest | None = ended.spec.code
        if request.job is not None:
            manifest = await self._store.registered(request.job)
        bundle = None if manifest is None else await self._store.get_code(CodeId(manifest.code_id))
        if manifest is None or bundle is None:
            raise NotFound(
                f"this store has no code {request.job!r}"
                if request.job
                else "its code is gone; give it again: `mr resume ID --code JOB.py`"
            )
        check_size(bundle, "the bundle", self._settings.max_bundle_bytes)
        await asyncio.to_thread(check_bundle, bundle, CodeId(manifest.code_id), manifest.entry)
        return manifest, bundle

    async def _open_again(self, ended: RestoredJob, manifest: CodeManifest) -> tuple[Resumption, RestoredJob]:
        """Take the output back and open the job in the store; the caller holds the lock of its output.

        If that is refused, what the job left stays as it was.
        """
        spec, now = ended.spec, self._clock.wall()
        AllowedPaths(self._settings).check_output(spec.output)
        plan_resume(ended, manifest, (), now)  # refused before anything is touched
        try:
            missing = await asyncio.to_thread(self._take_output, ended)
            resumption = plan_resume(ended, manifest, missing, now)
            await self._hold_lead()  # the next leader would not learn of a job that a deposed one resumes
            resumed = await self._store.resume_job(resumption.job, resumption.kept, self._effects.epoch)
            if resumed is None:
                raise BadJob(self._why_gone())
        except FATAL:
            raise  # whether the job is open is not known: the next leader sees it, and settles its output
        except Exception as error:
            undo = leave_output if ended.record.kept else abandon_output
            with surviving(f"giving back the output of job {spec.job_id}"):
                await asyncio.to_thread(undo, spec.output, spec.job_id)
            if isinstance(error, StoreBehind):
                raise BadJob("the store has just lost data of it; try again in a moment") from error
            raise
        return resumption, resumed

    def _take_output(self, ended: RestoredJob) -> set[TaskId]:
        """Take the output directory back; returns the tasks whose committed files are gone. Blocks on files.

        Raises BadJob when it is another's by now, OSError.
        """
        spec, record = ended.spec, ended.record
        try:
            retake_output(spec.output, spec.job_id)
        except OutputExists as error:
            raise BadJob(
                f"its output directory is not its own any more, so submit it again with another ({error})"
            ) from error
        damaged = record.history[-1].cause.startswith(JobCause.OUTPUT_FAILED)
        output_format = spec.options.output_format
        return missing_files(spec.output, spec.job_id, ended.results, output_format, read_back=damaged)
