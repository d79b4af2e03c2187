"""Keeps daemons running: a failed round of a loop is logged, a message that fails twice goes to `mr.dead`."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from mr.dead_letters import dead_letter
from mr.error_text import fault
from mr.errors import ClusterUnreachable, Deposed
from mr.ports.broker import Broker, Delivery, OnDelivery

log = logging.getLogger(__name__)

#: Errors that end a daemon or its leadership: a server that stays away, a successor.
FATAL = (ClusterUnreachable, Deposed)


@contextmanager
def surviving(what: str, *passing: type[Exception]) -> Iterator[None]:
    """Log with its traceback what goes wrong inside, and go on: for the outermost loops of a daemon.

    FATAL errors pass, and those of the classes given.
    """
    try:
        yield
    except (*FATAL, *passing):  # type: ignore[misc]
        raise
    except Exception:
        log.exception("%s failed; going on", what)


def guarded(broker: Broker, on_delivery: OnDelivery) -> OnDelivery:
    """Make a consumer that goes on whatever `on_delivery` raises.

    The exception is logged. The message is delivered once more; if that fails
    as well, or if it had been delivered before, it goes to `mr.dead` with the reason.
    """

    async def take(delivery: Delivery) -> None:
        try:
            await on_delivery(delivery)
        except FATAL:
            raise
        except Exception as error:
            log.exception("a message of %s cannot be handled", delivery.routing_key)
            if not delivery.redelivered:
                await delivery.reject(requeue=True)
                return
            await dead_letter(broker, delivery, fault(error))
            await delivery.ack()

    return take
