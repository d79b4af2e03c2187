"""Broker and state store inside one process: the embedded mode, and the reference of the contract suites."""

from mr.adapters.memory.broker import MemoryBroker
from mr.adapters.memory.exchange import MemoryBrokerServer
from mr.adapters.memory.state import MemoryStoreServer
from mr.adapters.memory.store import MemoryStore

__all__ = ["MemoryBroker", "MemoryBrokerServer", "MemoryStore", "MemoryStoreServer"]
