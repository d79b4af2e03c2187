"""What users and operators are told on a real cluster, and what tasks are not."""

import json
from pathlib import Path

from tests.e2e.examples import EXAMPLES
from tests.e2e.gate import GatedJob
from tests.support.cluster import Cluster
from tests.support.commands import one_line, write_job
from tests.support.waiting import until

WORDS = EXAMPLES / "wordcount" / "job.py"
TEXT = EXAMPLES / "data" / "licences"


def test_a_used_id_belongs_to_one_request(cluster: Cluster, tmp_path: Path) -> None:
    flags = ("-o", tmp_path / "out", "-m", 2, "-r", 1, "--job-id", "nightly", "--wait")
    cluster.succeed("submit", WORDS, TEXT, *flags)
    cluster.succeed("submit", WORDS, TEXT, *flags)
    other = cluster.run("submit", WORDS, tmp_path, *flags)
    assert other.returncode == 2
    one_line(other.stderr, "nightly", "COMPLETED", f'["{TEXT}"] before', f'["{tmp_path}"] now')
    status = cluster.succeed("status", "nightly").stdout.decode()
    assert "COMPLETED" in status and "refused since" in status


def test_a_refused_request_leaves_a_trace(cluster: Cluster, tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    refused = cluster.run("submit", WORDS, missing, "-o", tmp_path / "out", "--job-id", "lost-one")
    assert refused.returncode == 2
    assert (
        f"REFUSED: no such file or directory: {missing}"
        in cluster.succeed("status", "lost-one").stdout.decode()
    )
    assert cluster.json("status", "lost-one")["state"] == "REFUSED"


def test_a_dead_coordinator_is_seen(cluster: Cluster, tmp_path: Path) -> None:
    job = GatedJob(cluster, tmp_path, "orphaned", "map", "-m", 2, "-r", 1).submit()
    job.wait_begun(2)
    cluster.kill("coordinator")
    try:
        until(
            lambda: "coordinator silent for" in cluster.succeed("status", job.job_id).stdout.decode(),
            "the silence to be told",
        )
    finally:
        cluster.ensure()
    job.open()
    job.wait_state("COMPLETED")
    assert "coordinator silent" not in cluster.succeed("status", job.job_id).stdout.decode()
    job.wait_clean()


def test_the_doctor_finds_a_redis_database_that_is_not_shared(cluster: Cluster) -> None:
    own = cluster.run("doctor", "--json")
    assert {f["what"]: f["level"] for f in json.loads(own.stdout)}["same store"] == "ok", own.stdout
    url = cluster.environment["MR_REDIS_URL"].rpartition("/")[0] + "/9"
    other = cluster.run("doctor", "--json", "--redis-url", url)
    assert other.returncode == 3
    found = [finding for finding in json.loads(other.stdout) if finding["what"] == "same store"]
    assert [finding["level"] for finding in found] == ["FAIL", "FAIL"]
    assert "coordinator" in found[0]["message"] and "3 worker(s)" in found[1]["message"]


def test_a_task_finds_no_password_and_its_secret_is_shown_nowhere(cluster: Cluster, tmp_path: Path) -> None:
    """The task looks where the kernel shows how its ancestors up to the daemon were started."""
    job = write_job(
        tmp_path / "job.py",
        "import os, mr",
        "from pathlib import Path",
        "def map_fn(offset, line):",
        "    process = os.getpid()",
        "    for name in ('task', 'template', 'daemon'):",
        "        place = Path('/proc', str(process))",
        "        yield name, (place / 'environ').read_bytes() + (place / 'cmdline').read_bytes()",
        "        process = (place / 'stat').read_text().rpartition(')')[2].split()[1]",
        "    yield 'secret', mr.param('key') == 'sesame'",
        "    1 / int(mr.param('divisor'))",
    )
    source = tmp_path / "input.txt"
    source.write_text("line\n")
    flags = (job, source, "--secret-param", "key=sesame", "--max-attempts", 1)
    cluster.succeed("submit", *flags, "-o", tmp_path / "out", "--param", "divisor=1", "--wait")
    told = (tmp_path / "out" / "part-00000").read_text()
    assert "secret\tTrue" in told and "MR_JOB_TEST_MARK" in told
    assert "worker" in told, "the daemon was looked at"
    for url in (cluster.environment["MR_BROKER_URL"], cluster.environment["MR_REDIS_URL"]):
        assert url not in told
    failed = cluster.run(
        "submit", *flags, "-o", tmp_path / "no", "--param", "divisor=0", "--job-id", "secretive", "--wait"
    )
    assert failed.returncode == 1 and b"--secret-param key=env:key" in failed.stderr
    shown = [failed.stderr.decode()]
    for look in ("status", "tasks", "logs"):
        shown += [
            cluster.succeed(look, "secretive").stdout.decode(),
            json.dumps(cluster.json(look, "secretive")),
        ]
    shown += [cluster.log(name) for name in cluster.daemons]
    assert not [text for text in shown if "sesame" in text.replace("== 'sesame'", "")]
