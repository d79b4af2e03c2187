"""submit, cancel, register over memory adapters, with a stand-in for the coordinator."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mr.adapters.memory.broker import MemoryBroker
from mr.adapters.memory.exchange import MemoryBrokerServer
from mr.adapters.memory.state import MemoryStoreServer
from mr.adapters.memory.store import MemoryStore
from mr.cli import invoke
from mr.ports.broker import Delivery, OutgoingMessage
from mr.protocol import codec, queues
from mr.protocol.ids import JobId
from mr.protocol.jobs import CancelRequest, CodeManifest, JobRequest, RequestReply
from mr.protocol.records import JobState
from mr.settings import Settings
from tests.support.job_records import job_record
from tests.support.specs import make_spec


class Coordinator:
    """What answers requests: it accepts jobs, which at once end in the state `ends`."""

    def __init__(self) -> None:
        self.broker_server = MemoryBrokerServer()
        self.store_server = MemoryStoreServer()
        self.present = True
        self.refusal: str | None = None
        self.ends = JobState.COMPLETED
        self.requests: list[JobRequest] = []

    def open_store(self, settings: Settings) -> MemoryStore:
        return MemoryStore(server=self.store_server)

    def open_broker(self, settings: Settings) -> MemoryBroker:
        return AnsweringBroker(self)

    async def answer(self, delivery: Delivery) -> RequestReply:
        if delivery.type == "cancel":
            job_id = codec.decode(delivery.body, CancelRequest, codec.JSON).job_id
            await self._end(JobId(job_id), JobState.CANCELLED)
            return RequestReply(accepted=True, job_id=job_id)
        request = codec.decode(delivery.body, JobRequest, codec.JSON)
        self.requests.append(request)
        if self.refusal:
            return RequestReply(accepted=False, reason=self.refusal)
        job_id = JobId(request.job_id or "")
        await self._create(job_id, request)
        if self.ends.terminal:
            await self._end(job_id, self.ends)
        return RequestReply(accepted=True, job_id=job_id)

    async def _store(self) -> MemoryStore:
        store = MemoryStore(server=self.store_server)
        await store.connect()
        return store

    async def _create(self, job_id: JobId, request: JobRequest) -> None:
        store = await self._store()
        manifest = await store.registered(request.job)
        assert manifest is not None, "the code is stored before the job is asked for"
        assert await store.get_code(manifest.code_id) is not None  # type: ignore[arg-type]
        spec = make_spec(job_id, 1, code=manifest)
        await store.create_job(spec, (), job_record(job_id, output=request.output), 1)

    async def _end(self, job_id: JobId, state: JobState) -> None:
        record = job_record(job_id, state, cause="" if state is JobState.COMPLETED else "bad luck")
        await (await self._store()).end_job(record, (), 1, 60)


class AnsweringBroker(MemoryBroker):
    """A connection that brings the coordinator along, when there is one."""

    def __init__(self, coordinator: Coordinator) -> None:
        super().__init__(coordinator.broker_server)
        self._coordinator = coordinator

    async def connect(self) -> None:
        await super().connect()
        if self._coordinator.present:
            await self.consume(queues.JOBS_QUEUE, self._on_request, prefetch=1)

    async def _on_request(self, delivery: Delivery) -> None:
        reply = await self._coordinator.answer(delivery)
        await self.publish(
            OutgoingMessage(
                routing_key=delivery.reply_to or "",
                body=codec.encode(reply, codec.JSON),
                correlation_id=delivery.correlation_id,
            )
        )
        await delivery.ack()


@pytest.fixture
def coordinator(monkeypatch: pytest.MonkeyPatch) -> Coordinator:
    coordinator = Coordinator()
    monkeypatch.setattr("mr.cli.connect.open_store", coordinator.open_store)
    monkeypatch.setattr("mr.cli.connect.open_broker", coordinator.open_broker)
    monkeypatch.setenv("MR_CONNECT_SECONDS", "0.05")
    return coordinator


@pytest.fixture
def submit(tmp_path: Path) -> Callable[..., int]:
    """Submits a small job with these flags; returns the exit code."""
    job_file = tmp_path / "job.py"
    job_file.write_text("def map_fn(key, line):\n    yield line, 1\n")

    def run(*flags: str) -> int:
        return invoke(
            ["submit", str(job_file), "/in", "-o", str(tmp_path / "out"), "--job-id", "mine", *flags]
        )

    return run


def test_id_is_printed_once_the_job_is_accepted(
    coordinator: Coordinator, submit: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert submit("--priority", "3", "--param", "a=b") == 0
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("mine\n", "")
    (request,) = coordinator.requests
    assert (request.inputs, request.output) == (["/in"], str(tmp_path / "out"))
    assert (request.priority, request.params, request.maps) == (3, {"a": "b"}, None)


def test_refusal_is_one_line(
    coordinator: Coordinator, submit: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    coordinator.refusal = "/in: no such file"
    assert submit() == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "mr: /in: no such file\n")


def test_without_a_coordinator_the_job_is_queued_and_its_id_told(
    coordinator: Coordinator, submit: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    coordinator.present = False
    assert submit() == 3
    captured = capsys.readouterr()
    assert captured.out == "mine\n"
    assert captured.err.startswith("mr: job mine is queued, but no coordinator has answered yet")
    assert coordinator.broker_server.queues[queues.JOBS_QUEUE].ready == 1


@pytest.mark.parametrize(
    ("ends", "code", "last"),
    [
        (JobState.COMPLETED, 0, "done in 1.0 s in /out"),
        (JobState.FAILED, 1, "mr: job mine failed: bad luck"),
        (JobState.CANCELLED, 1, "mr: job mine was cancelled: bad luck"),
    ],
)
def test_waiting_ends_with_the_job(
    coordinator: Coordinator,
    submit: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    ends: JobState,
    code: int,
    last: str,
) -> None:
    coordinator.ends = ends
    assert submit("--wait") == code
    captured = capsys.readouterr()
    assert captured.out == "mine\n"
    assert captured.err.splitlines()[-1] == last


def test_standard_input_is_not_submitted(
    coordinator: Coordinator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["submit", "job.py", "-", "-o", str(tmp_path / "out")]) == 2
    assert "standard input" in capsys.readouterr().err


def test_watch_and_cancel_find_the_job_by_a_part_of_its_id(
    coordinator: Coordinator, submit: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    coordinator.ends = JobState.MAPPING
    assert submit() == 0
    assert invoke(["cancel", "mi"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "job mine is cancelled"
    assert invoke(["watch", "mi"]) == 1
    assert invoke(["watch", "mi", "--json"]) == 1
    assert '"state":"CANCELLED"' in capsys.readouterr().out
    assert invoke(["cancel", "nothing"]) == 2


def test_register_stores_code_under_a_name(
    coordinator: Coordinator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job_file = tmp_path / "count.py"
    job_file.write_text("def map_fn(key, line):\n    yield line, 1\n")
    assert invoke(["register", str(job_file), "--name", "words"]) == 0
    name, _, code_id = capsys.readouterr().out.strip().partition(" = ")
    assert name == "words"
    manifest = codec.unpack(coordinator.store_server.registry["words"], CodeManifest)
    assert (manifest.code_id, manifest.entry) == (code_id, "count.py")
    assert code_id in coordinator.store_server.code
    assert invoke(["register", str(job_file), "--name", "a/b"]) == 2
