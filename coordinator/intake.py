"""Turns requests on `mr.jobs` into accepted jobs, or refuses them with a reason."""

import asyncio
import hashlib
import logging
import secrets
from collections.abc import Awaitable, Callable, Sequence
from weakref import WeakValueDictionary

from mr.bundle import check_bundle
from mr.dead_letters import dead_letter
from mr.error_text import bounded, fault
from mr.errors import BadInput, BadJob, BadMessage, NotFound
from mr.formats.allowed_paths import AllowedPaths
from mr.formats.input.bad_splits import plan_bad_records
from mr.formats.input.files import list_inputs
from mr.formats.input.splits import plan_splits
from mr.formats.output.directory import prepare_output
from mr.formats.registry import require_input, require_output
from mr.guards import FATAL
from mr.ports.broker import Broker, Delivery, OutgoingMessage
from mr.ports.clock import Clock
from mr.ports.store import StateStore
from mr.protocol.codec import JSON, check_size, decode, encode
from mr.protocol.ids import CodeId, JobId
from mr.protocol.jobs import (
    CancelRequest,
    CodeManifest,
    JobRequest,
    JobSpec,
    RequestReply,
    ResumeRequest,
    Split,
)
from mr.protocol.options import ResolvedOptions
from mr.protocol.records import JobRecord, Refusal
from mr.request_summary import differences, request_summary
from mr.resolve import resolve_request, resolve_spec
from mr.settings import Settings

log = logging.getLogger(__name__)

#: AMQP `type` of a request to stop a job; a job request has none.
CANCEL_TYPE = "cancel"
#: AMQP `type` of a request to let a failed or cancelled job go on.
RESUME_TYPE = "resume"
#: AMQP `type` of a request that only asks for an answer.
PING_TYPE = "ping"
_TYPES = (CANCEL_TYPE, RESUME_TYPE, PING_TYPE)
#: Prefix of the job ids that the coordinator makes up, followed by 12 hex digits.
_MADE_ID = "job-"
#: Jobs of identical requests get ids made from a number up to this; further ones get random ids.
_MADE_TRIES = 32
#: Longest reason of a refusal; it may quote what the request holds.
_REASON_CHARACTERS = 10_000
#: Longest reason that is kept in the store.
_TRACE_CHARACTERS = 2000

OnJob = Callable[[JobSpec, tuple[Split, ...], bytes], Awaitable[bool]]
OnCancel = Callable[[JobId, bool], Awaitable[bool]]
OnResume = Callable[[ResumeRequest], Awaitable[RequestReply]]
Known = Callable[[JobId], JobRecord | None]


