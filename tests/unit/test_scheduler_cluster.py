"""What the coordinator remembers of workers, and for how long."""

from coordinator.cluster import Cluster
from mr.protocol.ids import JobId, WorkerId
from mr.settings import Settings


def test_blame_is_forgotten_with_time() -> None:
    cluster = Cluster(Settings(exclude_seconds=100.0))
    for number in range(5):
        cluster.blame(WorkerId(f"w{number}"), JobId("job"), now=float(number))
    cluster.observe(103.0, ())
    assert set(cluster._blames) == {WorkerId("w4")}


def test_a_paused_worker_is_remembered_until_its_pause_ends() -> None:
    cluster = Cluster(Settings(exclude_seconds=100.0, exclude_jobs=1))
    cluster.blame(WorkerId("w"), JobId("job"), now=0.0)
    cluster._blames[WorkerId("w")].paused_until = 150.0
    cluster.observe(149.0, ())
    assert cluster._blames
    cluster.observe(151.0, ())
    assert not cluster._blames
