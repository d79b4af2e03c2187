"""RabbitMQ fails in the middle of a job: the same bytes come out, and no daemon ends."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pika
import pytest

from mr.adapters.topology import EXCHANGES, QUEUES
from mr.protocol.queues import DEAD_QUEUE, JOBS_QUEUE, REPORTS_QUEUE, TASKS_QUEUE
from tests.support.site import PHASES, Site


@dataclass(frozen=True)
class Fault:
    """Strikes when it is entered, and is over when it is left."""

    name: str
    strike: Callable[[Site], AbstractContextManager[None]]
    #: What the logs of all daemons that are not frozen say while it lasts; nothing if it is over at once.
    logged: tuple[str, ...] = ()
    #: What `mr doctor` says while it lasts.
    found: tuple[str, ...] = ()
    outcome: str = "the daemons connect again; same bytes"
    phases: tuple[str, ...] = PHASES


@contextmanager
def killed(site: Site) -> Iterator[None]:
    site.rabbitmq.kill()
    yield
    site.rabbitmq.start()


@contextmanager
def restarted(site: Site) -> Iterator[None]:
    site.rabbitmq.stop()
    site.rabbitmq.start()
    yield


@contextmanager
def emptied(site: Site) -> Iterator[None]:
    site.rabbitmq.restart_empty()
    yield


@contextmanager
def out_of_memory(site: Site) -> Iterator[None]:
    site.rabbitmq.control("set_vm_memory_high_watermark", "0")
    yield
    site.rabbitmq.control("set_vm_memory_high_watermark", "0.6")


@contextmanager
def out_of_disk(site: Site) -> Iterator[None]:
    site.rabbitmq.control("set_disk_free_limit", "mem_relative", "1000")
    yield
    site.rabbitmq.control("set_disk_free_limit", "1MB")


def of_queue(verb: str, queue: str) -> Callable[[Site], AbstractContextManager[None]]:
    @contextmanager
    def strike(site: Site) -> Iterator[None]:
        with channel(site) as opened:
            getattr(opened, f"queue_{verb}")(queue)
        yield

    return strike


@contextmanager
def control_queue_deleted(site: Site) -> Iterator[None]:
    """That of one worker: to delete an exclusive queue takes the server itself."""
    queue = next(
        v["beat"]["control_queue"] for v in site.cluster.json("workers") if v["beat"]["worker"] == "w1"
    )
    delete = (
        f'{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"/">>, queue, <<"{queue}">>)), '
        'rabbit_amqqueue:delete(Q, false, false, <<"test">>).'
    )
    site.rabbitmq.control("eval", delete)
    yield


@contextmanager
def exchanges_deleted(site: Site) -> Iterator[None]:
    with channel(site) as opened:
        for exchange in EXCHANGES:
            opened.exchange_delete(exchange)
    yield


@contextmanager
def everything_deleted(site: Site) -> Iterator[None]:
    with channel(site) as opened:
        for queue in QUEUES:
            opened.queue_delete(queue.name)
        for exchange in EXCHANGES:
            opened.exchange_delete(exchange)
    yield


@contextmanager
def connections_closed(site: Site) -> Iterator[None]:
    site.rabbitmq.control("close_all_connections", "closed by the operator")
    yield


@contextmanager
def channel(site: Site) -> Iterator["pika.adapters.blocking_connection.BlockingChannel"]:
    """A channel of somebody else."""
    connection = pika.BlockingConnection(pika.URLParameters(site.rabbitmq.url))
    try:
        yield connection.channel()
    finally:
        connection.close()


BLOCKED = "messages wait until that is over; same bytes"
GONE = "it is declared again, and what was lost is sent again; same bytes"
#: Any place where a queue can be missed.
ONCE = ("map",)
FAULTS = {
    "killed": Fault(
        "killed", killed, ("RabbitMQ at", "connecting again"), ("FAIL  broker", "refused the connection")
    ),
    "restarted": Fault("restarted", restarted),
    "emptied": Fault("restarted without its data", emptied, outcome=GONE),
    "memory": Fault("out of memory", out_of_memory, (), ("FAIL  broker", "memory"), BLOCKED),
    "disk": Fault("out of disk", out_of_disk, (), ("FAIL  broker", "disk"), BLOCKED),
    "connections": Fault("closes all connections", connections_closed),
    "control": Fault("lost a worker's control queue", control_queue_deleted, outcome=GONE),
    "exchanges": Fault("lost its exchanges", exchanges_deleted, outcome=GONE),
    "everything": Fault("lost all queues and exchanges", everything_deleted, outcome=GONE),
    **{
        f"{verb}-{queue}": Fault(
            f"has {queue} {verb}d",
            of_queue(verb, queue),
            outcome=GONE,
            phases=PHASES if queue != DEAD_QUEUE else ONCE,
        )
        for queue in (JOBS_QUEUE, TASKS_QUEUE, REPORTS_QUEUE, DEAD_QUEUE)
        for verb in ("delete", "purge")
    },
}

#: Those that `make test` runs.
SELECTED = (("connections", "map"), ("delete-mr.reports", "finish"))

CASES = [
    pytest.param(
        key,
        phase,
        marks=[
            pytest.mark.fault(fault=f"RabbitMQ {fault.name}", phase=phase, outcome=fault.outcome),
            *([pytest.mark.selected] if (key, phase) in SELECTED else ()),
        ],
        id=f"{key}-{phase}",
    )
    for key, fault in FAULTS.items()
    for phase in fault.phases
]


@pytest.mark.parametrize(("key", "phase"), CASES)
def test_rabbitmq(site: Site, tmp_path: Path, reference: Path, key: str, phase: str) -> None:
    fault = FAULTS[key]
    job = site.reach(tmp_path, f"rabbitmq-{key}-{phase}", phase)
    with fault.strike(site):
        if fault.logged:
            for name in site.cluster.names:
                site.wait_logged(name, *fault.logged)
        if fault.found and phase == "map":
            site.wait_told(*fault.found, command=("doctor",))
    site.prove(job, reference)