class Intake:
    """Answers requests. The planning of one never delays another.

    `on_job(spec, splits, bundle)` takes over a planned job and returns when it is in the store, with False if
    the id is taken; `on_cancel(job, keep)` returns False if the job is unknown or has ended;
    `on_resume(request)` raises BadJob, BadInput or NotFound; `check_share(sender)` raises BadJob for a sender
    that has too many unfinished jobs; `known(job)` is the record of a job that is coordinated here or has
    just ended, which the store may have lost for a moment.
    """

    def __init__(
        self,
        settings: Settings,
        broker: Broker,
        store: StateStore,
        clock: Clock,
        on_job: OnJob,
        on_cancel: OnCancel,
        on_resume: OnResume,
        check_share: Callable[[str], None],
        known: Known,
    ) -> None:
        self._settings = settings
        self._broker = broker
        self._store = store
        self._clock = clock
        self._on_job = on_job
        self._on_cancel = on_cancel
        self._on_resume = on_resume
        self._check_share = check_share
        self._known = known
        #: A lock for each id being planned: a repeated request, or its cancellation, waits for the first.
        self._planning: WeakValueDictionary[JobId, asyncio.Lock] = WeakValueDictionary()

    async def on_delivery(self, delivery: Delivery) -> None:
        """Answer one request, then acknowledge it, when the job is stored and the answer published."""
        try:
            if delivery.type == PING_TYPE:
                reply = RequestReply(accepted=True, store=await self._store.identity())
            elif delivery.type == CANCEL_TYPE:
                reply = await self._cancel(decode(delivery.body, CancelRequest, delivery.content_type))
            elif delivery.type == RESUME_TYPE:
                reply = await self._resume(decode(delivery.body, ResumeRequest, delivery.content_type))
            elif delivery.type:
                raise BadMessage(f"its type is {delivery.type[:40]!r}, not {', '.join(_TYPES)} or empty")
            else:
                request = decode(delivery.body, JobRequest, delivery.content_type)
                reply = await self._accept(request, delivery)
        except BadMessage as error:
            reply = _refusal(None, f"the request is malformed: {error}")
            await dead_letter(self._broker, delivery, str(error))
        except FATAL:
            raise
        except Exception as error:
            log.exception("a request cannot be handled")
            reply = _refusal(None, f"the coordinator failed over this request: {fault(error)}")
            await dead_letter(self._broker, delivery, reply.reason or "")
        await self._answer(delivery, reply)
        await delivery.ack()

    async def _accept(self, request: JobRequest, delivery: Delivery) -> RequestReply:
        if request.job_id is not None:
            return await self._answer_for(JobId(request.job_id), request, delivery)
        digest = _digest(delivery)
        async with self._lock(JobId(digest)):
            job_id = await self._made_id(digest, delivery.redelivered)
            return await self._answer_for(job_id, request, delivery)

    async def _made_id(self, digest: str, redelivered: bool) -> JobId:
        """Make the id of a job whose sender chose none: unique, but the same if the message is redelivered.

        Otherwise an output directory made before a crash would belong to no job. A redelivered message may be
        that of a running job; a job that has ended is more likely an earlier, identical request.
        """
        for number in range(_MADE_TRIES):
            job_id = JobId(_MADE_ID + hashlib.sha256(f"{digest}/{number}".encode()).hexdigest()[:12])
            try:
                record = await self._record(job_id)
            except BadMessage:
                continue
            if record is None or (redelivered and not record.state.terminal):
                return job_id
        return JobId(_MADE_ID + secrets.token_hex(6))

    async def _record(self, job_id: JobId) -> JobRecord | None:
        """A job's record; None for an unknown job. Raises BadMessage."""
        return self._known(job_id) or await self._store.get_job(job_id)

    def _lock(self, job_id: JobId) -> asyncio.Lock:
        return self._planning.setdefault(job_id, asyncio.Lock())

    async def _answer_for(self, job_id: JobId, request: JobRequest, delivery: Delivery) -> RequestReply:
        async with self._lock(job_id):
            try:
                reply = await self._plan(job_id, request, delivery.user_id or "")
            except (BadJob, BadInput, NotFound, BadMessage, ValueError, OverflowError, OSError) as error:
                reply = _refusal(job_id, str(error))
                await self._record_refusal(job_id, request, str(error))
        if not reply.accepted:
            log.info("job %s refused: %s", job_id, reply.reason)
        return reply

    async def _record_refusal(self, job_id: JobId, request: JobRequest, reason: str) -> None:
        """Record a refusal for `mr status`: the sender may not have waited for the answer."""
        refusal = Refusal(
            job_id=job_id,
            at=await self._store.server_time(),
            reason=bounded(reason, _TRACE_CHARACTERS),
            request=request_summary(request),
        )
        await self._store.put_refusal(refusal, self._settings.history_seconds)

    async def _existing(self, job_id: JobId, request: JobRequest) -> RequestReply | None:
        """The answer if a job with this id exists, else None. Raises BadJob, BadMessage.

        The same request is accepted again, as who asks may not have heard the first answer. Another one is
        refused: its sender would take the old job's result for its own.
        """
        record = await self._record(job_id)
        if record is None:
            return None
        changed = differences(record.request, request_summary(request)) if record.request else ""
        if changed:
            raise BadJob(
                f"the id {job_id} is that of the job {record.name!r} ({record.state}), which was asked for "
                f"otherwise: {changed}; choose another id"
            )
        return RequestReply(accepted=True, job_id=job_id, duplicate=True)

    async def _plan(self, job_id: JobId, request: JobRequest, sender: str) -> RequestReply:
        """Plan and hand over one job. A refusal raises BadJob, BadInput, NotFound or BadMessage."""
        if (reply := await self._existing(job_id, request)) is not None:
            return reply
        self._check_share(sender)
        manifest = await self._store.registered(request.job)
        bundle = None if manifest is None else await self._store.get_code(CodeId(manifest.code_id))
        if manifest is None or bundle is None:
            raise NotFound(_unknown_code(request.job))
        check_size(bundle, "the bundle", self._settings.max_bundle_bytes)
        await asyncio.to_thread(check_bundle, bundle, CodeId(manifest.code_id), manifest.entry)
        spec, splits, gone = await asyncio.to_thread(
            plan_job, request, manifest, self._settings, job_id, self._clock.wall(), sender
        )
        if not await self._on_job(spec, splits, bundle):
            again = await self._existing(job_id, request)
            return again or RequestReply(accepted=True, job_id=job_id, duplicate=True)
        if not gone:
            return RequestReply(accepted=True, job_id=job_id)
        note = f"what the ended {_jobs(gone)} had left in {spec.output} was removed"
        log.warning("job %s: %s", job_id, note)
        return RequestReply(accepted=True, job_id=job_id, note=note)

    async def _cancel(self, request: CancelRequest) -> RequestReply:
        job_id = JobId(request.job_id)
        async with self._lock(job_id):
            cancelled = await self._on_cancel(job_id, request.keep)
        if cancelled:
            return RequestReply(accepted=True, job_id=job_id)
        try:
            reason = await self._why_not_cancelled(job_id)
        except BadMessage as error:
            return _refusal(job_id, str(error))
        return RequestReply(accepted=False, job_id=job_id, reason=reason)

    async def _resume(self, request: ResumeRequest) -> RequestReply:
        job_id = JobId(request.job_id)
        async with self._lock(job_id):
            try:
                return await self._on_resume(request)
            except (BadJob, BadInput, NotFound, BadMessage, ValueError, OSError) as error:
                log.info("job %s is not resumed: %s", job_id, error)
                return _refusal(job_id, str(error))

    async def _why_not_cancelled(self, job_id: JobId) -> str:
        """Raises BadMessage when the job is not coordinated because what is stored of it cannot be read."""
        record = await self._record(job_id)
        if record is None:
            return "there is no such job"
        if record.state.terminal:
            return f"the job has ended: {record.state}"
        await self._store.get_spec(job_id)
        return "its output is complete and is being finished; it is too late to cancel it"

    async def _answer(self, delivery: Delivery, reply: RequestReply) -> None:
        if delivery.reply_to is None:
            return
        await self._broker.publish(
            OutgoingMessage(
                routing_key=delivery.reply_to,
                body=encode(reply, JSON),
                content_type=JSON,
                persistent=False,
                correlation_id=delivery.correlation_id,
            )
        )


