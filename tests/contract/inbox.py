"""A consumer that keeps its deliveries, shared by the broker's contract tests."""

from mr.ports.broker import Broker, Delivery, OutgoingMessage
from tests.support.waiting import eventually


class Inbox:
    """A consumer that keeps its deliveries, and settles them when told to."""

    def __init__(self) -> None:
        self.deliveries: list[Delivery] = []

    async def __call__(self, delivery: Delivery) -> None:
        self.deliveries.append(delivery)

    @property
    def bodies(self) -> list[bytes]:
        return [delivery.body for delivery in self.deliveries]

    async def holds(self, *bodies: bytes) -> None:
        """Wait until exactly these have arrived, in this order."""
        await eventually(lambda: len(self.deliveries) >= len(bodies), what=f"{bodies} in {self.bodies}")
        assert self.bodies == list(bodies)

    async def take(self, count: int) -> list[Delivery]:
        """Wait until at least so many have arrived."""
        await eventually(lambda: len(self.deliveries) >= count, what=f"{count} in {self.bodies}")
        return self.deliveries


def to(queue: str, body: bytes = b"x", **changes: object) -> OutgoingMessage:
    """A message to a queue."""
    return OutgoingMessage(routing_key=queue, body=body, **changes)  # type: ignore[arg-type]


async def depth_is(broker: Broker, queue: str, ready: int) -> None:
    """Wait until so many messages are ready in a queue."""

    async def check() -> bool:
        return (await broker.depth(queue)).ready == ready

    await eventually(check, what=f"{ready} ready in {queue}")
