"""Those who submit jobs and cancel them: they ask until they get an answer."""

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

import msgspec

from mr.errors import BrokerUnavailable
from mr.ports.broker import OutgoingMessage
from mr.protocol.codec import JSON, decode, encode
from mr.protocol.ids import CodeId, JobId
from mr.protocol.jobs import CancelRequest, JobRequest, RequestReply
from mr.protocol.queues import JOBS_QUEUE
from tests.simulation.data import SimulatedJob
from tests.simulation.loop import Life
from tests.support.specs import CODE, CODE_ID, make_manifest

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster

ANSWER_SECONDS = 10.0
#: Reasons for a refusal that are worth another try.
_PASSING = ("no code", "the file system is away")


class SimulatedClient:
    """One who owns jobs."""

    def __init__(self, cluster: "Cluster") -> None:
        self._cluster = cluster
        self._world = cluster.world
        self._life = Life(self._world.loop, "client")
        links = cluster.links("client")
        self._broker = cluster.broker(self._life, links[1])
        self._store = cluster.store.connect(links[0], "client")
        #: Jobs of which the owner knows that they were accepted.
        self.accepted: set[JobId] = set()

    def own(self, job: SimulatedJob, submit_after: float, cancel_after: int | None, *, twice: bool) -> None:
        """Submit a job after some seconds, perhaps cancel it after some commits, perhaps use its id again."""
        self._life.start(self._noting(self._submit(job, submit_after, twice=twice)), "a submission")
        if cancel_after is not None:
            job.cancelled = True
            self._life.start(self._noting(self._cancel(job, cancel_after)), "a cancellation")

    async def _noting(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001 (whatever it is, it fails the simulation)
            self._cluster.fail(f"a client: {error!r}", error)

    async def _submit(self, job: SimulatedJob, seconds: float, *, twice: bool) -> None:
        await self._broker.connect()
        await self._store.connect()
        await asyncio.sleep(seconds)
        reply = await self._ask(job.request)
        self._world.say(f"client: {job.id} is accepted{', again' if reply.duplicate else ''}")
        self.accepted.add(job.id)
        if not twice:
            return
        again = await self._ask(job.request)
        assert again.accepted, f"the same request was refused: {again.reason}"
        other = msgspec.structs.replace(job.request, output=job.request.output + "-other")
        refused = await self._ask_once(other)
        if refused is not None:
            self._world.say(f"client: another request under {job.id}: {refused.reason}")
            assert not refused.accepted, f"another request under the id {job.id} was accepted"

    async def _ask(self, request: JobRequest) -> RequestReply:
        while True:
            reply = await self._ask_once(request)
            if reply is not None and reply.accepted:
                return reply
            if reply is not None:
                passing = any(words in (reply.reason or "") for words in _PASSING)
                assert passing, f"{request.job_id} was refused: {reply.reason}"
            await asyncio.sleep(1.0)

    async def _ask_once(self, request: JobRequest) -> RequestReply | None:
        await self._store.put_code(CodeId(CODE_ID), CODE, make_manifest(), 1e6)
        return await self._request(encode(request, JSON), "")

    async def _request(self, body: bytes, kind: str) -> RequestReply | None:
        message = OutgoingMessage(routing_key=JOBS_QUEUE, body=body, content_type=JSON, type=kind)
        try:
            answer = await self._broker.request(message, timeout_seconds=ANSWER_SECONDS)
        except BrokerUnavailable:
            return None
        return decode(answer, RequestReply, JSON)

    async def _cancel(self, job: SimulatedJob, commits: int) -> None:
        while self._cluster.store.commits[job.id] < commits:
            if job.id in self._cluster.store.ended:
                return
            await asyncio.sleep(0.25)
        await asyncio.sleep(self._world.delay(0.3))
        self._world.say(f"client: cancels {job.id}")
        while True:
            request = CancelRequest(version=1, job_id=job.id)
            reply = await self._request(encode(request, JSON), "cancel")
            if reply is not None and (reply.accepted or job.id in self._cluster.store.ended):
                return
            await asyncio.sleep(1.0)
