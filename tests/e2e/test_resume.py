"""`mr resume`: a job that failed or was cancelled goes on from its committed tasks."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import own_cluster
from tests.e2e.gate import GatedJob
from tests.e2e.references import same_parts
from tests.support.cluster import Cluster
from tests.support.commands import write_job
from tests.support.waiting import until

MAPS, REDUCES = 6, 4

MAP_SIDE = (
    "import mr",
    "def map_fn(offset, line):",
    "    for word in line.split():",
    "        yield word, 1",
    "def partition_fn(key, partitions):",
    "    return len(key) % partitions",
)
BROKEN = (
    *MAP_SIDE,
    "def reduce_fn(word, counts):",
    "    if len(word) % 4 == 3:",
    "        raise ValueError('no such word')",
    "    yield word, sum(counts)",
)
REPAIRED = (*MAP_SIDE, "def reduce_fn(word, counts):", "    yield word, 10 * sum(counts)")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster on servers of its own: which worker keeps what is looked at in its spools."""
    with own_cluster(tmp_path_factory.mktemp("resume"), workers=2, slots=2) as cluster:
        yield cluster


@pytest.fixture
def words(tmp_path: Path) -> Path:
    path = tmp_path / "words.txt"
    path.write_text("".join(f"{'w' * (n % 40 + 1)} {'v' * (n % 7 + 1)}\n" for n in range(3000)))
    return path


def attempts(cluster: Cluster, job: str, kind: str) -> dict[str, int]:
    """Task -> number of its last attempt."""
    tasks: list[dict[str, Any]] = cluster.json("tasks", job)
    records = [task["record"] for task in tasks]
    return {r["task_id"]: r["attempt"] for r in records if r["task_id"].startswith(kind)}


def history(cluster: Cluster, job: str) -> list[str]:
    return [f"{step['state']} {step['cause']}" for step in cluster.json("status", job)["history"]]


def failed(cluster: Cluster, words: Path, job: str, *lines: str) -> Path:
    """Submit a job that fails; returns its output directory."""
    directory = words.parent
    file = write_job(directory / f"{job}.py", *lines)
    output = directory / f"out-{job}"
    flags = ("-m", MAPS, "-r", REDUCES, "--max-attempts", 2)
    ended = cluster.run("submit", file, words, "-o", output, *flags, "--job-id", job, "--wait")
    assert ended.returncode == 1, ended.stderr
    assert f"resume it with: mr resume {job}" in ended.stderr.decode()
    return output


def test_repaired_reduces_go_on_from_the_committed_maps(cluster: Cluster, words: Path) -> None:
    output = failed(cluster, words, "repaired", *BROKEN)
    before = attempts(cluster, "repaired", "map")
    assert cluster.job_files("repaired"), "its map outputs are kept"
    assert "mr resume repaired" in cluster.succeed("status", "repaired").stdout.decode()
    fixed = write_job(words.parent / "fixed.py", *REPAIRED)
    ended = cluster.run("resume", "repaired", "--code", fixed, "--wait")
    assert ended.returncode == 0, ended.stderr
    assert f"{MAPS} of {MAPS} maps and 0 of {REDUCES} reduces are kept" in ended.stderr.decode()
    assert attempts(cluster, "repaired", "map") == before, "no map ran again"
    assert attempts(cluster, "repaired", "reduce")["reduce-00003"] == 3, "attempt numbers go on"
    steps = history(cluster, "repaired")
    assert "MAPPING resumed by its owner" in steps and steps[-1].startswith("COMPLETED")
    assert cluster.json("status", "repaired")["resumed"] == 1
    embedded = words.parent / "embedded"
    cluster.succeed("run", fixed, words, "-o", embedded, "-m", MAPS, "-r", REDUCES)
    same_parts(output, embedded)
    until(lambda: not cluster.job_files("repaired"), "its files go once it has completed")
    again = cluster.run("resume", "repaired")
    assert again.returncode == 2 and "it has completed" in again.stderr.decode()


def test_code_that_changes_what_maps_make_runs_everything_again(cluster: Cluster, words: Path) -> None:
    failed(cluster, words, "remapped", *BROKEN)
    changed = [line.replace("word, 1", "word, 2") for line in REPAIRED]
    fixed = write_job(words.parent / "fixed.py", *changed)
    ended = cluster.run("resume", "remapped", "--code", fixed, "--wait")
    assert ended.returncode == 0, ended.stderr
    assert "everything runs again: what maps make depends on map_fn" in ended.stderr.decode()
    assert all(number > 1 for number in attempts(cluster, "remapped", "map").values())


def test_a_cancelled_job_goes_on_from_the_maps_that_were_kept(cluster: Cluster, tmp_path: Path) -> None:
    job = GatedJob(cluster, tmp_path, "cancelled", "reduce", "-m", 5, "-r", 2).submit()
    job.wait_begun(1)
    cluster.succeed("cancel", "cancelled", "--keep")
    assert job.wait_state("CANCELLED") and cluster.job_files("cancelled")
    # A worker that keeps some is killed and starts again in the same spool: it adopts what was kept.
    keeper = cluster.job_files("cancelled")[0].relative_to(cluster.spool).parts[0]
    cluster.kill(keeper)
    cluster.ensure()
    until(lambda: "map outputs of job cancelled" in cluster.log(keeper), f"{keeper} to adopt what was kept")
    job.open()
    ended = cluster.run("resume", "cancelled", "--wait")
    assert ended.returncode == 0, ended.stderr
    assert "5 of 5 maps and 0 of 2 reduces are kept" in ended.stderr.decode()
    assert set(attempts(cluster, "cancelled", "map").values()) == {1}, "no map ran again"
    same_parts(job.output, job.run_embedded())