def _unknown_code(job: str) -> str:
    if job.startswith("sha256:"):  # its sender stored it a moment ago, but perhaps elsewhere
        return f"this store has no code {job[:19]!r}...; `mr doctor` tells whether it is the sender's store"
    return f"no job is registered as {job!r}; store its code with `mr register` first"


def _jobs(ids: Sequence[JobId]) -> str:
    return f"{'job' if len(ids) == 1 else 'jobs'} {', '.join(ids)}"


def _digest(delivery: Delivery) -> str:
    """A digest, as 64 hex digits, that is the same if a message is delivered again."""
    stable = (delivery.body, delivery.correlation_id, delivery.reply_to)
    return hashlib.sha256(repr(stable).encode()).hexdigest()


def _refusal(job_id: JobId | None, reason: str) -> RequestReply:
    return RequestReply(accepted=False, job_id=job_id, reason=reason[:_REASON_CHARACTERS])


def plan_job(
    request: JobRequest,
    manifest: CodeManifest,
    settings: Settings,
    job_id: JobId,
    now: float,
    sender: str = "",
) -> tuple[JobSpec, tuple[Split, ...], Sequence[JobId]]:
    """Resolve the options, split the input, make the output directory. Blocks on the file system.

    Returns with the job the ended ones whose leavings in its output directory were removed.

    `now` in seconds since the epoch. Raises BadJob or BadInput with the reason of a refusal.
    """
    options = resolve_request(request, manifest, settings)
    require_input(options.input_format)
    require_output(options.output_format)
    _check_places(request, settings)
    splits = _plan_splits(request, options)
    paths = {piece.path: None for split in splits for piece in split.ranges}
    AllowedPaths(settings).check_inputs(paths)
    spec = resolve_spec(
        request,
        manifest,
        options,
        settings,
        job_id=job_id,
        splits_count=len(splits),
        token=secrets.token_urlsafe(24),
        now=now,
        sender=sender,
    )
    return spec, splits, prepare_output(spec.output, job_id)


def _plan_splits(request: JobRequest, options: ResolvedOptions) -> tuple[Split, ...]:
    """Split the inputs, or make splits of the bad records of other jobs. Raises BadInput."""
    if request.retry_bad:
        return plan_bad_records(
            request.inputs,
            input_format=options.input_format,
            maps=options.maps,
            encoding=options.encoding,
        )
    return plan_splits(
        list_inputs(request.inputs),
        input_format=options.input_format,
        split_bytes=options.split_size,
        maps=options.maps,
        encoding=options.encoding,
    )


def _check_places(request: JobRequest, settings: Settings) -> None:
    """Check that all paths of a request are absolute and allowed. Raises BadJob or BadInput."""
    for path in (*request.inputs, request.output):
        if "://" not in path and not path.startswith("/"):
            raise BadJob(f"{path!r} is a relative path; give an absolute one or a URL, as the workers see it")
    places = AllowedPaths(settings)
    places.check_output(request.output)
    for pattern in request.inputs:
        places.check_pattern(pattern)
