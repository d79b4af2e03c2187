"""The store comes back as it was some time ago while the coordinator lives."""

from collections.abc import Collection

import msgspec
import pytest

from mr.protocol.claims import Verdict
from mr.protocol.ids import Incarnation, JobId, TaskId, WorkerId
from mr.protocol.records import JobState
from tests.support.waiting import eventually
from tests.unit.coordinator.test_service import CANCEL, JOB, SETTINGS, Site
from tests.unit.coordinator.test_service import site as site

MAP = TaskId("map-00000")
ANN, LIFE = WorkerId("ann"), Incarnation("ann-1")


async def state_of(site: Site) -> JobState | None:
    record = await site.store.get_job(JOB)
    return None if record is None else record.state


async def test_a_job_accepted_since_is_written_back_and_may_be_asked_for_again(site: Site) -> None:
    async with site.coordinator():
        request = await site.request()
        older = site.stores.snapshot()
        await site.broker.request(request, timeout_seconds=30)
        site.stores.go_back(older)
        answer = await site.broker.request(request, timeout_seconds=30)
        assert b'"accepted":true' in answer
        spec = await eventually(lambda: site.store.get_spec(JOB))
        assert await eventually(lambda: state_of(site)) is JobState.MAPPING
        answer = await site.broker.request(CANCEL, timeout_seconds=30)
        assert b'"accepted":true' in answer
        assert await state_of(site) is JobState.CANCELLED
        assert spec.job_id == JOB


async def test_a_job_that_ended_since_is_ended_again(site: Site) -> None:
    async with site.coordinator():
        await site.submit()
        older = site.stores.snapshot()
        await site.broker.request(CANCEL, timeout_seconds=30)
        site.stores.go_back(older)
        assert await state_of(site) is JobState.MAPPING

        async def ended() -> bool:
            return await state_of(site) is JobState.CANCELLED

        await eventually(ended)
        claim = await site.store.claim(JOB, MAP, ANN, LIFE, 10.0)
        assert claim.verdict is Verdict.GONE


async def test_a_job_that_ended_is_ended_again_if_the_store_comes_back_older_twice(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with site.coordinator() as store:
        await site.submit()
        older = site.stores.snapshot()
        await site.broker.request(CANCEL, timeout_seconds=30)
        restored: list[int] = []
        restore = store.restore

        async def restore_once_more_older(epoch: int, known: Collection[JobId]) -> object:
            restored.append(epoch)
            if len(restored) == 1:
                assert await state_of(site) is JobState.CANCELLED, "it was ended again by now"
                site.stores.go_back(older)
            return await restore(epoch, known)

        monkeypatch.setattr(store, "restore", restore_once_more_older)
        site.stores.go_back(older)
        await eventually(lambda: restored)

        async def ended() -> bool:
            return await state_of(site) is JobState.CANCELLED

        await eventually(ended)


async def test_numbers_given_since_are_not_given_again_once_it_is_noticed(site: Site) -> None:
    async with site.coordinator() as store:
        await site.submit()
        older = site.stores.snapshot()
        await store.speculate(JOB, [MAP], site.stores.epoch)
        await eventually(lambda: site.stores.jobs[JOB].generation > older.jobs[JOB].generation)
        site.stores.go_back(older)

        async def written_back() -> bool:
            claims = await site.store.claims(JOB)
            return MAP in claims

        await eventually(written_back)
        assert (await site.store.claim(JOB, MAP, ANN, LIFE, 10.0)).attempt > 1


async def test_a_lease_of_one_who_led_before_is_outwaited(site: Site) -> None:
    await site.usurp(lease_seconds=SETTINGS.lease_seconds, listened=False)
    older = site.stores.snapshot()
    site.stores.leader = None
    async with site.coordinator():
        await site.submit()
        assert site.stores.epoch == 2
        older.leader_until += 3600.0  # by a clock that was set back since
        site.stores.go_back(older)
        await eventually(lambda: site.store.get_spec(JOB))
        assert site.stores.epoch == 3
        assert not site.nobody_listens()


async def test_an_epoch_that_was_forgotten_is_given_to_nobody_else(site: Site) -> None:
    async with site.coordinator():
        await site.submit()
        site.stores.epoch = 0  # the leader's lease is still there
        await eventually(lambda: site.stores.epoch == 2)
    assert await site.store.acquire_lead("next", 10.0, 0) == 3


async def test_a_job_that_ended_too_long_ago_to_be_known_is_taken_over(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mr.coordinator.stored_jobs.ENDED_JOBS", 1)
    async with site.coordinator():
        await site.submit()
        older = site.stores.snapshot()
        await site.broker.request(CANCEL, timeout_seconds=30)
        await site.broker.request(await site.request("two", "out-2"), timeout_seconds=30)
        cancel_two = msgspec.structs.replace(CANCEL, body=CANCEL.body.replace(b"one", b"two"))
        await site.broker.request(cancel_two, timeout_seconds=30)
        site.stores.go_back(older)

        async def cancelled() -> bool:
            return b'"accepted":true' in await site.broker.request(CANCEL, timeout_seconds=30)

        await eventually(cancelled)
