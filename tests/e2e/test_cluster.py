"""What users do with a cluster: look, cancel, wait, run several jobs at once."""

import os
import signal
from pathlib import Path

from tests.e2e.examples import EXAMPLES
from tests.e2e.gate import GatedJob, gone
from tests.e2e.references import same_parts
from tests.support.cluster import Cluster
from tests.support.commands import no_traceback_of_ours, one_line, write_job
from tests.support.waiting import until


def test_code_travels_with_what_it_includes(cluster: Cluster, tmp_path: Path) -> None:
    place = tmp_path / "code"
    place.mkdir()
    (place / "helper.py").write_text(
        "from pathlib import Path\n\nDATA = Path(__file__).with_name('stop.txt')\n"
    )
    (place / "stop.txt").write_text("the\nof\n")
    job = write_job(
        place / "job.py",
        "import helper",
        "STOP = set(helper.DATA.read_text().split())",
        "def map_fn(offset, line):",
        "    return [(word, 1) for word in line.split() if word not in STOP]",
        "def reduce_fn(word, counts):",
        "    yield word, sum(counts)",
    )
    source = tmp_path / "input.txt"
    source.write_text("the end of the line\n")
    includes = ("--include", place / "helper.py", "--include", place / "stop.txt")
    output = tmp_path / "output"
    cluster.succeed("submit", job, source, "-o", output, "-r", 1, *includes, "--wait")
    assert (output / "part-00000").read_text() == "end\t1\nline\t1\n"


def test_status_tells_the_phases(cluster: Cluster, tmp_path: Path) -> None:
    job = GatedJob(cluster, tmp_path, "phases", "reduce", "-m", 4, "-r", 2, "--name", "in phases").submit()
    job.wait_begun(2)
    status = job.status()
    assert status["state"] == "REDUCING"
    assert status["maps_committed"] == 4
    tasks = cluster.json("tasks", job.job_id)
    assert len(tasks) == 6
    workers = cluster.succeed("workers").stdout.decode()
    assert all(name in workers for name in cluster.names)
    assert job.job_id in workers or "reduce-0000" in workers
    job.open()
    job.wait_state("COMPLETED")
    status = job.status()
    assert [t["state"] for t in status["history"]] == ["SUBMITTED", "MAPPING", "REDUCING", "COMPLETED"]
    times = [t["at"] for t in status["history"]]
    assert times == sorted(times)
    assert job.job_id in cluster.succeed("jobs").stdout.decode()
    assert "in phases" in cluster.succeed("status", job.job_id).stdout.decode()
    results = cluster.json("results", job.job_id)
    assert results["rows"] == 978
    job.wait_clean()


def test_cancel_stops_tasks_and_removes_files(cluster: Cluster, tmp_path: Path) -> None:
    job = GatedJob(cluster, tmp_path, "cancelled", "reduce", "-m", 4, "-r", 3)
    waiting = job.submit_and_wait()
    pids = job.wait_begun(3)
    cluster.succeed("cancel", job.job_id)
    _, errors = waiting.communicate(timeout=30)
    assert waiting.returncode == 1
    assert b"cancelled" in errors
    until(lambda: all(map(gone, pids)), "the task processes to end")
    assert job.wait_state("CANCELLED") == "CANCELLED"
    until(lambda: not job.output.exists(), "the output to be removed")
    job.wait_clean()
    again = cluster.run("cancel", job.job_id)
    assert again.returncode == 2
    one_line(again.stderr, job.job_id)


def test_interrupting_a_wait_says_what_becomes_of_the_job(cluster: Cluster, tmp_path: Path) -> None:
    job = GatedJob(cluster, tmp_path, "interrupted", "map", "-m", 2, "-r", 1)
    waiting = job.submit_and_wait()
    job.wait_begun(1)
    os.killpg(waiting.pid, signal.SIGINT)
    _, errors = waiting.communicate(timeout=30)
    assert waiting.returncode == 130
    assert b"Traceback" not in errors
    assert job.job_id.encode() in errors
    job.open()
    if job.wait_state("COMPLETED", "CANCELLED") == "COMPLETED":
        assert (job.output / "_SUCCESS").exists()
    else:
        until(lambda: not job.output.exists(), "the output of a cancelled job to be removed")


