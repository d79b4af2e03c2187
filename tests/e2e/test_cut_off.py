"""A worker whose map outputs nobody can fetch, though it lives: its maps run elsewhere, and it is paused.

A worker that reaches no other, with packets that vanish, takes network namespaces: see `make bench-faults`.
"""

from pathlib import Path

from tests.e2e.gate import GatedJob
from tests.e2e.references import same_parts
from tests.support.cluster import Cluster
from tests.support.own_process import free_port


class CutCluster(Cluster):
    """Three workers; the first is advertised where nobody listens."""

    def addresses(self, name: str) -> tuple[str, str]:
        """Where a worker listens, and what it tells the others."""
        listen, advertise = super().addresses(name)
        return listen, f"127.0.0.1:{free_port()}" if name == "w1" else advertise


def test_a_worker_nobody_can_reach(tmp_path: Path, clean_services: tuple[str, str]) -> None:
    """Apart from others of these names. On a busy machine no lease runs out before anybody is blamed."""
    with CutCluster(tmp_path, *clean_services, settings={"MR_LEASE_SECONDS": "60"}) as cluster:
        job = GatedJob(cluster, tmp_path, "cut-off", "map", "-m", "6", "-r", "4").submit()
        job.wait_begun(3)  # one on each worker
        job.open()
        assert job.wait_state("COMPLETED", "FAILED") == "COMPLETED"
        same_parts(job.run_embedded(), job.output)
        limits = {view["beat"]["worker"]: view["beat"].get("limited_by", "") for view in views(cluster)}
        assert "workers w2, w3 cannot reach it" in limits["w1"]
        records = [task["record"] for task in cluster.json("tasks", job.job_id)]
        assert all(record.get("failures", 0) == 0 for record in records)
        # Each of the others made a map at least, and none of those was made again.
        maps = [record for record in records if record["task_id"].startswith("map")]
        assert {record["worker"] for record in maps} == {"w2", "w3"}
        assert 1 <= sum(record["attempt"] > 1 for record in maps) <= 4


def views(cluster: Cluster) -> list[dict[str, dict[str, str]]]:
    """The workers as `mr workers --json` shows them."""
    found: list[dict[str, dict[str, str]]] = cluster.json("workers")
    return found
