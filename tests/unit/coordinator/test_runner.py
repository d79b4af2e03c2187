"""Keeping the lead: a store that was emptied is led on by the one who led, however many ask at once."""

import asyncio

import pytest

from mr.adapters.memory.broker import MemoryBroker
from mr.adapters.memory.store import MemoryStore
from mr.adapters.system_clock import SystemClock
from mr.coordinator.runner import Runner
from mr.errors import Deposed
from mr.settings import Settings

CALLERS = 9


class SlowStore(MemoryStore):
    """Answers about the lead late, and the newest question first, as a pool of connections may."""

    questions = 0

    async def _dawdle(self) -> None:
        self.questions += 1
        for _ in range(2 * (CALLERS + 1) - self.questions):
            await asyncio.sleep(0)

    async def renew_lead(self, holder: str, lease_seconds: float) -> bool:
        renewed = await super().renew_lead(holder, lease_seconds)
        await self._dawdle()
        return renewed

    async def acquire_lead(self, holder: str, lease_seconds: float, above_epoch: int) -> int | None:
        epoch = await super().acquire_lead(holder, lease_seconds, above_epoch)
        await self._dawdle()
        return epoch


@pytest.fixture
async def store() -> SlowStore:
    store = SlowStore()
    await store.connect()
    return store


async def leading(store: SlowStore) -> Runner:
    """A coordinator that has won the lead."""
    epoch = await store.acquire_lead("first", 60.0, 0)
    assert epoch is not None
    return Runner(Settings(), MemoryBroker(), store, SystemClock(), "first", epoch)


async def test_a_store_that_was_emptied_is_won_back_once_by_many_callers(store: SlowStore) -> None:
    runner = await leading(store)
    store.server.flush()
    await asyncio.gather(*(runner._hold_lead() for _ in range(CALLERS)))
    assert runner.epoch == store.server.epoch == 2


async def test_many_callers_are_all_deposed_when_another_leads(store: SlowStore) -> None:
    runner = await leading(store)
    store.server.leader = "another"
    answers = await asyncio.gather(*(runner._hold_lead() for _ in range(CALLERS)), return_exceptions=True)
    assert {type(answer) for answer in answers} == {Deposed}
