"""Connects a command to the cluster: to the store, to the broker, or to both."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mr.adapters.open import open_broker, open_store
from mr.client import Client, Viewer
from mr.ports.broker import Broker
from mr.settings import Settings


@asynccontextmanager
async def viewing(settings: Settings) -> AsyncIterator[Viewer]:
    """A viewer on the store alone: works while RabbitMQ is away. Raises StoreUnavailable."""
    store = open_store(settings)
    try:
        await store.connect()
        yield Viewer(store, settings)
    finally:
        await store.close()


@asynccontextmanager
async def broker_of(settings: Settings) -> AsyncIterator[Broker]:
    """The broker alone: works while Redis is away. Raises BrokerUnavailable."""
    broker = open_broker(settings)
    await broker.connect()
    try:
        yield broker
    finally:
        await broker.close()


@asynccontextmanager
async def connected(settings: Settings) -> AsyncIterator[Client]:
    """A client on broker and store. Raises BrokerUnavailable, StoreUnavailable."""
    store = open_store(settings)
    broker = open_broker(settings)
    try:
        # One after the other: closing a broker in the middle of its connecting makes it complain.
        await store.connect()
        await broker.connect()
        yield Client(broker, store, settings)
    finally:
        await broker.close()
        await store.close()
