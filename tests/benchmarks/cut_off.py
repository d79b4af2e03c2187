"""Goal 23: a worker that reaches broker and store, but none of the other workers. Needs root.

The cluster lives in a network namespace of its own, the culprit in another one inside. Two links join
them: one for the servers, one for the shuffle. Cutting sends what is meant for the culprit's shuffle
address into a link at whose end nobody listens, so that packets vanish in both directions.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.benchmarks.fault_cluster import FaultCluster, Servers, servers
from tests.benchmarks.fault_goals import Row, count_row, ratio_row
from tests.support.own_process import free_port

HUB, CULPRIT = "10.77.0.1", "10.77.0.2"
HUB_SHUFFLE, CULPRIT_SHUFFLE = "10.79.0.1", "10.79.0.2"
WORKERS = 6


def goal(_: Servers) -> Iterator[Row]:
    """36 maps of 1 s and 36 reduces of 2 s on 6 workers, one of them cut off from the start."""
    what = "1 of 6 workers cut off from its peers alone"
    if os.geteuid() or not all(shutil.which(tool) for tool in ("ip", "unshare", "nsenter")):
        yield Row(23, what, "not run: needs root, ip, unshare and nsenter", "", None)
        return
    command = ["unshare", "--net", sys.executable, __file__]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        shown, errors = process.communicate(timeout=600)
    finally:
        process.wait(60)  # an interrupt reaches it too: it clears up what it started
    if process.returncode:
        raise RuntimeError(errors[-2000:])
    for line in shown.splitlines():
        if line.startswith("["):
            yield Row(*json.loads(line))


class CutCluster(FaultCluster):
    """Workers w2 and on beside the coordinator, w1 in the namespace of `outsider`."""

    def __init__(self, directory: Path, pair: Servers, broker_port: int, outsider: int) -> None:
        super().__init__(directory, pair, WORKERS)
        self._outsider = outsider
        self._culprit_urls = {
            "MR_BROKER_URL": f"amqp://guest:guest@{HUB}:{broker_port}/%2F",
            "MR_REDIS_URL": self.redis_url.replace("127.0.0.1", HUB),
        }

    def start_daemon(self, name: str) -> "subprocess.Popen[bytes]":
        """Start a daemon where it belongs."""
        if name == "coordinator":
            return super().start_daemon(name)
        address = CULPRIT_SHUFFLE if name == "w1" else HUB_SHUFFLE
        arguments = ["worker", "--id", name, "--slots", 1, "--spool", self.root / "spool" / name]
        arguments += ["--listen", f"{address}:0", "--advertise", address]
        options = {}
        if name == "w1":
            options["prefix"] = ("nsenter", f"--net=/proc/{self._outsider}/ns/net")
            options["env"] = {**self.environment, **self._culprit_urls}
        with (self.root / f"{name}.log").open("ab") as log:
            return self.start(*arguments, stdout=log, stderr=log, cwd=self.root, **options)


def network_of(process: object) -> int:
    """The network namespace of a process."""
    return Path(f"/proc/{process}/ns/net").stat().st_ino


def run(line: str) -> None:
    """Run one command."""
    subprocess.run(line.split(), check=True)


def join(outsider: int) -> None:
    """Lay both links, and the one that leads nowhere."""
    run("ip link set lo up")
    inside = f"nsenter --net=/proc/{outsider}/ns/net"
    run(f"{inside} ip link set lo up")
    for name, here, there in (("control", HUB, CULPRIT), ("shuffle", HUB_SHUFFLE, CULPRIT_SHUFFLE)):
        run(f"ip link add {name} type veth peer name {name}0")
        run(f"ip link set {name}0 netns {outsider}")
        run(f"ip addr add {here}/24 dev {name}")
        run(f"ip link set {name} up")
        run(f"{inside} ip addr add {there}/24 dev {name}0")
        run(f"{inside} ip link set {name}0 up")
    run("ip link add nowhere type veth peer name nowhere0")
    run("ip link set nowhere arp off up")
    run("ip link set nowhere0 arp off up")


def measure(directory: Path, outsider: int) -> Iterator[Row]:
    """The undisturbed run, then the one with the culprit cut off."""
    port = free_port()
    with servers(directory, config=f"listeners.tcp.other = {HUB}:{port}") as pair:
        cluster = CutCluster(directory / "cluster", pair, port, outsider)
        cluster.store.config_set("protected-mode", "no")
        cluster.store.config_set("bind", f"127.0.0.1 {HUB}")
        with cluster:
            calm = cluster.submit(36, 36, map_seconds=1.0, reduce_seconds=2.0).seconds()
            run(f"ip route add {CULPRIT_SHUFFLE}/32 dev nowhere")
            job = cluster.submit(36, 36, map_seconds=1.0, reduce_seconds=2.0)
            disturbed = job.seconds()
            home = network_of("self")
            maps = job.attempts("map")
            runs = Counter(attempt.task for attempt in maps)
            first = {attempt.task: attempt.network for attempt in reversed(maps)}
            intact = sum(n - 1 for task, n in runs.items() if first[task] == str(home))
            limited = str(cluster.json("workers"))
            yield ratio_row(23, "1 of 6 workers cut off from its peers alone", calm, disturbed, 2.0)
            yield count_row(23, "  maps of the other workers that ran again", intact)
            paused = "paused" in limited
            yield Row(23, "  the culprit is paused, and shown", str(paused), "True", paused)


def main() -> None:
    """Print the rows, a line of JSON each."""
    with tempfile.TemporaryDirectory(prefix="mr-bench-") as name:
        outsider = subprocess.Popen(["unshare", "--net", "sleep", "600"])
        try:
            while network_of(outsider.pid) == network_of("self"):
                pass
            join(outsider.pid)
            for row in measure(Path(name), outsider.pid):
                print(json.dumps([row.goal, row.what, row.measured, row.wanted, row.met]), flush=True)
        finally:
            outsider.kill()
            outsider.wait()


if __name__ == "__main__":
    main()
