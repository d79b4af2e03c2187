"""A machine that runs one daemon at a time: it is started again after every end, and may be frozen."""

from abc import abstractmethod
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from tests.simulation.broker import SimulatedBroker
from tests.simulation.loop import Life
from tests.simulation.world import World

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster


class Run(Protocol):
    """One run of a daemon."""

    life: Life
    broker: SimulatedBroker


R = TypeVar("R", bound=Run)


class Machine(Generic[R]):
    """What coordinators and workers have in common."""

    cluster: "Cluster"
    #: The present run.
    daemon: R | None

    @property
    def world(self) -> World:
        """Time, chance and trouble."""
        return self.cluster.world

    @abstractmethod
    def start(self) -> None:
        """Start the daemon."""

    def start_again(self) -> None:
        """Start the daemon unless it runs."""
        if self.daemon is None:
            self.start()

    def freeze(self, seconds: float) -> None:
        """Let the daemon do nothing for a while; then it goes on with what it knew."""
        daemon = self.daemon
        if daemon is None or not daemon.life.runs:
            return
        self.world.say(f"{daemon.life.name} freezes for {seconds:.1f} s")
        daemon.life.freeze()
        if seconds > 30.0:  # the broker hears nothing and ends the connection
            self.world.after(20.0, daemon.broker.disconnect, seconds - 19.0)

        def thaw() -> None:
            if self.daemon is daemon:
                self.world.say(f"{daemon.life.name} goes on")
                daemon.life.thaw()

        self.world.after(seconds, thaw)
