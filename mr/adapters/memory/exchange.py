"""The broker that several `MemoryBroker`s in one process share: queues, exchanges, routing."""

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Protocol

from mr.adapters.topology import EXCHANGES, QUEUES
from mr.ports.broker import OutgoingMessage


class Message:
    """A message in a queue. Its place never changes, so a requeued message is again before later ones."""

    def __init__(self, number: int, priority: int, outgoing: OutgoingMessage) -> None:
        self.number = number
        self.priority = priority
        self.outgoing = outgoing
        self.redelivered = False

    def __lt__(self, other: "Message") -> bool:
        return (-self.priority, self.number) < (-other.priority, other.number)


class QueueConsumer(Protocol):
    """A consumer as its queue sees it."""

    def has_room(self) -> bool:
        """Whether it can take another message now."""

    def take(self, message: Message) -> None:
        """Receive a message."""


class MemoryQueue:
    """Messages in order of priority, then of arrival; consumers served in turn."""

    def __init__(self, name: str, *, max_priority: int = 0, single_active: bool = False) -> None:
        self.name = name
        self._max_priority = max_priority
        self._single_active = single_active
        self._ready: list[Message] = []
        self._consumers: list[QueueConsumer] = []
        self._next_number = 0

    @property
    def ready(self) -> int:
        """Messages waiting for a consumer."""
        return len(self._ready)

    @property
    def consumers(self) -> int:
        """Consumers attached, active or standing by."""
        return len(self._consumers)

    def put(self, outgoing: OutgoingMessage) -> None:
        """Enqueue a new message, and deliver what can be delivered."""
        priority = min(outgoing.priority, self._max_priority)
        heappush(self._ready, Message(self._next_number, priority, outgoing))
        self._next_number += 1
        self.dispatch()

    def put_back(self, *messages: Message) -> None:
        """Requeue unsettled messages in their old places."""
        for message in messages:
            message.redelivered = True
            heappush(self._ready, message)
        self.dispatch()

    def attach(self, consumer: QueueConsumer) -> None:
        """Add a consumer; on a single-active queue it stands by until the earlier ones have gone."""
        if consumer not in self._consumers:
            self._consumers.append(consumer)
        self.dispatch()

    def detach(self, consumer: QueueConsumer) -> None:
        """Remove a consumer, so that a standby takes over."""
        if consumer in self._consumers:
            self._consumers.remove(consumer)
        self.dispatch()

    def purge(self) -> None:
        """Drop the waiting messages."""
        self._ready.clear()

    def dispatch(self) -> None:
        """Deliver messages while one is waiting and a consumer has room."""
        while self._ready:
            consumer = self._next_consumer()
            if consumer is None:
                return
            consumer.take(heappop(self._ready))

    def _next_consumer(self) -> QueueConsumer | None:
        if self._single_active:
            active = self._consumers[:1]
            return active[0] if active and active[0].has_room() else None
        for consumer in self._consumers:
            if consumer.has_room():
                self._consumers.remove(consumer)
                self._consumers.append(consumer)
                return consumer
        return None


def topic_matches(binding_key: str, routing_key: str) -> bool:
    """Whether a topic binding matches a routing key: `*` is one word, `#` any number of words."""
    return _words_match(binding_key.split("."), routing_key.split("."))


def _words_match(pattern: list[str], words: list[str]) -> bool:
    if not pattern:
        return not words
    if pattern[0] == "#":
        return any(_words_match(pattern[1:], words[skip:]) for skip in range(len(words) + 1))
    if not words or pattern[0] not in ("*", words[0]):
        return False
    return _words_match(pattern[1:], words[1:])


class MemoryBrokerServer:
    """Queues and exchanges with the topology of the real broker. One event loop only."""

    def __init__(self) -> None:
        self.queues = {
            q.name: MemoryQueue(q.name, max_priority=q.max_priority, single_active=q.single_active)
            for q in QUEUES
        }
        self._bindings: dict[str, list[tuple[str, MemoryQueue]]] = {name: [] for name in EXCHANGES}
        self._private: dict[str, MemoryQueue] = {}
        self._replies: dict[str, Callable[[OutgoingMessage], None]] = {}
        self._names_made = 0

    def new_name(self, prefix: str) -> str:
        """Make a new, unique name."""
        self._names_made += 1
        return f"{prefix}.{self._names_made}"

    def route(self, message: OutgoingMessage) -> bool:
        """Route a message to its queues. False: no queue takes it, and it is dropped, as RabbitMQ does."""
        if message.exchange:
            kind = EXCHANGES[message.exchange]
            bound = [
                queue
                for binding_key, queue in self._bindings[message.exchange]
                if kind == "fanout" or topic_matches(binding_key, message.routing_key)
            ]
            for queue in bound:
                queue.put(message)
            return bool(bound)
        if message.routing_key in self._replies:
            self._replies[message.routing_key](message)
            return True
        found = self.queues.get(message.routing_key) or self._private.get(message.routing_key)
        if found is not None:
            found.put(message)
        return found is not None

    def add_private(self, exchange: str, binding_key: str, name: str) -> MemoryQueue:
        """Make an exclusive queue, bound to the exchange if one is given."""
        queue = MemoryQueue(name or self.new_name("private"))
        self._private[queue.name] = queue
        if exchange:
            self._bindings[exchange].append((binding_key, queue))
        return queue

    def remove_private(self, queue: MemoryQueue) -> None:
        """Delete an exclusive queue with its bindings and messages."""
        for bindings in self._bindings.values():
            bindings[:] = [b for b in bindings if b[1] is not queue]
        self._private.pop(queue.name, None)
        queue.purge()

    def add_reply(self, name: str, receive: Callable[[OutgoingMessage], None]) -> None:
        """Open a private address for one answer."""
        self._replies[name] = receive

    def remove_reply(self, name: str) -> None:
        """Close it; later answers are dropped."""
        self._replies.pop(name, None)