def test_failed_job_shows_its_cause_once(cluster: Cluster, tmp_path: Path) -> None:
    source = tmp_path / "input.txt"
    source.write_text("".join(f"line {n}\n" for n in range(100)))
    job = write_job(tmp_path / "job.py", "def map_fn(offset, line):", "    yield line.no_such_method(), 1")
    output = tmp_path / "output"
    done = cluster.run("submit", job, source, "-o", output, "-m", 5, "-r", 0, "--job-id", "failing", "--wait")
    assert done.returncode == 1
    no_traceback_of_ours(done.stderr)
    assert done.stderr.decode().count("Traceback (most recent call last)") == 1, done.stderr.decode()
    assert b"no_such_method" in done.stderr
    assert f"{source}:".encode() in done.stderr
    assert [path.name for path in output.iterdir()] == ["_temporary"], "kept for mr resume"
    until(lambda: not cluster.job_files("failing"), "no file of the failed job in the spools")
    assert cluster.state("failing") == "FAILED"
    told = cluster.succeed("status", "failing").stdout.decode()
    assert told.count("Traceback (most recent call last)") == 1, told


def test_printed_lines_are_in_the_logs(cluster: Cluster, tmp_path: Path) -> None:
    source = tmp_path / "input.txt"
    source.write_text("a line\n")
    job = write_job(
        tmp_path / "job.py", "def map_fn(offset, line):", "    print('seen:', line)", "    yield line, 1"
    )
    cluster.succeed(
        "submit", job, source, "-o", tmp_path / "output", "-r", 0, "--job-id", "printing", "--wait"
    )
    assert "seen: a line" in cluster.succeed("logs", "printing").stdout.decode()


def test_higher_priority_goes_first(cluster: Cluster, tmp_path: Path) -> None:
    # One of the three slots is freed: two tasks that run at once may write their lines in any order.
    others = GatedJob(cluster, tmp_path, "others", "map", "-m", 2, "-r", 0).submit()
    blocker = GatedJob(cluster, tmp_path, "blocker", "map", "-m", 1, "-r", 0).submit()
    others.wait_begun(2)
    blocker.wait_begun(1)
    order = tmp_path / "order.txt"
    job = write_job(
        tmp_path / "job.py",
        "import os",
        "import mr",
        "def map_init():",
        "    with open(mr.param('order'), 'a') as file:",
        "        file.write(mr.param('tag') + '\\n')",
        "def map_fn(offset, line):",
        "    yield line, 1",
    )
    for tag, priority in (("low", 0), ("high", 4)):
        arguments = (
            job,
            blocker.source,
            "-o",
            tmp_path / tag,
            "-m",
            5,
            "-r",
            0,
            "--job-id",
            f"priority-{tag}",
        )
        parameters = ("--param", f"order={order}", "--param", f"tag={tag}", "--priority", priority)
        cluster.succeed("submit", *arguments, *parameters)
    until(
        lambda: all(cluster.state(f"priority-{tag}") == "MAPPING" for tag in ("low", "high")), "both planned"
    )
    blocker.open()
    for tag in ("low", "high"):
        until((tmp_path / tag / "_SUCCESS").exists, f"the job of {tag} priority")
    others.open()
    assert order.read_text().split() == ["high"] * 5 + ["low"] * 5


def test_two_jobs_at_once_keep_apart(cluster: Cluster, tmp_path: Path) -> None:
    jobs = [GatedJob(cluster, tmp_path, f"twin-{n}", "none", "-m", 3, "-r", n).submit() for n in (2, 3)]
    for job in jobs:
        assert job.wait_state("COMPLETED", "FAILED") == "COMPLETED"
        same_parts(job.run_embedded(), job.output)


def test_the_same_id_twice_is_one_job(cluster: Cluster, tmp_path: Path) -> None:
    job = GatedJob(cluster, tmp_path, "doubled", "map", "-m", 2, "-r", 1).submit()
    job.wait_begun(2)
    job.submit()
    job.open()
    assert job.wait_state("COMPLETED", "FAILED") == "COMPLETED"
    job.submit()
    assert len(job.begun()) == 2


def test_input_that_a_worker_cannot_see_is_named(cluster: Cluster, tmp_path: Path) -> None:
    source = tmp_path / "input.txt"
    source.write_text("a line\n")
    blocker = GatedJob(cluster, tmp_path, "hide-input", "map", "-m", 3, "-r", 0).submit()
    blocker.wait_begun(3)
    output = tmp_path / "output"
    job = EXAMPLES / "wordcount" / "job.py"
    cluster.succeed("submit", job, source, "-o", output, "-m", 1, "-r", 1, "--job-id", "unseen")
    until(lambda: cluster.state("unseen") == "MAPPING", "the job to be planned")
    source.unlink()
    blocker.open()
    until(lambda: cluster.state("unseen") == "FAILED", "the job to fail")
    told = cluster.succeed("status", "unseen").stdout.decode()
    assert str(source) in told
    assert any(name in told for name in cluster.names), told
