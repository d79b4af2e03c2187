"""A worker's machine: it starts the real worker daemon, and starts it again after every end."""

import asyncio
import math
from asyncio import Event
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from mr.errors import BrokerUnavailable, ClusterUnreachable, StoreUnavailable
from mr.protocol.failures import LostInput
from mr.protocol.ids import AttemptId, Incarnation, JobId, TaskId, WorkerId
from mr.protocol.records import MapOutput
from mr.settings import Settings
from mr.workers.daemon.heartbeat import HostMeter
from mr.workers.daemon.pressure import HostLoad
from mr.workers.daemon.registration import WorkerIdTaken
from mr.workers.daemon.service import Worker, close_spool
from mr.workers.daemon.spool import Spool
from mr.workers.messages import WorkerIdentity
from mr.workers.process.executor import Executor
from mr.workers.shuffle.transfer.served_outputs import ServedOutputs
from tests.simulation.broker import SimulatedBroker
from tests.simulation.data import SimulatedJob
from tests.simulation.executor import SimulatedExecutor, missing
from tests.simulation.loop import Life
from tests.simulation.machine import Machine
from tests.simulation.network import Link
from tests.simulation.spool import Disk, SimulatedSpool
from tests.simulation.world import SimulatedClock, WallClock

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster

#: How a daemon may end without anybody having asked for it.
EXPECTED_ENDS = (WorkerIdTaken, StoreUnavailable, BrokerUnavailable)


@dataclass
class WorkerFaults:
    """What may happen to attempts: shares of all."""

    slow: float
    infrastructure: float
    unreachable: float


class CalmMeter(HostMeter):
    """A host that has room, whatever the machine does that runs the simulation."""

    def __init__(self) -> None:
        self.memory_available_bytes = 1 << 34
        self.disk_total_bytes = 1 << 40

    async def measure(self) -> HostLoad:
        """The same each time."""
        return HostLoad(
            cpu_percent=1.0, own_cpu_percent=1.0, memory_percent=1.0, disk_free_bytes=1 << 39, cores=2
        )


@dataclass(eq=False)
class Daemon:
    """One incarnation of a worker."""

    life: Life
    broker: SimulatedBroker
    links: tuple[Link, Link]
    executor: SimulatedExecutor
    outputs: ServedOutputs
    stop: Event
    kill: Event
    runner: Any = None


