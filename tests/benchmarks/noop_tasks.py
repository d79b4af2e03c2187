"""Empty tasks per second through real RabbitMQ and Redis. Usage: noop_tasks.py [--tasks N] [--workers N].

Starts private servers, a coordinator and workers; a map-only job of N tasks, each with one short line to
read, says what a task costs from claim to commit. Server start and process start are not counted.
"""

import argparse
import contextlib
import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.support.cluster import Cluster
from tests.support.commands import write_job
from tests.support.servers import PrivateRabbitMQ, PrivateRedis


def measure(cluster: Cluster, directory: Path, tasks: int, job_id: str) -> float:
    """Run one job of so many tasks; seconds from its acceptance to its end, by the coordinator's clock."""
    source = directory / f"{job_id}.txt"
    source.write_text("x\n" * tasks)
    job = write_job(directory / "noop.py", "def map_fn(offset, line):", "    return ()")
    output = directory / f"out-{job_id}"
    arguments = (
        "submit",
        job,
        source,
        "-o",
        output,
        "-m",
        tasks,
        "-r",
        0,
        "--job-id",
        job_id,
        "--wait",
        "-q",
    )
    cluster.succeed(*arguments, timeout=600)
    history = cluster.json("status", job_id)["history"]
    return float(history[-1]["at"] - history[0]["at"])


def main() -> None:
    """Print the rate, and the same as a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mr-bench-") as name, contextlib.ExitStack() as stack:
        root = Path(name)
        servers = (PrivateRabbitMQ(root / "rabbitmq"), PrivateRedis(root / "redis", persistent=True))
        for server in servers:
            stack.callback(server.stop)
            server.start()
        urls = [server.url for server in servers]
        cluster = stack.enter_context(Cluster(root, *urls, workers=options.workers))
        measure(cluster, root, 4 * options.workers, "warm-up")
        seconds = measure(cluster, root, options.tasks, "measured")
    rate = options.tasks / seconds
    print(f"{options.tasks} empty tasks on {options.workers} workers: {seconds:.2f} s, {rate:.0f} tasks/s")
    print(json.dumps({"benchmark": "noop_tasks", "tasks": options.tasks, "seconds": seconds}))


if __name__ == "__main__":
    main()
