"""A cluster drawn from one seed: machines, jobs, and the misfortunes that will come over them."""

from collections.abc import Callable
from typing import TypeVar

from mr.adapters.memory.exchange import MemoryBrokerServer
from mr.errors import BrokerUnavailable, StoreUnavailable
from mr.ports.broker import OutgoingMessage
from mr.protocol.codec import encode
from mr.protocol.ids import JobId, WorkerId
from mr.protocol.messages import DrainWorker
from mr.protocol.queues import CONTROL_EXCHANGE
from mr.settings import Settings
from tests.simulation.broker import BrokerFaults, SimulatedBroker
from tests.simulation.client import SimulatedClient
from tests.simulation.coordinator import SimulatedCoordinator
from tests.simulation.data import SimulatedJob, make_job
from tests.simulation.files import SimulatedFileSystem
from tests.simulation.forgery import forge
from tests.simulation.loop import Life
from tests.simulation.network import Link, Peers
from tests.simulation.spool import Disk
from tests.simulation.store import SimulatedStoreServer
from tests.simulation.worker import Daemon, SimulatedWorker, WorkerFaults
from tests.simulation.world import World

T = TypeVar("T")

SETTINGS = Settings(
    resume_seconds=0,  # nothing is resumed here
    tick_seconds=1.0,
    straggler_min_seconds=5.0,
    exclude_seconds=20.0,
    republish_seconds=10.0,
    retry_max_seconds=10.0,
    inspect_seconds=15.0,
    drain_seconds=40.0,
    reconnect_seconds=45.0,
    url_schemes=("sim",),
)


