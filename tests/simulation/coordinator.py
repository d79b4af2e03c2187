"""A coordinator's machine: it starts the real coordinator daemon, again after every end."""

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mr.coordinator.service import run_coordinator
from mr.errors import BrokerUnavailable, StoreUnavailable
from tests.simulation.broker import SimulatedBroker
from tests.simulation.loop import Life
from tests.simulation.machine import Machine
from tests.simulation.network import Link
from tests.simulation.world import SimulatedClock, WallClock

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster


@dataclass(eq=False)
class CoordinatorDaemon:
    """One run of a coordinator."""

    life: Life
    broker: SimulatedBroker
    links: tuple[Link, Link]
    stop: asyncio.Event


class SimulatedCoordinator(Machine[CoordinatorDaemon]):
    """A coordinator that leads or stands by, and its lives."""

    def __init__(self, cluster: "Cluster", name: str) -> None:
        self.cluster = cluster
        self.name = name
        self.lives = 0
        self.daemon: CoordinatorDaemon | None = None
        self.wall = WallClock(self.world, name)

    def start(self) -> None:
        """Start the daemon."""
        self.lives += 1
        name = f"{self.name}.{self.lives}"
        life = Life(self.world.loop, name)
        links = self.cluster.links(name)
        self.daemon = daemon = CoordinatorDaemon(
            life, self.cluster.broker(life, links[1]), links, asyncio.Event()
        )
        self.world.say(f"{name} starts")
        life.start(self._main(daemon), "a coordinator")

    async def _main(self, daemon: CoordinatorDaemon) -> None:
        cluster, name = self.cluster, daemon.life.name
        store = cluster.store.connect(daemon.links[0], name)
        end = "stops"
        try:
            await store.connect()
            await daemon.broker.connect()
            try:
                clock = SimulatedClock(self.world, self.wall)
                await run_coordinator(cluster.settings, daemon.broker, store, stop=daemon.stop, clock=clock)
            finally:
                await daemon.broker.close()
        except (StoreUnavailable, BrokerUnavailable) as error:
            end = f"ends: {type(error).__name__}"
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 (whatever it is, it fails the simulation)
            cluster.fail(f"{name} died: {error!r}", error)
        self.world.say(f"{name} {end}")
        if self.daemon is daemon:
            self.daemon = None
            daemon.life.end()
            self.world.after(self.world.chance.uniform(0.5, 10.0), self.start_again)

    def crash(self) -> None:
        """Die at once."""
        daemon = self.daemon
        if daemon is None:
            return
        self.world.say(f"{daemon.life.name} dies")
        self.daemon = None
        daemon.life.end()
        daemon.broker.vanish()
        self.world.after(self.world.chance.uniform(0.2, 20.0), self.start_again)

    def signal(self) -> None:
        """Ask the daemon to stop."""
        if self.daemon is not None and self.daemon.life.runs:
            self.world.say(f"{self.daemon.life.name} is asked to stop")
            self.daemon.life.context.run(self.daemon.stop.set)
