"""The coordinator over memory ports: it leads alone, refills an emptied store, and takes over."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from mr.adapters.memory.broker import MemoryBroker
from mr.adapters.memory.exchange import MemoryBrokerServer
from mr.adapters.memory.state import MemoryStoreServer
from mr.adapters.memory.store import MemoryStore
from mr.bundle import build_bundle
from mr.coordinator.service import _Standby, run_coordinator
from mr.ports.broker import Delivery, OutgoingMessage
from mr.ports.store import StateStore
from mr.protocol.codec import JSON, MAX_REPORT_BYTES, decode, encode
from mr.protocol.failures import Failure, FailureKind
from mr.protocol.ids import AttemptId, CodeId, Incarnation, JobId, TaskId, WorkerId
from mr.protocol.jobs import JobRequest, RequestReply
from mr.protocol.messages import TaskFailed
from mr.protocol.queues import DEAD_QUEUE, JOBS_QUEUE, REPORTS_QUEUE, coordinator_queue
from mr.protocol.records import JobState, RestoredJob, Transition
from mr.settings import Settings
from tests.support.specs import make_manifest
from tests.support.waiting import eventually

SETTINGS = Settings(lease_seconds=0.3, heartbeat_seconds=0.1, tick_seconds=0.02)
JOB = JobId("one")
CANCEL = OutgoingMessage(
    routing_key=JOBS_QUEUE, body=b'{"version":1,"job_id":"one"}', content_type=JSON, type="cancel"
)


class WatchedStore(MemoryStore):
    """Counts how often a coordinator without the lead has looked, and can hold up renewals of the lead."""

    looks = 0
    #: How often it has looked who leads.
    leader_looks = 0

    def __init__(self, now: Callable[[], float], server: MemoryStoreServer) -> None:
        super().__init__(now, server)
        self.may_renew = asyncio.Event()
        self.may_renew.set()

    async def leader(self) -> str | None:
        self.leader_looks += 1
        return await super().leader()

    async def renew_lead(self, holder: str, lease_seconds: float) -> bool:
        await self.may_renew.wait()
        return await super().renew_lead(holder, lease_seconds)

    async def last_epoch(self) -> int:
        epoch = await super().last_epoch()
        self.looks += epoch > 0
        return epoch


async def _ignore(delivery: Delivery) -> None:
    await delivery.ack()


class Site:
    """One broker, one store, and as many coordinators as a test wants."""

    def __init__(self, tmp_path: Path) -> None:
        self.tmp_path = tmp_path
        self.brokers = MemoryBrokerServer()
        self.stores = MemoryStoreServer()
        self.broker = MemoryBroker(self.brokers)
        self.store: StateStore = self.new_store()

    def new_store(self) -> WatchedStore:
        return WatchedStore(asyncio.get_running_loop().time, self.stores)

    @asynccontextmanager
    async def coordinator(self, settings: Settings = SETTINGS) -> AsyncIterator[WatchedStore]:
        broker, store, stop = MemoryBroker(self.brokers), self.new_store(), asyncio.Event()
        await broker.connect()
        await store.connect()
        task = asyncio.create_task(run_coordinator(settings, broker, store, stop=stop))
        try:
            yield store
        finally:
            stop.set()
            await task
            await broker.close()

    async def usurp(self, lease_seconds: float, *, listened: bool = True) -> None:
        """Take the lead away from whoever has it."""
        await eventually(lambda: self.nobody_listens() is not listened)
        await self.broker.subscribe("", "", _ignore, name=coordinator_queue("usurper"))
        self.stores.leader = None
        assert await self.store.acquire_lead("usurper", lease_seconds, 0) is not None

    def nobody_listens(self) -> bool:
        return not any(self.brokers.queues[name].consumers for name in (REPORTS_QUEUE, JOBS_QUEUE))

    async def submit(self) -> None:
        message = await self.request()
        reply = decode(await self.broker.request(message, timeout_seconds=30), RequestReply, JSON)
        assert reply.accepted, reply.reason

    async def request(self, job_id: str = JOB, output: str = "out") -> OutgoingMessage:
        """Register a job; the message that asks for it."""
        job_file = self.tmp_path / "count.py"
        job_file.write_text("def map_fn(k, v):\n    yield v, 1\n")
        (self.tmp_path / "in.txt").write_text("a\n")
        bundle = build_bundle(job_file, ())
        manifest = make_manifest(bundle.code_id, ("map_fn",), entry=bundle.entry)
        await self.store.put_code(CodeId(bundle.code_id), bundle.data, manifest, 3600.0)
        await self.store.register("count", manifest, 3600.0)
        request = JobRequest(
            version=1,
            job="count",
            inputs=[str(self.tmp_path / "in.txt")],
            output=str(self.tmp_path / output),
            job_id=job_id,
        )
        return OutgoingMessage(routing_key=JOBS_QUEUE, body=msgspec.json.encode(request), content_type=JSON)


@pytest.fixture
async def site(tmp_path: Path) -> Site:
    site = Site(tmp_path)
    await site.broker.connect()
    await site.store.connect()
    return site


async def test_an_emptied_store_is_refilled_even_where_a_record_came_first(site: Site) -> None:
    async with site.coordinator():
        await site.submit()
        record = await site.store.get_job(JOB)
        assert record is not None
        codes = list(site.stores.code)
        site.stores.flush()
        await site.store.save_job(record, (), epoch=1)
        await eventually(lambda: site.store.get_spec(JOB))
        assert list(site.stores.code) == codes


async def test_a_standby_goes_on_where_the_job_stood(site: Site) -> None:
    async with site.coordinator():
        await site.submit()
    async with site.coordinator():
        await site.broker.request(CANCEL, timeout_seconds=30)
    record = await site.store.get_job(JOB)
    assert record is not None and record.state is JobState.CANCELLED
    assert site.stores.epoch == 2


async def test_output_of_a_cancelled_job_is_cleared_at_the_next_start(site: Site) -> None:
    async with site.coordinator():
        await site.submit()
    owned = site.tmp_path / "out" / "_temporary" / JOB
    record = await site.store.get_job(JOB)
    assert record is not None and owned.is_dir()
    cancelled = msgspec.structs.replace(record, state=JobState.CANCELLED)
    await site.store.end_job(cancelled, (), epoch=1, history_seconds=60)
    async with site.coordinator():
        await eventually(lambda: not (site.tmp_path / "out").exists())


async def test_jobs_that_ended_long_ago_are_let_go_and_not_looked_at(site: Site) -> None:
    async with site.coordinator():
        await site.submit()
    record = await site.store.get_job(JOB)
    assert record is not None
    ended = Transition(JobState.CANCELLED, record.history[-1].at - 2 * 86400.0, "cancelled")
    cancelled = msgspec.structs.replace(record, state=JobState.CANCELLED, history=(*record.history, ended))
    await site.store.end_job(cancelled, (), epoch=1, history_seconds=60.0)
    async with site.coordinator():
        await site.broker.request(CANCEL, timeout_seconds=30)
    assert (site.tmp_path / "out" / "_temporary" / JOB).is_dir()
    assert JOB in site.stores.jobs
    site.stores.jobs[JOB].expires_at = 0.0
    async with site.coordinator():
        await eventually(lambda: not site.stores.jobs)


async def test_a_report_that_cannot_be_read_is_kept(site: Site) -> None:
    kept: asyncio.Queue[Delivery] = asyncio.Queue()
    await site.broker.consume(DEAD_QUEUE, kept.put, prefetch=1)
    async with site.coordinator():
        await site.broker.publish(OutgoingMessage(routing_key=REPORTS_QUEUE, body=b"\xc1"))
        assert (await kept.get()).body == b"\xc1"
        await site.submit()


async def test_a_report_that_is_too_large_is_not_taken_in(site: Site) -> None:
    """A coordinator holds many at a time: their number times this size is what they take of its memory."""
    kept: asyncio.Queue[Delivery] = asyncio.Queue()
    await site.broker.consume(DEAD_QUEUE, kept.put, prefetch=1)
    failure = Failure(FailureKind.USER_ERROR, "m" * MAX_REPORT_BYTES)
    report = TaskFailed(AttemptId(JOB, TaskId("map-00000"), 1), WorkerId("w1"), Incarnation("i1"), failure)
    async with site.coordinator():
        await site.broker.publish(OutgoingMessage(routing_key=REPORTS_QUEUE, body=encode(report)))
        assert len((await kept.get()).body) < MAX_REPORT_BYTES
        await site.submit()


@pytest.mark.fault(
    fault="Redis back to an older state",
    phase="while another coordinator stands by",
    outcome="the leader leads again, although its lease had run out in what came back, and writes it anew",
)
async def test_a_standby_leaves_the_lead_to_who_had_it_when_the_store_lost_it(site: Site) -> None:
    """What came back may be older than the lease. Only who led knows what is lost."""
    patient = msgspec.structs.replace(SETTINGS, lease_seconds=6.0)
    async with site.coordinator(patient) as leading:
        await site.submit()
        leader = await site.store.leader()
        async with site.coordinator(patient) as standby:
            await eventually(lambda: standby.leader_looks)
            leading.may_renew.clear()
            site.stores.flush()
            site.stores.epoch = 1
            looked = standby.leader_looks
            await eventually(lambda: standby.leader_looks >= looked + 2)
            leading.may_renew.set()
            await eventually(lambda: site.store.leader())
            assert await site.store.leader() == leader
            await eventually(lambda: site.store.get_spec(JOB))


async def test_a_standby_leads_when_who_had_the_lead_stays_silent(site: Site) -> None:
    async with site.coordinator() as leading:
        await site.submit()
        leader = await site.store.leader()
        async with site.coordinator() as standby:
            await eventually(lambda: standby.leader_looks)
            leading.may_renew.clear()
            await eventually(lambda: site.stores.epoch == 2)
            assert await site.store.leader() not in (leader, None)
            leading.may_renew.set()


async def test_a_deposed_coordinator_leaves_reports_and_requests_to_its_successor(site: Site) -> None:
    async with site.coordinator():
        await site.usurp(lease_seconds=1.0)
        await eventually(site.nobody_listens)
        async with site.coordinator():
            await site.submit()


async def test_a_deposed_coordinator_creates_no_job(site: Site) -> None:
    async with site.coordinator():
        request = await site.request()
        await site.usurp(lease_seconds=60.0)
        await site.broker.publish(request)
        await eventually(site.nobody_listens)
        assert (await site.broker.depth(JOBS_QUEUE)).ready == 1
        assert not site.stores.jobs


async def test_an_emptied_store_is_left_to_the_one_who_led(site: Site) -> None:
    async with site.coordinator():
        await site.submit()
        async with site.coordinator() as standby:
            await eventually(lambda: standby.looks > 1)
            site.stores.flush()
            await eventually(lambda: site.store.get_spec(JOB))
            assert site.stores.epoch == 2


async def test_an_emptied_store_is_led_by_a_standby_when_nobody_else_does(site: Site) -> None:
    await site.usurp(lease_seconds=60.0, listened=False)
    async with site.coordinator() as standby:
        await eventually(lambda: standby.looks > 1)
        site.stores.flush()
        await site.submit()
        assert site.stores.epoch == 2


async def test_a_lead_that_another_had_meanwhile_is_begun_anew(site: Site) -> None:
    async with site.coordinator():
        await site.submit()
        record = await site.store.get_job(JOB)
        assert record is not None
        await site.usurp(lease_seconds=0.0)
        cancelled = msgspec.structs.replace(record, state=JobState.CANCELLED)
        await site.store.end_job(cancelled, (), epoch=2, history_seconds=60)
        await eventually(lambda: site.stores.epoch == 4)
        answer = await site.broker.request(CANCEL, timeout_seconds=30)
        assert b"has ended" in answer


async def test_more_jobs_than_events_may_wait_are_taken_over(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with site.coordinator():
        await site.submit()
    (one,) = await site.store.restore(1)
    assert isinstance(one, RestoredJob)
    for number in range(5):
        name = JobId(f"more-{number}")
        spec, record = (msgspec.structs.replace(item, job_id=name) for item in (one.spec, one.record))
        await site.store.create_job(spec, one.splits, record, 1)
    monkeypatch.setattr("mr.coordinator.runner.BATCH_EVENTS", 1)
    async with site.coordinator():
        await site.broker.request(CANCEL, timeout_seconds=30)


async def test_an_accepted_job_keeps_its_code_from_expiring(site: Site) -> None:
    request = await site.request()
    (code,) = site.stores.code.values()
    put_until = code.expires_at
    async with site.coordinator():
        await site.broker.request(request, timeout_seconds=30)
        assert code.expires_at > put_until + SETTINGS.history_seconds / 2


async def test_an_unfinished_job_keeps_its_code_from_expiring(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with site.coordinator():
        await site.submit()
    (code,) = site.stores.code.values()
    code.names.clear()
    code.expires_at = until = asyncio.get_running_loop().time() + 60.0
    async with site.coordinator():
        await eventually(lambda: code.expires_at > until)
    monkeypatch.setattr(Settings, "code_seconds", 0.2)
    async with site.coordinator():
        await eventually(lambda: not site.nobody_listens())
        site.stores.code.clear()
        (code,) = await eventually(lambda: tuple(site.stores.code.values()))
        for _ in range(3):
            until = code.expires_at
            await eventually(lambda until=until: code.expires_at > until)  # type: ignore[misc]


@pytest.mark.parametrize("spoilt", ["record", "task"])
async def test_a_job_that_cannot_be_read_fails_and_harms_no_other(site: Site, spoilt: str) -> None:
    async with site.coordinator():
        await site.submit()
    (one,) = await site.store.restore(1)
    assert isinstance(one, RestoredJob)
    name = JobId("other")
    spec, record = (msgspec.structs.replace(item, job_id=name) for item in (one.spec, one.record))
    await site.store.create_job(spec, one.splits, record, 1)
    if spoilt == "record":
        site.stores.jobs[name].record = b"\xc1"
    else:
        site.stores.jobs[name].tasks[TaskId("map-00000")] = b"\xc1"
    async with site.coordinator():
        body = CANCEL.body.replace(b'"one"', b'"other"')
        answer = await site.broker.request(msgspec.structs.replace(CANCEL, body=body), timeout_seconds=30)
        assert not decode(answer, RequestReply, JSON).accepted
        ended = await site.store.get_job(name)
        assert ended is not None and ended.state is JobState.FAILED and "cannot be read" in ended.cause
        assert ended.output == ("" if spoilt == "record" else one.spec.output)
        answer = await site.broker.request(CANCEL, timeout_seconds=30)
        assert b'"accepted":true' in answer
    assert (await site.broker.depth(DEAD_QUEUE)).ready == 0
    assert await site.store.restore(9) == []


async def test_a_lead_whose_holder_is_gone_is_taken_over_before_its_lease_ends(site: Site) -> None:
    assert await site.store.acquire_lead("ghost", 3600.0, 0) == 1
    async with site.coordinator():
        await site.submit()
    assert site.stores.epoch == 2


async def test_a_lead_whose_record_is_spoilt_is_taken_over(site: Site) -> None:
    assert await site.store.acquire_lead("9" * 400, 3600.0, 0) == 1
    async with site.coordinator():
        await site.submit()
    assert site.stores.epoch == 2


async def test_a_leader_that_lost_its_connection_for_a_moment_stays(site: Site) -> None:
    standby, stop = _Standby(SETTINGS, site.broker, site.store), asyncio.Event()
    assert await site.store.acquire_lead("leader", 3600.0, 0) == 1
    for _ in range(3):
        await standby.wait(stop)
        presence = await site.broker.subscribe("", "", _ignore, name=coordinator_queue("leader"))
        await standby.wait(stop)
        await presence.cancel()
    assert await site.store.leader() == "leader"
    await standby.wait(stop)
    await standby.wait(stop)
    assert await site.store.leader() is None