@dataclass(eq=False)
class SimulatedWorker(Machine[Daemon]):
    """A worker's name, slots and address on one host, and the daemon that runs there now."""

    cluster: "Cluster"
    name: WorkerId
    slots: int
    disk: Disk
    faults: WorkerFaults
    address: str
    #: Tells two workers of one name apart.
    label: str
    lives: int = 0
    daemon: Daemon | None = None
    #: When its present daemon was asked to finish and leave.
    asked_at: float = math.inf
    #: Whether one left at the end of `drain_seconds`, though its map outputs may still have been needed.
    left_early: bool = False
    clock: SimulatedClock = field(init=False)

    def __post_init__(self) -> None:
        self.wall = WallClock(self.world, self.address)
        self.clock = SimulatedClock(self.world, self.wall)

    @property
    def jobs(self) -> dict[JobId, SimulatedJob]:
        """What the tasks compute."""
        return self.cluster.jobs

    @property
    def incarnation(self) -> Incarnation:
        """The present one, or the last."""
        return Incarnation(f"{self.label}.{self.lives}")

    # --- life

    def start(self) -> None:
        """Start the daemon."""
        cluster, world = self.cluster, self.world
        self.lives += 1
        self.asked_at = math.inf
        life = Life(world.loop, self.incarnation)
        store_link, broker_link = cluster.links(self.incarnation)
        broker = cluster.broker(life, broker_link)
        executor = SimulatedExecutor(self, life)
        self.daemon = daemon = Daemon(
            life,
            broker,
            (store_link, broker_link),
            executor,
            ServedOutputs(),
            asyncio.Event(),
            asyncio.Event(),
        )
        world.say(f"{self.incarnation} starts")
        life.start(self._main(daemon), "a worker")

    async def _main(self, daemon: Daemon) -> None:
        """Do what `run_worker` does, on simulated parts."""
        cluster = self.cluster
        incarnation = self.incarnation
        settings: Settings = cluster.settings
        store = cluster.store.connect(daemon.links[0], incarnation)
        end = "stops"
        try:
            await store.connect()
            await daemon.broker.connect()
            spool = cast(
                Spool,
                await asyncio.to_thread(SimulatedSpool, self.disk, self.name, incarnation, daemon.life),
            )
            try:
                identity = WorkerIdentity(self.name, incarnation, self.address, self.disk.host)
                executor = cast(Executor, daemon.executor)
                worker = Worker(
                    settings,
                    daemon.broker,
                    store,
                    self.clock,
                    identity,
                    self.slots,
                    spool,
                    executor,
                    daemon.outputs,
                    CalmMeter(),
                )
                daemon.runner = worker
                await worker.take_over()
                await worker.run(daemon.stop, daemon.kill)
            finally:
                await daemon.executor.close()
                await close_spool(spool, daemon.outputs, embedded=False)
                await daemon.broker.close()
        except EXPECTED_ENDS as error:
            end = f"ends: {type(error).__name__}"
            if isinstance(error, ClusterUnreachable):
                await daemon.broker.close()
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 (whatever it is, it fails the simulation)
            cluster.fail(f"{incarnation} died: {error!r}", error)
        self.world.say(f"{incarnation} {end}")
        self.left_early |= self.world.now - self.asked_at >= settings.drain_seconds
        if self.daemon is daemon:
            self.daemon = None
            daemon.life.end()
            self.world.after(
                self.world.chance.uniform(0.5, 4.0 if cluster.gentle else 20.0), self.start_again
            )

    def crash(self) -> None:
        """Die at once, as by SIGKILL; the disk may be lost, too."""
        daemon = self.daemon
        if daemon is None:
            return
        self.world.say(f"{self.incarnation} crashes with {[str(a) for a in daemon.executor._running]}")
        self.daemon = None
        daemon.executor.die()
        daemon.life.end()
        daemon.broker.vanish()
        if self.world.chance.random() < 0.3:
            self.world.say(f"{self.incarnation} loses its disk")
            self.disk.lose()
        chance = self.world.chance
        self.world.after(chance.choice((0.2, chance.uniform(0.5, 30.0))), self.start_again)

    def signal(self, *, kill: bool) -> None:
        """Ask the daemon to finish, or to leave at once."""
        if self.daemon is not None and self.daemon.life.runs:
            self.asked_at = min(self.world.now, self.asked_at)
            self.world.say(f"{self.incarnation} is asked to {'leave at once' if kill else 'stop'}")
            event = self.daemon.kill if kill else self.daemon.stop
            self.daemon.life.context.run(event.set)

    def with_daemon(self, act: Callable[[Daemon], object]) -> None:
        """Do something to the daemon, if one runs."""
        if self.daemon is not None:
            act(self.daemon)

    # --- what others see

    def peer(self, address: str) -> "SimulatedWorker | None":
        """Who answers at an address, as seen from here."""
        found = self.cluster.listener(address)
        if found is None or not self.cluster.peers.reaches(self.disk.host, found.disk.host):
            return None
        return found

    def serve(self, token: str, outputs: list[MapOutput]) -> dict[TaskId, list[bytes]] | list[LostInput]:
        """Answer a request for map outputs, as the shuffle server does."""
        assert self.daemon is not None
        served = self.daemon.outputs
        job = outputs[0].attempt.job
        if not served.knows(job) or not served.admits(job, token):
            return missing(outputs)
        paths = {output: served.find(output.attempt) for output in outputs}
        gone = [o for o, path in paths.items() if path is None or str(path) not in self.disk.files]
        if gone:
            return missing(gone)
        return {output.attempt.task: self.disk.files[str(path)] for output, path in paths.items()}

    def note_begin(self, attempt: AttemptId) -> None:
        """A process begins an attempt."""
        self.jobs[attempt.job].begun[attempt.task] += 1
        self.world.say(f"{self.incarnation} runs {attempt}")
