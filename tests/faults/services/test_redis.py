"""Redis fails in the middle of a job: the same bytes come out, no daemon ends, and the log says why."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from tests.support.servers import PrivateRedis
from tests.support.site import PHASES, Site
from tests.support.waiting import until

#: Longer than a lease.
OUTAGE_SECONDS = 4


@dataclass(frozen=True)
class Fault:
    """Strikes when it is entered, and is over when it is left."""

    name: str
    strike: Callable[[Site, Path], AbstractContextManager[None]]
    #: What the workers' logs say while it lasts; nothing if it is over before anybody asks.
    logged: tuple[str, ...] = ()
    #: What `mr doctor` says while it lasts.
    found: tuple[str, ...] = ()


@contextmanager
def killed(site: Site, directory: Path) -> Iterator[None]:
    site.redis.kill()
    yield
    site.redis.start()


@contextmanager
def restarted(site: Site, directory: Path) -> Iterator[None]:
    site.redis.stop()
    site.redis.start()
    yield


@contextmanager
def emptied(site: Site, directory: Path) -> Iterator[None]:
    with site.store as store:
        store.flushall()
    yield


@contextmanager
def restarted_empty(site: Site, directory: Path) -> Iterator[None]:
    site.redis.restart_empty()
    yield


@contextmanager
def out_of_memory(site: Site, directory: Path) -> Iterator[None]:
    with site.store as store:
        store.config_set("maxmemory", 1)
        yield
        store.config_set("maxmemory", 0)


@contextmanager
def replica_of_nobody(site: Site, directory: Path) -> Iterator[None]:
    """Its master is away, so it keeps its data and takes no writes."""
    with site.store as store:
        store.replicaof("127.0.0.1", 1)
        yield
        store.replicaof("no", "one")


@contextmanager
def failed_over(site: Site, directory: Path) -> Iterator[None]:
    """Another server takes over as the master, and gives the lead back."""
    other = PrivateRedis(directory / "other")
    other.start()
    try:
        with site.store as store, redis.Redis(port=other.port) as second:
            second.replicaof("127.0.0.1", site.redis.port)
            until(lambda: second.info("replication")["master_link_status"] == "up", "the first sync")
            second.replicaof("no", "one")
            store.replicaof("127.0.0.1", other.port)
            until(lambda: store.info("replication").get("master_link_status") == "up", "the second sync")
            yield
            store.replicaof("no", "one")
    finally:
        other.stop()


@contextmanager
def replica_of_another(site: Site, directory: Path) -> Iterator[None]:
    """An operator's mistake: it becomes the replica of an empty server, and loses everything."""
    other = PrivateRedis(directory / "other")
    other.start()
    try:
        with site.store as store:
            store.replicaof("127.0.0.1", other.port)
            until(lambda: store.info("replication").get("master_link_status") == "up", "the sync")
            yield
            store.replicaof("no", "one")
    finally:
        other.stop()


@contextmanager
def too_many_clients(site: Site, directory: Path) -> Iterator[None]:
    with site.store as store:
        store.config_set("maxclients", 1)
        for link in site.cluster.store.values():
            link.break_connections()
        yield
        store.config_set("maxclients", 10000)


@contextmanager
def slow(site: Site, directory: Path) -> Iterator[None]:
    for link in site.cluster.store.values():
        link.slow(delay_seconds=0.2)
    yield
    site.links.heal()


@contextmanager
def asleep(site: Site, directory: Path) -> Iterator[None]:
    """It answers nobody for longer than a lease."""
    with site.store as store:
        store.execute_command("DEBUG", "SLEEP", str(OUTAGE_SECONDS))
    yield


@contextmanager
def busy(site: Site, directory: Path) -> Iterator[None]:
    """A script of somebody else does not end."""

    def loop() -> None:
        with site.store as other, contextlib.suppress(redis.ResponseError):  # that it was killed
            other.eval("while true do end", 0)

    with site.store as store:
        store.config_set("busy-reply-threshold", 50)
        thread = threading.Thread(target=loop)
        thread.start()
        yield
        store.script_kill()
        thread.join()


FAULTS = (
    Fault("killed", killed, ("Redis at", "trying again"), ("FAIL  store", "refused the connection")),
    Fault("restarted", restarted),
    Fault("emptied (FLUSHALL)", emptied),
    Fault("restarted without its data", restarted_empty),
    Fault("out of memory", out_of_memory, ("out of memory (maxmemory)",), ("FAIL  store", "out of memory")),
    Fault("a replica whose master is away", replica_of_nobody, ("replica",), ("FAIL  store", "replica")),
    Fault("failed over, and back", failed_over, ("replica",)),
    Fault("the replica of an empty server for a while", replica_of_another, ("replica",)),
    Fault("out of clients", too_many_clients, ("Redis at", "trying again"), ("FAIL  store", "maxclients")),
    Fault("slow", slow),
    Fault("silent for longer than a lease", asleep),
    Fault("busy with a script of others", busy, ("SCRIPT KILL",), ("FAIL  store", "SCRIPT KILL")),
)


#: Those that `make test` runs.
SELECTED = ((emptied, "reduce"), (replica_of_nobody, "reduce"))


def cases() -> Iterator[object]:
    for fault in FAULTS:
        for phase in PHASES:
            outcome = "the daemons wait for it, or give it back what it lost; same bytes"
            marks = [pytest.mark.fault(fault=f"Redis {fault.name}", phase=phase, outcome=outcome)]
            marks += [pytest.mark.selected] if (fault.strike, phase) in SELECTED else []
            yield pytest.param(fault, phase, marks=marks, id=f"{fault.strike.__name__}-{phase}")


@pytest.mark.parametrize(("fault", "phase"), list(cases()))
def test_redis(site: Site, tmp_path: Path, reference: Path, fault: Fault, phase: str) -> None:
    job = site.reach(tmp_path, f"redis-{fault.strike.__name__.replace('_', '-')}-{phase}", phase)
    with fault.strike(site, tmp_path):
        if fault.logged:
            for name in site.cluster.names:
                site.wait_logged(name, *fault.logged)
        if fault.found and phase == "map":
            site.wait_told(*fault.found, command=("doctor",))
    site.prove(job, reference)
