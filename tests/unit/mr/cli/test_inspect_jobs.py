"""The commands that look, over a memory store in place of Redis."""

import asyncio
import json
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from mr.adapters.memory.state import MemoryStoreServer
from mr.adapters.memory.store import MemoryStore
from mr.cli import invoke
from mr.protocol.codec import as_json
from mr.protocol.failures import Failure, FailureKind
from mr.protocol.ids import AttemptId, JobId, TaskId
from mr.protocol.records import (
    FailureGroup,
    JobRecord,
    JobState,
    Manifest,
    ManifestPart,
    Refusal,
    TaskState,
    TaskStats,
)
from tests.support.job_records import job_record, running_task, task_record, worker_beat
from tests.support.specs import make_manifest, make_spec

Ask = Callable[..., str]
Change = Callable[[MemoryStore], Coroutine[Any, Any, None]]

MANIFEST = make_manifest()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> MemoryStoreServer:
    """The store that the commands will find behind any URL."""
    server = MemoryStoreServer()
    monkeypatch.setattr("mr.cli.connect.open_store", lambda settings: MemoryStore(server=server))
    return server


@pytest.fixture
def ask(server: MemoryStoreServer, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Runs a command that must succeed; returns what it printed."""

    def run(*arguments: str, code: int = 0) -> str:
        assert invoke(arguments) == code
        captured = capsys.readouterr()
        return captured.out if code == 0 else captured.err

    return run


def change(server: MemoryStoreServer, act: Change) -> None:
    """Write to the store as a coordinator or worker would."""

    async def connected() -> None:
        store = MemoryStore(server=server)
        await store.connect()
        await act(store)

    asyncio.run(connected())


def put(server: MemoryStoreServer, record: JobRecord, *tasks: Any) -> None:
    async def act(store: MemoryStore) -> None:
        await store.create_job(make_spec(record.job_id), (), record, 1)
        await store.save_job(record, tasks, 1)

    change(server, act)


def test_jobs_are_listed(server: MemoryStoreServer, ask: Ask) -> None:
    put(server, job_record("words-1", maps_committed=1))
    put(server, job_record("grep-7", JobState.COMPLETED, name="grep", maps_committed=4, reduces_committed=2))
    lines = ask("jobs").splitlines()
    assert lines[0].split() == ["JOB", "NAME", "STATE", "MAPS", "REDUCES", "FAILED", "SUBMITTED", "TOOK"]
    assert {line.split()[0]: line.split()[2:5] for line in lines[1:]} == {
        "words-1": ["MAPPING", "1/4", "0/2"],
        "grep-7": ["COMPLETED", "4/4", "2/2"],
    }
    assert {job["job_id"] for job in json.loads(ask("jobs", "--json"))} == {"words-1", "grep-7"}
    assert len(ask("jobs", "--last", "1").splitlines()) == 2


def test_status_tells_history_counters_and_causes(server: MemoryStoreServer, ask: Ask) -> None:
    failure = Failure(kind=FailureKind.USER_ERROR, message="ValueError: x", traceback="Traceback ...")
    record = job_record(
        stats=TaskStats(counters={"bad_lines": 7}),
        failures=(FailureGroup(failure, 2, (TaskId("map-00000"),)),),
        waiting_for="no live workers",
    )
    read, made = TaskStats(records_in=12_345, records_out=50), TaskStats(records_in=50, records_out=7)
    put(server, record, task_record(stats=read), task_record("reduce-00000", stats=made))
    told = ask("status", "words")
    for part in (
        "12,345 records",
        "shuffled     50 rec",
        "written      7 rec",
        "bad_lines",
        "no live workers",
        "accepted",
        "Traceback ...",
    ):
        assert part in told
    assert json.loads(ask("status", "words-1", "--json"))["state"] == "MAPPING"


def test_tasks_show_what_runs_and_what_ran(server: MemoryStoreServer, ask: Ask) -> None:
    stats = TaskStats(records_in=50, cpu_seconds=1.0, wall_seconds=2.0, peak_memory_bytes=1024 * 1024)
    put(
        server,
        job_record(),
        task_record("map-00000", TaskState.COMMITTED, worker="w1", stats=stats),
        task_record("map-00001", worker="w2", failures=1),
        task_record("map-00002", TaskState.WAITING, attempt=0),
    )
    running = running_task(
        "map-00001", attempt=2, progress=0.25, records=9, memory_bytes=2048, cpu_percent=97.0, phase="spill"
    )
    change(server, lambda store: store.heartbeat(worker_beat("w2", running), 10))
    rows = {line.split()[0]: line for line in ask("tasks", "words-1").splitlines()}
    for part in ("COMMITTED", "w1", "2.0 s", "100%", "50", "1.0 MiB", "50%"):
        assert part in rows["map-00000"]
    for part in ("RUNNING", "w2", "3.0 s", "25%", "9", "2.0 KiB", "97%", "spill"):
        assert part in rows["map-00001"]
    assert rows["map-00002"].split() == ["map-00002", "WAITING", "0", "0"]
    assert len(ask("tasks", "words-1", "--state", "running").splitlines()) == 2
    assert json.loads(ask("tasks", "words-1", "--json"))[1]["running"]["attempt"] == 2


def test_workers_show_their_slots_and_what_limits_them(server: MemoryStoreServer, ask: Ask) -> None:
    beat = worker_beat(
        "w1",
        running_task(phase="merge"),
        cpu_percent=99.0,
        memory_percent=42.0,
        disk_free_bytes=3 * 1024**3,
        limited_by="CPU at 99%",
    )

    async def act(store: MemoryStore) -> None:
        await store.heartbeat(beat, 10)
        await store.heartbeat(worker_beat("w0"), 0)

    change(server, act)
    told = ask("workers")
    rows = {line.split()[0]: line for line in told.split("\n\n")[0].splitlines()}
    for part in ("live      1     2      2", "99%", "42%", "3.0 GiB", "CPU at 99%", "h:7070"):
        assert part in rows["w1"]
    assert "gone" in rows["w0"]
    slots = told.split("\n\n")[1].splitlines()
    assert slots[1].split()[:5] == ["w1", "words-1", "map-00000", "1", "merge"]
    assert [view["live"] for view in json.loads(ask("workers", "--json"))] == [False, True]


def test_stalled_attempts_are_told_everywhere(server: MemoryStoreServer, ask: Ask) -> None:
    put(server, job_record(), *(task_record(f"map-{n:05d}") for n in range(13)))
    stalled = [
        running_task(f"map-{n:05d}", phase="map", elapsed_seconds=800.0, stalled_seconds=725.0 - n)
        for n in range(12)
    ]
    slow = running_task("map-00012", phase="map", elapsed_seconds=800.0, stalled_seconds=299.0)
    other = running_task("map-00000", "other-1", elapsed_seconds=800.0, stalled_seconds=800.0)
    beat = worker_beat("w1", *stalled, slow, other)
    change(server, lambda store: store.heartbeat(beat, 10.0))
    status = ask("status", "words-1").splitlines()
    assert "stalled      no record finished for 12m05s in map-00000 (worker w1)" in status
    assert sum("no record finished" in line for line in status) == 10
    assert "             and 2 more" in status
    told = json.loads(ask("status", "words-1", "--json"))["stalled"]
    assert [stall["task_id"] for stall in told] == [f"map-{n:05d}" for n in range(12)]
    assert told[0]["worker"] == "w1" and told[0]["seconds"] == 725.0
    for lines in (ask("tasks", "words-1").splitlines(), ask("workers").splitlines()):
        rows = {
            line.split()[0] if line.startswith("map") else line.split()[2]: line
            for line in lines[1:]
            if "map-" in line and "other" not in line
        }
        assert "map, no record finished for 12m05s" in rows["map-00000"]
        assert "no record" not in rows["map-00012"]
    ended = job_record(state=JobState.COMPLETED)
    change(server, lambda store: store.save_job(ended, (), 1))
    assert json.loads(ask("status", "words-1", "--json"))["stalled"] == []


def test_logs_are_headed_by_their_attempt(server: MemoryStoreServer, ask: Ask) -> None:
    put(server, job_record(), task_record("map-00000"))
    change(
        server,
        lambda store: store.put_log(AttemptId(JobId("words-1"), TaskId("map-00000"), 2), "hello\n", 1000),
    )
    assert ask("logs", "words-1", "map-00000") == "== map-00000, attempt 2\nhello\n"
    assert json.loads(ask("logs", "words-1", "--json")) == {"map-00000/2": "hello\n"}


def test_results_are_listed_and_printed(server: MemoryStoreServer, ask: Ask, tmp_path: Path) -> None:
    parts = []
    for index, text in enumerate(("a\t1\nb\t2\n", "c\t3\n")):
        path = tmp_path / f"part-0000{index}"
        path.write_text(text)
        rows = text.count("\n")
        parts.append(ManifestPart(TaskId("reduce-0"), 1, str(path), rows, len(text), "0" * 16))
    manifest = Manifest(1, JobId("words-1"), "words", 0.0, 3, 12, tuple(parts), {})
    (tmp_path / "_SUCCESS").write_text(as_json(manifest))
    put(server, job_record(state=JobState.COMPLETED, output=str(tmp_path)))
    listed = ask("results", "words-1")
    assert str(tmp_path / "part-00001") in listed
    assert listed.splitlines()[-1] == "3 rows, 12 B"
    assert ask("results", "words-1", "--cat") == "a\t1\nb\t2\nc\t3\n"
    assert ask("results", "words-1", "--head", "2") == "a\t1\nb\t2\n"
    assert json.loads(ask("results", "words-1", "--json"))["rows"] == 3
    assert "exclude each other" in ask("results", "words-1", "--cat", "--head", "1", code=2)
    Path(json.loads(ask("results", "words-1", "--json"))["parts"][0]["path"]).unlink()
    assert "cannot be read: No such file" in ask("results", "words-1", "--cat", code=2)


@pytest.mark.parametrize("command", ["status", "tasks", "logs", "results"])
def test_unknown_job_is_one_line(ask: Ask, command: str) -> None:
    assert ask(command, "nothing", code=2) == (
        "mr: there is no job 'nothing'; `mr jobs` lists those there are\n"
    )


def test_results_of_a_job_that_has_none(server: MemoryStoreServer, ask: Ask) -> None:
    put(server, job_record())
    assert "only a COMPLETED job has results" in ask("results", "words-1", code=1)


def test_a_task_that_was_never_seen_running_has_no_made_up_time(server: MemoryStoreServer, ask: Ask) -> None:
    failure = Failure(FailureKind.USER_ERROR, "no", wall_seconds=7.25)
    put(
        server,
        job_record(),
        task_record("map-00000", TaskState.FAILED, ended_at=1.8e9, failure=failure),
        task_record("map-00001", TaskState.CANCELLED, attempt=0, ended_at=1.8e9),
        task_record("map-00002", TaskState.FAILED, ended_at=1.8e9, started_at=1.8e9 - 61),
    )
    rows = {line.split()[0]: line for line in ask("tasks", "words-1").splitlines()}
    assert "7.2 s" in rows["map-00000"]
    assert rows["map-00001"].split() == ["map-00001", "CANCELLED", "0", "0"]
    assert "1m01s" in rows["map-00002"]


def test_names_of_others_do_not_reach_the_terminal_raw(server: MemoryStoreServer, ask: Ask) -> None:
    put(server, job_record(name="\x1b[2Jx\x9b", output="/\u202eout"), task_record("map-00000"))
    text = "red \x1b[31mtext\n"
    change(
        server, lambda store: store.put_log(AttemptId(JobId("words-1"), TaskId("map-00000"), 1), text, 1000)
    )
    for command in (["jobs"], ["status", "words-1"], ["jobs", "--json"], ["logs", "words-1"]):
        told = ask(*command)
        assert not {"\x1b", "\x9b", "\u202e"} & set(told)
    assert json.loads(ask("jobs", "--json"))[0]["name"] == "\x1b[2Jx\x9b"


REFUSAL = Refusal(
    job_id=JobId("nightly-1"), at=1000.0, reason="no such file: /in\x1b[2J", request={"output": "/out"}
)


def test_a_refused_request_is_shown_with_its_reason(server: MemoryStoreServer, ask: Ask) -> None:
    change(server, lambda store: store.put_refusal(REFUSAL, 60))
    told = ask("status", "nightly-1")
    assert "REFUSED: no such file: /in\\u001b[2J" in told and "/out" in told
    told_json = json.loads(ask("status", "nightly-1", "--json"))
    assert (told_json["state"], told_json["reason"]) == ("REFUSED", REFUSAL.reason)


@pytest.mark.parametrize("command", ["tasks", "logs", "results"])
def test_other_commands_name_the_refusal(server: MemoryStoreServer, ask: Ask, command: str) -> None:
    change(server, lambda store: store.put_refusal(REFUSAL, 60))
    assert "was refused: no such file: /in" in ask(command, "nightly-1", code=2)


def test_a_job_shows_that_another_request_for_its_id_was_refused(server: MemoryStoreServer, ask: Ask) -> None:
    put(server, job_record("nightly-1"))
    change(server, lambda store: store.put_refusal(REFUSAL, 60))
    told = ask("status", "nightly-1")
    assert "state          MAPPING" in told and "refused since  no such file" in told


def test_status_tells_that_no_coordinator_is_heard(server: MemoryStoreServer, ask: Ask) -> None:
    put(server, job_record(waiting_for="no live workers"))
    assert "waiting for  no coordinator heard of, no live workers" in ask("status", "words-1")
    server.leader, server.leader_until = "one", time.time() + 60
    assert "waiting for  no live workers" in ask("status", "words-1")
    server.leader_until, server.leader_seen = time.time(), time.time() - 20.2
    assert "waiting for  coordinator silent for 20 s, no live workers" in ask("status", "words-1")


def test_an_ended_job_waits_for_no_coordinator(server: MemoryStoreServer, ask: Ask) -> None:
    put(server, job_record(state=JobState.COMPLETED))
    assert "coordinator" not in ask("status", "words-1")