def test_a_job_cancelled_in_its_map_phase_keeps_the_maps_that_committed(
    cluster: Cluster, tmp_path: Path
) -> None:
    half = tmp_path / "half"
    file = write_job(
        tmp_path / "job.py",
        "import os, time, mr",
        "def map_fn(offset, line):",
        f"    while line.startswith('wait') and not os.path.exists({str(half)!r}):",
        "        time.sleep(0.02)",
        "    yield line, 1",
        "reduce_fn = mr.agg.sum",
    )
    for n in range(4):
        (tmp_path / f"in-{n}.txt").write_text("wait\n" if n == 3 else f"line {n}\n")
    output, job = tmp_path / "out", "half"
    flags = ("-m", 4, "-r", 2, "--job-id", job)
    cluster.succeed("submit", file, *sorted(tmp_path.glob("in-*.txt")), "-o", output, *flags)
    until(lambda: cluster.json("status", job)["maps_committed"] == 3, "3 maps are committed")
    cluster.succeed("cancel", job, "--keep")
    half.touch()
    ended = cluster.run("resume", job, "--wait")
    assert ended.returncode == 0, ended.stderr
    after = attempts(cluster, job, "map")
    assert after.pop("map-00003") > 1 and set(after.values()) == {1}


def test_a_cancelled_job_that_kept_nothing_runs_again_from_the_start(
    cluster: Cluster, tmp_path: Path
) -> None:
    job = GatedJob(cluster, tmp_path, "scratch", "reduce", "-m", 3, "-r", 2).submit()
    job.wait_begun(1)
    cluster.succeed("cancel", "scratch")
    job.wait_clean()
    until(lambda: not job.output.exists(), "its output is removed")
    job.open()
    ended = cluster.run("resume", "scratch", "--wait")
    assert ended.returncode == 0, ended.stderr
    assert "everything runs again" in ended.stderr.decode()
    same_parts(job.output, job.run_embedded())


def test_a_failed_map_only_job_keeps_its_parts(cluster: Cluster, tmp_path: Path) -> None:
    flag = tmp_path / "repaired"
    file = write_job(
        tmp_path / "job.py",
        "import os",
        "def map_fn(offset, line):",
        f"    if line == 'bad' and not os.path.exists({str(flag)!r}):",
        "        raise ValueError('not yet')",
        "    yield line, 1",
    )
    for n in range(4):
        (tmp_path / f"in-{n}.txt").write_text("bad\n" if n == 3 else f"line {n}\n")
    output, job = tmp_path / "out", "map-only"
    flags = ("-m", 4, "--max-attempts", 2, "--job-id", job, "--wait")
    inputs = sorted(tmp_path.glob("in-*.txt"))
    assert cluster.run("submit", file, *inputs, "-o", output, *flags).returncode == 1
    committed = {name for name, n in attempts(cluster, job, "map").items() if n == 1}
    flag.touch()
    ended = cluster.run("resume", job, "--wait")
    assert ended.returncode == 0, ended.stderr
    after = attempts(cluster, job, "map")
    assert committed and {after[name] for name in committed} == {1} and after["map-00003"] == 3
    cluster.succeed("run", file, *inputs, "-o", tmp_path / "embedded", "-m", 4)
    same_parts(output, tmp_path / "embedded")


def test_a_new_job_takes_the_place_of_a_failed_one(cluster: Cluster, words: Path) -> None:
    output = failed(cluster, words, "first", *BROKEN)
    assert list(output.glob("part-*")), "the parts that committed are kept"
    fixed = write_job(words.parent / "fixed.py", *REPAIRED)
    flags = ("-m", MAPS, "-r", REDUCES, "--job-id", "second", "--wait")
    ended = cluster.run("submit", fixed, words, "-o", output, *flags)
    assert ended.returncode == 0, ended.stderr
    assert f"what the ended job first had left in {output} was removed" in ended.stderr.decode()
    refused = cluster.run("resume", "first")
    assert refused.returncode == 2
    assert "its output directory is not its own any more" in refused.stderr.decode()
    assert cluster.state("first") == "FAILED"


def test_what_is_kept_goes_after_its_time(
    tmp_path: Path, words: Path, clean_broker_url: str, clean_redis_url: str
) -> None:
    settings = {"MR_RESUME_SECONDS": "4"}
    with Cluster(tmp_path, clean_broker_url, clean_redis_url, workers=1, settings=settings) as cluster:
        output = failed(cluster, words, "short", *BROKEN)
        assert output.exists() and cluster.job_files("short")
        until(lambda: not output.exists(), "its output is removed")
        until(lambda: not cluster.job_files("short"), "its map outputs are removed")
        refused = cluster.run("resume", "short")
        assert refused.returncode == 2 and "submit it again" in refused.stderr.decode()
        assert "mr resume" not in cluster.succeed("status", "short").stdout.decode()
