"""One worker a name: a second is refused by name and host; the ghost of a crashed one bars no restart."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mr.protocol.ids import Incarnation
from mr.protocol.records import WorkerBeat
from mr.workers.daemon.registration import WorkerIdTaken
from mr.workers.shuffle.transfer.host_identity import host_identity
from tests.contract.samples import beat
from tests.support.waiting import eventually
from tests.support.worker import WORKER, Bench, worker_settings

ELDER = Incarnation("elder")
LEASE = 3600.0
#: Nothing in these tests waits for it.
RARELY = 600.0


def elders(number: int, **changes: object) -> WorkerBeat:
    """A heartbeat of the life that has the name."""
    return beat(WORKER, ELDER, number=number, host_name="first-host", **changes)


@pytest.fixture
async def second(tmp_path: Path) -> AsyncIterator[Bench]:
    """A worker, not yet started, whose name an elder life has."""
    second = Bench(tmp_path)
    await second.store.connect()
    await second.store.heartbeat(elders(1), LEASE)
    yield second
    await second.close()
    assert second.files() == []


def owner(worker: Bench) -> Incarnation:
    return worker.store.server.workers[WORKER].incarnation


async def test_a_second_worker_is_refused_by_name_and_host(second: Bench) -> None:
    async def go_on() -> None:
        for number in range(2, 1000):
            await second.store.heartbeat(elders(number), LEASE)
            await asyncio.sleep(0.02)

    first = asyncio.create_task(go_on())
    await second.open(worker_settings(), 1, None)
    with pytest.raises(
        WorkerIdTaken, match=r"worker w1 already runs on host first-host at .* since .*--id"
    ) as caught:
        await second.ended
    assert caught.value.exit_code == 2
    assert owner(second) == ELDER
    first.cancel()


async def test_a_silent_ghost_is_replaced(second: Bench) -> None:
    await second.open(worker_settings(heartbeat_seconds=0.05), 1, None)
    assert not second.ended.done()
    assert owner(second) != ELDER


async def test_a_restart_does_not_wait_for_a_life_that_the_kernel_knows_to_be_dead(second: Bench) -> None:
    (second.spool / WORKER / ELDER).mkdir(parents=True)
    (second.spool / WORKER / ELDER / ".mrmq-life").touch()
    await second.store.heartbeat(elders(2, host=host_identity()), LEASE)
    await second.open(worker_settings(heartbeat_seconds=RARELY, lease_seconds=LEASE), 1, None)
    assert owner(second) != ELDER


async def test_a_lock_in_the_spool_of_another_host_proves_nothing(second: Bench) -> None:
    (second.spool / WORKER / ELDER).mkdir(parents=True)
    (second.spool / WORKER / ELDER / ".mrmq-life").touch()
    starting = asyncio.create_task(
        second.open(worker_settings(heartbeat_seconds=RARELY, lease_seconds=LEASE), 1, None)
    )
    await eventually(lambda: second.store.refused)
    assert owner(second) == ELDER
    second.stop.set()
    await starting
    assert owner(second) == ELDER


async def test_a_worker_may_be_stopped_while_it_waits_for_its_name(second: Bench) -> None:
    second.stop.set()
    await second.open(worker_settings(heartbeat_seconds=RARELY, lease_seconds=LEASE), 1, None)
    await second.ended
    assert owner(second) == ELDER


@pytest.mark.fault(
    fault="Redis back to an older state",
    phase="after a worker took the place of one that was killed",
    outcome="the worker goes on, although its predecessor's last heartbeat and lease are there again",
)
@pytest.mark.parametrize("shown", [1, 0], ids=["as it was replaced", "as it was before"])
async def test_a_ghost_that_comes_back_with_an_older_store_is_replaced_again(
    second: Bench, shown: int
) -> None:
    await second.open(worker_settings(heartbeat_seconds=0.05, lease_seconds=LEASE), 1, None)
    own = owner(second)
    second.store.server.workers.clear()
    assert await second.store.heartbeat(elders(shown), LEASE) is None
    await eventually(lambda: owner(second) == own or second.ended.done())
    assert not second.ended.done()


async def test_a_worker_that_was_taken_for_dead_takes_its_name_back(second: Bench) -> None:
    await second.open(worker_settings(heartbeat_seconds=0.05, lease_seconds=LEASE), 1, None)
    assert owner(second) != ELDER
    assert await second.store.heartbeat(elders(2), LEASE) is None
    with pytest.raises(WorkerIdTaken, match="first-host"):
        await second.ended
    assert owner(second) == ELDER
