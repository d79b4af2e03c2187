"""Jobs started by another system: JSON on `mr.jobs`, published by a client not ours and not Python."""

import json
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.e2e.examples import EXAMPLES
from tests.e2e.gate import GatedJob
from tests.e2e.references import check_groups, input_files, word_count
from tests.support.amqp_tools import AmqpTools, depth
from tests.support.cluster import Cluster
from tests.support.waiting import until

TEXT = EXAMPLES / "data" / "licences"


@pytest.fixture
def tools(cluster: Cluster) -> AmqpTools:
    """The AMQP tools, and a job registered as `words`."""
    assert shutil.which("amqp-publish"), "amqp-publish is missing: apt-get install amqp-tools"
    cluster.succeed("register", EXAMPLES / "wordcount" / "job.py", "--name", "words")
    return AmqpTools(cluster.rabbitmq_url)


def request(place: Path, **changes: Any) -> dict[str, Any]:
    """A job message."""
    wanted = {
        "version": 1,
        "job": "words",
        "inputs": [str(TEXT)],
        "output": str(place),
        "maps": 4,
        "reduces": 2,
    }
    return {key: value for key, value in (wanted | changes).items() if value is not None}


def test_message_starts_a_job(cluster: Cluster, tools: AmqpTools, tmp_path: Path) -> None:
    output = tmp_path / "output"
    events = tmp_path / "events.jsonl"
    message = request(output, job_id="injected", priority=3)
    jsonschema.validate(message, cluster_schema(cluster))
    with tools.listening("mr.events", "job.*.injected", events):
        answer = tools.ask("mr.jobs", json.dumps(message))
        assert answer == {"accepted": True, "job_id": "injected"}
        until((output / "_SUCCESS").exists, "the job to complete")
        until(lambda: "COMPLETED" in events.read_text(), "the last event")
    check_groups(output, word_count(input_files(TEXT)))
    told = [json.loads(line) for line in events.read_text().splitlines()]
    assert [event["state"] for event in told] == ["SUBMITTED", "MAPPING", "REDUCING", "COMPLETED"]
    assert {event["job_id"] for event in told} == {"injected"}
    assert json.loads((output / "_SUCCESS").read_text())["job_id"] == "injected"


def cluster_schema(cluster: Cluster) -> dict[str, Any]:
    """The published JSON Schema of a request."""
    schema: dict[str, Any] = json.loads(cluster.succeed("schema").stdout)
    jsonschema.Draft202012Validator.check_schema(schema)
    return schema


def test_job_without_an_id_is_given_one(cluster: Cluster, tools: AmqpTools, tmp_path: Path) -> None:
    answer = tools.ask("mr.jobs", json.dumps(request(tmp_path / "output")))
    assert answer["accepted"]
    until(lambda: cluster.state(answer["job_id"]) == "COMPLETED", "the job to complete")


def test_doubled_message_is_one_job(cluster: Cluster, tools: AmqpTools, tmp_path: Path) -> None:
    message = json.dumps(request(tmp_path / "output", job_id="injected-twice"))
    assert tools.ask("mr.jobs", message) == {"accepted": True, "job_id": "injected-twice"}
    second = tools.ask("mr.jobs", message)
    assert second == {"accepted": True, "job_id": "injected-twice", "duplicate": True}
    until(lambda: cluster.state("injected-twice") == "COMPLETED", "the job to complete")
    assert tools.ask("mr.jobs", message)["duplicate"]


@pytest.mark.parametrize(
    ("body", "part"),
    [
        ("this is not JSON", "malformed"),
        ("[1, 2, 3]", "object"),
        ({"version": 2}, "version"),
        ({"version": None}, "version"),
        ({"job": "no-such-job"}, "no-such-job"),
        ({"job": "sha256:" + "0" * 64}, "sha256:"),
        ({"inputs": ["/no/such/place"]}, "/no/such/place"),
        ({"inputs": []}, "inputs"),
        ({"output": None}, "output"),
        ({"maps": "many"}, "maps"),
        ({"reduces": -1}, "reduces"),
        ({"priority": 11}, "priority"),
        ({"job_id": "../../etc/passwd"}, "job_id"),
        ({"redcues": 4}, "redcues"),
        ({"split_size": "64 parsecs"}, "split_size"),
    ],
    ids=str,
)
def test_wrong_message_is_answered_with_its_reason(
    tools: AmqpTools, tmp_path: Path, body: str | dict[str, Any], part: str
) -> None:
    output = tmp_path / "output"
    text = body if isinstance(body, str) else json.dumps(request(output, **body))
    answer = tools.ask("mr.jobs", text)
    assert answer["accepted"] is False
    assert part in answer["reason"]
    assert "\n" not in answer["reason"]
    assert not output.exists()


def test_wrong_content_type_is_refused(tools: AmqpTools, tmp_path: Path) -> None:
    answer = tools.ask("mr.jobs", json.dumps(request(tmp_path / "output")), content_type="text/csv")
    assert answer["accepted"] is False
    assert "text/csv" in answer["reason"]


def test_malformed_messages_disturb_nobody(cluster: Cluster, tools: AmqpTools, tmp_path: Path) -> None:
    job = GatedJob(cluster, tmp_path, "undisturbed", "map", "-m", 3, "-r", 2).submit()
    job.wait_begun(3)
    before = depth(cluster.rabbitmq_url, "mr.dead")
    for queue in ("mr.jobs", "mr.reports", "mr.tasks"):
        for body in ("", "{", "\x01\x02", '{"type": "committed"}'):
            tools.publish(queue, body)
    job.open()
    assert job.wait_state("COMPLETED", "FAILED") == "COMPLETED"
    until(lambda: depth(cluster.rabbitmq_url, "mr.dead") >= before + 12, "all of them to be in mr.dead")
    for name, daemon in cluster.daemons.items():
        assert daemon.poll() is None, f"{name} died of it: {cluster.log(name)}"
    letters = cluster.json("dead", "list")
    assert {letter["queue"] for letter in letters} >= {"mr.jobs", "mr.reports", "mr.tasks"}
    assert all(letter["reason"] for letter in letters)
    cluster.succeed("dead", "purge", "--all")
    assert cluster.json("dead", "list") == []


def test_output_that_exists_is_refused(tools: AmqpTools, tmp_path: Path) -> None:
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "precious").touch()
    answer = tools.ask("mr.jobs", json.dumps(request(tmp_path / "output")))
    assert answer["accepted"] is False
    assert "not empty" in answer["reason"]
    assert [p.name for p in (tmp_path / "output").iterdir()] == ["precious"]