class Cluster:
    """Everything that one simulation runs."""

    def __init__(self, seed: int) -> None:
        self.world = world = World(seed)
        self.chance = chance = world.chance
        self.settings = SETTINGS
        #: What must not happen, and did.
        self.failures: list[tuple[str, BaseException | None]] = []
        SimulatedFileSystem.files, SimulatedFileSystem.directories = {}, set()
        #: Nothing happens that costs an attempt: then each task runs once, and once more for each time that
        #: its code raises.
        self.gentle = chance.random() < 0.3
        #: Whether tasks take longer than a lease.
        self.long_tasks = self.gentle and chance.random() < 0.4
        large = chance.random() < 0.1
        self.queues = MemoryBrokerServer()
        self.store = SimulatedStoreServer(world)
        self.peers = Peers(world)
        self._broker_faults = BrokerFaults(
            drop=self._draw(0.05, mild=True), double=self._draw(0.3, mild=True)
        )
        self._lost_answers = self._draw(0.05, mild=True)
        self._files_fail = self._draw(0.05)
        world.loop.slow_disks = self._draw(0.2)
        SimulatedFileSystem.fails = staticmethod(self._file_system_fails)
        self.jobs: dict[JobId, SimulatedJob] = {}
        self.workers: list[SimulatedWorker] = []
        self._make_workers(chance.randint(3, 6) if large else chance.randint(1, 3))
        self.coordinators = [
            SimulatedCoordinator(self, f"coordinator-{i}") for i in range(chance.choice((1, 1, 2)))
        ]
        for coordinator in self.coordinators:
            world.after(chance.uniform(0.0, 3.0), coordinator.start)
        self.client = SimulatedClient(self)
        for number in range(chance.randint(1, 4 if large else 2)):
            self._make_job(number, large)
        self._plan_misfortunes()

    def _draw(self, most: float, *, mild: bool = False) -> float:
        """How likely a kind of fault is. Often it does not come at all, so that none hides another.

        `mild`: it costs no attempt.
        """
        chance = self.chance
        if (self.gentle and not mild) or chance.random() < 0.45:
            return 0.0
        return chance.uniform(0.0, most)

    def fail(self, message: str, error: BaseException | None = None) -> None:
        """Note that something happened that must not."""
        self.world.say(f"FAILED: {message}")
        self.failures.append((message, error))

    def _file_system_fails(self) -> bool:
        if not self.world.strikes(self._files_fail):
            return False
        self.world.say("the file system is away for a moment")
        return True

    # --- parts

    def links(self, name: str) -> tuple[Link, Link]:
        """A daemon's ways to store and broker."""
        patience = self.settings.reconnect_seconds
        return (
            Link(self.world, f"{name} -> store", patience, StoreUnavailable, self._lost_answers),
            Link(self.world, f"{name} -> broker", patience, BrokerUnavailable, self._lost_answers),
        )

    def broker(self, life: Life, link: Link) -> SimulatedBroker:
        """A daemon's broker."""
        patience = self.settings.reconnect_seconds
        return SimulatedBroker(self.world, self.queues, life, link, self._broker_faults, patience)

    def listener(self, address: str) -> SimulatedWorker | None:
        """The worker whose daemon listens at an address and runs."""
        for worker in self.workers:
            if worker.address == address and worker.daemon is not None and worker.daemon.life.runs:
                return worker
        return None

    def _answers(self, address: str) -> bool | None:
        """What a connection to a port comes to, as the coordinator sees it."""
        for worker in self.workers:
            if worker.address == address:
                if not self.peers.reaches("coordinator", worker.disk.host):
                    return None
                return worker.daemon is not None
        return None

    def _make_workers(self, count: int) -> None:
        chance, world = self.chance, self.world
        faults = WorkerFaults(
            slow=self._draw(0.15), infrastructure=self._draw(0.1), unreachable=self._draw(0.05)
        )
        full = self._draw(0.03)
        disks: list[Disk] = []
        for number in range(count):
            if not disks or chance.random() < 0.75:
                disks.append(Disk(world, f"host-{len(disks)}", full))
            disk = disks[-1]
            address = f"{disk.host}:{number + 1}"
            self._add_worker(WorkerId(f"worker-{number}"), disk, faults, address, f"worker-{number}")
        if not self.gentle and chance.random() < 0.1:  # two workers of one name
            twin = disks[0] if chance.random() < 0.5 else Disk(world, "host-twin", full)
            self._add_worker(WorkerId("worker-0"), twin, faults, f"{twin.host}:99", "twin")
        world.loop.answers = self._answers

    def _add_worker(self, name: WorkerId, disk: Disk, faults: WorkerFaults, address: str, label: str) -> None:
        worker = SimulatedWorker(self, name, self.chance.randint(1, 3), disk, faults, address, label)
        self.workers.append(worker)
        self.world.after(self.chance.uniform(0.0, 3.0), worker.start)

    def _make_job(self, number: int, large: bool) -> None:
        chance = self.chance
        job = make_job(chance, number, large)
        self.jobs[job.id] = job
        submit_after = chance.choice((0.0, 0.0, chance.uniform(0, 20)))
        cancel_after = None
        if chance.random() < 0.15:  # at the latest when the last task has committed
            cancel_after = chance.choice((len(job.words), job.parts, chance.randint(1, len(job.words))))
            cancel_after += len(job.words) if chance.random() < 0.5 and job.reduces else 0
        twice = chance.random() < 0.1
        self.client.own(job, submit_after, cancel_after, twice=twice)

    # --- misfortunes

    def _plan_misfortunes(self) -> None:
        world, chance = self.world, self.chance
        for worker in self.workers:
            self._plan_for(worker)
        steady = chance.random() < 0.5
        self.store.keeps_promises = not steady or len(self.coordinators) > 1
        if not steady:
            self._plan_for_coordinators()
        elif len(self.coordinators) == 1:
            world.now_and_then(self._draw(0.02), self.store.empty)
        if back := self._draw(0.05):
            self.store.note_snapshots()
            world.now_and_then(back, self.store.go_back)
        jump = self._draw(0.02)
        world.now_and_then(
            jump, lambda: self.store.clock.jump(chance.choice((-1, 1)) * chance.uniform(1, 40))
        )
        jump = self._draw(0.02, mild=True)
        for coordinator in self.coordinators:
            world.now_and_then(jump, lambda c=coordinator: c.wall.jump(chance.uniform(-500, 500)))  # type: ignore[misc]
        world.now_and_then(self._draw(0.005, mild=True), self._restart_broker)
        world.now_and_then(self._draw(0.1, mild=True), lambda: forge(self))
        hosts = [*{worker.disk.host: None for worker in self.workers}, "coordinator"]
        world.now_and_then(
            self._draw(0.05),
            lambda: self.peers.cut(chance.choice(hosts), chance.choice(hosts), chance.uniform(2.0, 30.0)),
        )

    def _plan_for(self, worker: SimulatedWorker) -> None:
        world, chance = self.world, self.chance

        def often(most: float, act: Callable[[], object], *, mild: bool = False) -> None:
            world.now_and_then(self._draw(most, mild=mild), act)

        often(0.03, worker.crash)
        often(0.01, lambda: worker.signal(kill=False), mild=True)
        often(0.01, lambda: worker.signal(kill=True))
        often(0.01, lambda: self._drain(worker), mild=True)
        often(0.015, lambda: worker.freeze(chance.uniform(0.5, 40.0)))
        often(0.01, lambda: worker.wall.jump(chance.uniform(-500, 500)), mild=True)
        often(0.03, lambda: worker.with_daemon(self._disconnect), mild=True)
        often(0.03, lambda: worker.with_daemon(self._cut))
        often(0.02, lambda: worker.with_daemon(self._slow))

    def _disconnect(self, daemon: Daemon) -> None:
        daemon.broker.disconnect(self.chance.uniform(0.1, 3.0))

    def _cut(self, daemon: Daemon) -> None:
        chance = self.chance
        link = daemon.links[chance.randrange(2)]
        ways = chance.randrange(3)
        seconds = chance.choice((chance.uniform(0.5, 8.0), chance.uniform(8.0, 40.0)))
        link.cut(seconds, there=ways != 1, back=ways != 0)
        if link is daemon.links[1] and seconds > 10.0:  # both ends of the connection hear nothing
            self.world.after(10.0, daemon.broker.disconnect, seconds - 9.0)

    def _slow(self, daemon: Daemon) -> None:
        self.world.say(f"the store is slow for {daemon.life.name}")
        daemon.links[0].slow_until = self.world.now + self.chance.uniform(2.0, 15.0)

    def _drain(self, worker: SimulatedWorker) -> None:
        if worker.daemon is None:
            return
        self.world.say(f"{worker.incarnation} is to drain")
        worker.asked_at = min(self.world.now, worker.asked_at)
        self.store.server.drains[worker.name] = worker.incarnation
        body = encode(DrainWorker(worker.name))
        self.queues.route(OutgoingMessage(exchange=CONTROL_EXCHANGE, routing_key="", body=body))

    def _restart_broker(self) -> None:
        self.world.say("the broker restarts")
        daemons = [worker.daemon for worker in self.workers] + [c.daemon for c in self.coordinators]
        for daemon in daemons:
            if daemon is not None:
                daemon.broker.disconnect(self.chance.uniform(0.1, 3.0))

    def _plan_for_coordinators(self) -> None:
        world, chance = self.world, self.chance
        crash, stop = self._draw(0.03, mild=True), self._draw(0.01, mild=True)
        freeze, cut = self._draw(0.015), self._draw(0.02)
        for coordinator in self.coordinators:
            world.now_and_then(crash, coordinator.crash)
            world.now_and_then(freeze, lambda c=coordinator: c.freeze(chance.uniform(0.5, 40.0)))  # type: ignore[misc]
            world.now_and_then(stop, coordinator.signal)
            world.now_and_then(cut, lambda c=coordinator: c.daemon and self._cut(c.daemon))  # type: ignore[misc]

    def heal(self) -> None:
        """End what lasts: cuts among the hosts, clocks need none."""
        self.peers.heal()
