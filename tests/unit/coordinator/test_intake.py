"""Every request is answered: accepted once, or refused with the reason; what is malformed is kept."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mr.adapters.memory.broker import MemoryBroker
from mr.adapters.memory.store import MemoryStore
from mr.adapters.system_clock import SystemClock
from mr.bundle import build_bundle, content_id
from mr.coordinator import intake
from mr.coordinator.core.job_records import submitted_record
from mr.coordinator.intake import Intake
from mr.errors import BadJob, BadMessage, NotFound
from mr.ports.broker import Delivery, OutgoingMessage
from mr.protocol.codec import JSON, as_json, pack
from mr.protocol.ids import CodeId, JobId
from mr.protocol.jobs import JobSpec, RequestReply, ResumeRequest, Split
from mr.protocol.queues import DEAD_QUEUE, JOBS_QUEUE
from mr.protocol.records import JobRecord
from mr.settings import Settings
from tests.support.specs import make_manifest
from tests.support.zips import POISON


class Desk:
    """An intake over memory ports, with one registered job and one input file."""

    def __init__(self, tmp_path: Path) -> None:
        self.tmp_path = tmp_path
        self.jobs: list[JobSpec] = []
        self.taken: set[str] = set()
        self.broker = MemoryBroker()
        self.store = MemoryStore(lambda: 0.0)
        self.unfinished = 0
        #: Jobs that are coordinated and that the store has lost.
        self.known: dict[JobId, JobRecord] = {}
        self.intake = Intake(
            Settings(max_jobs_per_sender=2),
            self.broker,
            self.store,
            SystemClock(),
            self._take,
            self._cancel,
            self._resume,
            self._check_share,
            lambda job: self.known.get(job),
        )

    async def open(self) -> None:
        await self.broker.connect()
        await self.store.connect()
        job_file = self.tmp_path / "count.py"
        job_file.write_text("def map_fn(k, v):\n    yield v, 1\n")
        (self.tmp_path / "in.txt").write_text("a\nb\n")
        bundle = build_bundle(job_file, ())
        manifest = make_manifest(bundle.code_id, ("map_fn",), entry=bundle.entry)
        await self.store.put_code(CodeId(bundle.code_id), bundle.data, manifest, 3600.0)
        await self.store.register("count", manifest, 3600.0)
        await self.broker.consume(JOBS_QUEUE, self.intake.on_delivery, prefetch=8)

    async def _take(self, spec: JobSpec, splits: tuple[Split, ...], bundle: bytes) -> bool:
        if spec.job_id in self.taken:
            return False
        self.taken.add(spec.job_id)
        self.jobs.append(spec)
        return await self.store.create_job(spec, splits, submitted_record(spec), 1)

    async def _cancel(self, job: JobId, keep: bool) -> bool:
        self.kept = keep
        return job in self.taken

    async def _resume(self, request: ResumeRequest) -> RequestReply:
        if request.job_id not in self.taken:
            raise NotFound("there is no such job")
        return RequestReply(accepted=True, job_id=request.job_id, note=f"with {request.job}")

    def _check_share(self, sender: str) -> None:
        if self.unfinished >= 2:
            raise BadJob(f"the sender {sender!r} has {self.unfinished} unfinished jobs")

    def request(self, **changes: Any) -> dict[str, Any]:
        whole = {
            "version": 1,
            "job": "count",
            "inputs": [str(self.tmp_path / "in.txt")],
            "output": str(self.tmp_path / "out"),
            "job_id": "one",
        }
        return {k: v for k, v in {**whole, **changes}.items() if v is not None}

    async def ask(self, body: object, type: str = "") -> dict[str, Any]:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        message = OutgoingMessage(routing_key=JOBS_QUEUE, body=raw, content_type=JSON, type=type)
        answer: dict[str, Any] = json.loads(await self.broker.request(message, timeout_seconds=30))
        return answer


@pytest.fixture
async def desk(tmp_path: Path) -> Desk:
    desk = Desk(tmp_path)
    await desk.open()
    return desk


async def test_a_request_is_planned_and_accepted(desk: Desk) -> None:
    assert await desk.ask(desk.request()) == {"accepted": True, "job_id": "one"}
    (spec,) = desk.jobs
    assert (spec.maps, spec.reduces, spec.options.name) == (1, 0, "count")
    assert (desk.tmp_path / "out" / "_temporary" / "one").is_dir()


async def test_a_job_without_an_id_gets_one(desk: Desk) -> None:
    answer = await desk.ask(desk.request(job_id=None))
    assert answer["accepted"] and answer["job_id"] == desk.jobs[0].job_id


async def test_the_same_id_twice_at_once_is_one_job(desk: Desk) -> None:
    answers = await asyncio.gather(desk.ask(desk.request()), desk.ask(desk.request()))
    assert sorted(a.get("duplicate", False) for a in answers) == [False, True]
    assert all(a["accepted"] for a in answers) and len(desk.jobs) == 1


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"job": "nothing"}, "registered"),
        ({"job": "sha256:" + "0" * 64}, "mr doctor"),
        ({"inputs": ["/no/such/file"]}, "/no/such/file"),
        ({"inputs": ["in.txt"]}, "relative"),
        ({"output": "out"}, "relative"),
        ({"reduces": 2}, "reduce_fn"),
        ({"maps": 0}, "maps"),
        ({"version": 2}, "version"),
        ({"surprise": 1}, "surprise"),
        ({"job_id": "../../etc"}, "job_id"),
        ({"job_id": "one\n"}, "job_id"),
        ({"inputs": []}, "inputs"),
    ],
)
async def test_a_bad_request_is_refused_with_its_reason(
    desk: Desk, changes: dict[str, Any], reason: str
) -> None:
    answer = await desk.ask(desk.request(**changes))
    assert not answer["accepted"] and reason in answer["reason"], answer
    assert desk.jobs == [] and not (desk.tmp_path / "out").exists()


async def test_what_is_malformed_is_kept_with_its_reason(desk: Desk) -> None:
    kept: asyncio.Queue[Delivery] = asyncio.Queue()
    await desk.broker.consume(DEAD_QUEUE, kept.put, prefetch=1)
    answer = await desk.ask(b"{not json")
    assert not answer["accepted"] and "malformed" in answer["reason"]
    assert (await kept.get()).body == b"{not json"


async def test_an_output_in_use_is_refused(desk: Desk) -> None:
    await desk.ask(desk.request())
    answer = await desk.ask(desk.request(job_id="two"))
    assert not answer["accepted"] and "one" in answer["reason"]


async def test_cancel_is_answered(desk: Desk) -> None:
    await desk.ask(desk.request())
    assert (await desk.ask({"version": 1, "job_id": "one"}, type="cancel"))["accepted"]
    unknown = await desk.ask({"version": 1, "job_id": "none"}, type="cancel")
    assert unknown == {"accepted": False, "job_id": "none", "reason": "there is no such job"}


async def test_a_job_left_out_because_its_spec_is_unreadable_is_not_called_complete(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    await desk.ask(desk.request())
    desk.taken.clear()  # the coordinator that runs now has left it out

    async def unreadable(_: JobId) -> JobSpec | None:
        raise BadMessage("a stored JobSpec cannot be read, did another version write it?")

    monkeypatch.setattr(desk.store, "get_spec", unreadable)
    answer = await desk.ask({"version": 1, "job_id": "one"}, type="cancel")
    assert not answer["accepted"]
    assert answer["reason"] == "a stored JobSpec cannot be read, did another version write it?"


async def test_a_job_can_be_cancelled_while_it_is_planned(desk: Desk) -> None:
    planned = asyncio.create_task(desk.ask(desk.request()))
    cancelled = asyncio.create_task(desk.ask({"version": 1, "job_id": "one"}, type="cancel"))
    assert (await planned)["accepted"] and (await cancelled)["accepted"]


# --- an id that is used already


async def test_the_same_request_again_is_accepted_once_more(desk: Desk) -> None:
    first = desk.request(split_size="64KiB", params={"a": "1", "b": "2"}, secret_params={"k": "one"})
    again = desk.request(split_size=65536, params={"b": "2", "a": "1"}, secret_params={"k": "another"})
    await desk.ask(first)
    assert await desk.ask(again) == {"accepted": True, "job_id": "one", "duplicate": True}


async def test_code_registered_anew_is_no_other_request(desk: Desk) -> None:
    await desk.ask(desk.request())
    (desk.tmp_path / "count.py").write_text("def map_fn(k, v):\n    yield v, 2\n")
    bundle = build_bundle(desk.tmp_path / "count.py", ())
    manifest = make_manifest(bundle.code_id, ("map_fn",), entry=bundle.entry)
    await desk.store.put_code(CodeId(bundle.code_id), bundle.data, manifest, 3600.0)
    await desk.store.register("count", manifest, 3600.0)
    assert (await desk.ask(desk.request()))["duplicate"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("inputs", ["/elsewhere"]),
        ("output", "/elsewhere"),
        ("name", "other"),
        ("priority", 4),
        ("params", {"day": "monday"}),
        ("job", "sha256:" + "0" * 64),
    ],
)
async def test_another_request_with_a_used_id_is_refused_showing_both(
    desk: Desk, field: str, value: object
) -> None:
    await desk.ask(desk.request())
    answer = await desk.ask(desk.request(**{field: value}))
    assert not answer["accepted"]
    shown = value if isinstance(value, str) else json.dumps(value).replace(" ", "")
    assert f"{field}: " in answer["reason"] and f"{shown} now" in answer["reason"]
    assert "SUBMITTED" in answer["reason"] and len(desk.jobs) == 1


async def test_another_request_is_refused_while_the_store_has_lost_the_job(desk: Desk) -> None:
    await desk.ask(desk.request())
    record = await desk.store.get_job(JobId("one"))
    assert record is not None
    desk.store.server.jobs.clear()  # until the coordinator, which knows it, has written it back
    desk.known[record.job_id] = record
    answer = await desk.ask(desk.request(output=str(desk.tmp_path / "elsewhere")))
    assert not answer["accepted"] and "choose another id" in answer["reason"]
    assert (await desk.ask(desk.request()))["duplicate"]


async def test_a_job_that_an_older_version_recorded_is_taken_for_the_same(desk: Desk) -> None:
    await desk.ask(desk.request())
    record = await desk.store.get_job(JobId("one"))
    assert record is not None
    await desk.store.save_job(msgspec.structs.replace(record, request={}), (), 1)
    assert (await desk.ask(desk.request(output="/elsewhere")))["duplicate"]


# --- what is refused leaves a trace


async def test_a_refused_request_leaves_its_reason(desk: Desk) -> None:
    answer = await desk.ask(desk.request(inputs=["/no/such/file"], secret_params={"key": "sesame"}))
    refusal = await desk.store.get_refusal(JobId("one"))
    assert refusal is not None and refusal.reason == answer["reason"]
    assert refusal.request["inputs"] == '["/no/such/file"]'
    assert "sesame" not in str(refusal)


async def test_the_trace_of_a_refusal_is_bounded(desk: Desk) -> None:
    await desk.ask(desk.request(inputs=["/no/such/file" + "x" * 100_000] * 5))
    refusal = await desk.store.get_refusal(JobId("one"))
    assert refusal is not None and len(pack(refusal)) < 4000


async def test_a_senders_unfinished_jobs_are_bounded(desk: Desk) -> None:
    desk.unfinished = 2
    answer = await desk.ask(desk.request())
    assert not answer["accepted"] and "2 unfinished jobs" in answer["reason"]
    desk.unfinished = 1
    assert (await desk.ask(desk.request()))["accepted"]
    desk.unfinished = 2
    assert (await desk.ask(desk.request()))["duplicate"], "what was accepted stays accepted"


async def test_secret_params_reach_the_spec_and_nothing_that_is_shown(desk: Desk) -> None:
    await desk.ask(desk.request(params={"a": "open"}, secret_params={"key": "sesame"}))
    (spec,) = desk.jobs
    assert spec.secret_params == {"key": "sesame"} and spec.options.params == {"a": "open"}
    record = await desk.store.get_job(JobId("one"))
    assert record is not None and record.request["secret_params"] == "key"
    assert "sesame" not in as_json(record)


async def test_a_ping_is_answered_with_the_stores_identity(desk: Desk) -> None:
    assert await desk.ask({}, type="ping") == {"accepted": True, "store": await desk.store.identity()}


@pytest.mark.parametrize(
    "changes",
    [
        {"split_size": "9" * 400},
        {"split_size": 2**70},
        {"split_size": "8193T"},
        {"task_memory": "999999999999999T"},
        {"task_timeout": "9" * 30},
        {"task_timeout": 10**400},
        {"output": "/tmp/a\0b"},
        {"inputs": ["/tmp/a\0b"]},
        {"maps": 10**9},
        {"encoding": "x" * 5000},
        {"job": "x" * 5000},
        {"name": "\0" * 300},
    ],
)
async def test_a_request_with_an_absurd_value_is_refused(desk: Desk, changes: dict[str, Any]) -> None:
    reply = await desk.ask(desk.request(**changes))
    assert not reply["accepted"] and reply["reason"]
    assert (await desk.ask(desk.request()))["accepted"]


async def test_a_request_over_which_the_coordinator_fails_is_answered_and_buried(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def confused(*_: Any) -> None:
        raise RuntimeError("no such state")

    monkeypatch.setattr(intake, "plan_job", confused)
    reply = await desk.ask(desk.request())
    assert reply == {
        "accepted": False,
        "reason": "the coordinator failed over this request: RuntimeError: no such state",
    }
    assert (await desk.broker.depth(DEAD_QUEUE)).ready == 1
    monkeypatch.undo()
    assert (await desk.ask(desk.request()))["accepted"]


@pytest.mark.parametrize("name", ["unnamed", "bomb", "link", "another entry", "many"])
async def test_a_poisonous_bundle_is_refused(desk: Desk, name: str) -> None:
    data = POISON[name]()
    code = make_manifest(content_id(data), ("map_fn",))
    await desk.store.put_code(CodeId(code.code_id), data, code, 3600.0)
    reply = await desk.ask(desk.request(job=code.code_id))
    assert not reply["accepted"] and "bundle" in reply["reason"]
    assert "out" not in os.listdir(desk.tmp_path)  # noqa: PTH208
    assert (await desk.ask(desk.request()))["accepted"]


async def test_a_request_of_an_unknown_type_is_refused(desk: Desk) -> None:
    request = desk.request()
    answer = await desk.ask(request, type="unheard-of")
    assert not answer["accepted"] and "type is 'unheard-of'" in str(answer["reason"])
    assert (await desk.ask(request, type=""))["accepted"]
