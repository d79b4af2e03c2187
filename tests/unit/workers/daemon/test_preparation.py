"""What a worker asks the store for an attempt: again, when inputs of a reduce are said to be lost."""

from pathlib import Path

import msgspec
import pytest

from mr.adapters.memory.store import MemoryStore
from mr.protocol.failures import Failure, FailureKind, LostInput
from mr.protocol.ids import AttemptId, Incarnation, WorkerId
from mr.protocol.records import MapOutput
from mr.settings import Settings
from mr.workers.daemon.preparation import Preparation
from mr.workers.daemon.spool import Spool
from mr.workers.messages import WorkerIdentity
from tests.contract import samples
from tests.contract.samples import ANN, FIRST_RUN, JOB, MAP_0, MAP_1, SECOND_RUN
from tests.support.specs import make_splits


@pytest.fixture
async def store() -> MemoryStore:
    """A job with both of its maps committed."""
    store = MemoryStore()
    await store.connect()
    await store.create_job(samples.spec(), make_splits(), samples.record(), 1)
    for task in (MAP_0, MAP_1):
        await store.claim(JOB, task, ANN, FIRST_RUN, 60.0)
        await store.commit(AttemptId(JOB, task, 1), samples.map_result(task))
    return store


async def test_a_lost_input_that_is_elsewhere_by_now_is_not_reported(
    tmp_path: Path, store: MemoryStore
) -> None:
    spool = Spool(tmp_path, WorkerId("r"), Incarnation("i"))
    preparation = Preparation(
        store, spool, Settings(), WorkerIdentity(WorkerId("r"), Incarnation("i"), "", "")
    )
    lost = tuple(LostInput(task, 1, ANN, FIRST_RUN) for task in (MAP_0, MAP_1))
    failure = Failure(FailureKind.INPUT_LOST, "lost", lost=lost)
    assert await preparation.look_again(JOB, failure) == failure
    output = samples.map_result(MAP_0).output
    assert isinstance(output, MapOutput)
    moved = msgspec.structs.replace(output, incarnation=SECOND_RUN)
    await store.relocate(JOB, {MAP_0: (output.placement, moved)})
    assert (await preparation.look_again(JOB, failure)).lost == lost[1:]
    spool.close()
