"""`mr worker` and `mr coordinator` for tests: the real services, with points around their ports.

`python -m tests.faults.processes.daemon NAME SPOOL`: a name that begins with `coordinator` is that of a
coordinator. The settings and the directory of the points come from the environment.
"""

import asyncio
import logging
import os
import sys
from pathlib import Path

from mr.adapters.open import open_broker, open_store
from mr.cli.logging import configure_logging
from mr.cli.signals import on_signals
from mr.coordinator.service import run_coordinator
from mr.protocol.ids import WorkerId
from mr.settings import Settings, load_settings
from mr.workers.daemon.service import run_worker
from mr.workers.process.executor import DEFAULT_PRELOAD
from tests.faults.processes import child, disk
from tests.faults.processes.points import Points
from tests.faults.processes.ports import CoordinatorBroker, CoordinatorStore, WorkerBroker, WorkerStore

log = logging.getLogger("mr")


async def _run(name: str, spool: Path, settings: Settings, points: Points) -> None:
    store, broker = open_store(settings), open_broker(settings)
    stop, kill = asyncio.Event(), asyncio.Event()
    await store.connect()
    await broker.connect()
    try:
        with on_signals(stop.set, kill.set):
            if name.startswith("coordinator"):
                disk.hold_coordinator_files(points)
                around = CoordinatorBroker(broker, points), CoordinatorStore(store, points)
                log.info("coordinator started")
                await run_coordinator(settings, *around, stop=stop)  # type: ignore[arg-type]
            else:
                disk.hold_worker_files(points)
                await run_worker(
                    settings,
                    WorkerBroker(broker, points),  # type: ignore[arg-type]
                    WorkerStore(store, points),  # type: ignore[arg-type]
                    worker_id=WorkerId(name),
                    slots=1,
                    spool_dir=spool,
                    listen="127.0.0.1:0",
                    advertise="127.0.0.1",
                    stop=stop,
                    kill=kill,
                    entry=child.ENTRY,
                    preload=(*DEFAULT_PRELOAD, child.__name__),
                )
    finally:
        await broker.close()
        await store.close()
    log.info("ended")


if __name__ == "__main__":
    configure_logging("info")
    asyncio.run(
        _run(
            sys.argv[1],
            Path(sys.argv[2]),
            load_settings(),
            Points(Path(os.environ[child.POINTS_VARIABLE]), sys.argv[1]),
        )
    )
