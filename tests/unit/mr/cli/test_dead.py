"""`mr dead` over a broker in memory."""

import asyncio
import json
from collections.abc import Callable

import msgspec
import pytest

from mr.adapters.memory.broker import MemoryBroker
from mr.adapters.memory.exchange import MemoryBrokerServer
from mr.cli import invoke
from mr.dead_letters import DEAD_BODY_BYTES, dead_letter
from mr.ports.broker import Delivery, OutgoingMessage
from mr.protocol.codec import JSON
from mr.protocol.queues import DEAD_QUEUE, JOBS_QUEUE, TASKS_QUEUE
from tests.contract.inbox import to
from tests.support.waiting import eventually

CANCEL = to(
    JOBS_QUEUE, b'{"job_id": 7}', content_type=JSON, type="cancel", reply_to="answers", correlation_id="17"
)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> MemoryBrokerServer:
    """The broker that the command connects to."""
    server = MemoryBrokerServer()
    monkeypatch.setattr("mr.cli.connect.open_broker", lambda settings: MemoryBroker(server))
    return server


def bury(server: MemoryBrokerServer, message: OutgoingMessage, reason: str) -> None:
    """Send a message to its queue, and have its consumer bury it."""

    async def burying() -> None:
        broker = MemoryBroker(server)
        await broker.connect()

        async def refuse(delivery: Delivery) -> None:
            await dead_letter(broker, delivery, reason)
            await delivery.ack()

        waiting = server.queues[DEAD_QUEUE].ready
        await broker.consume(message.routing_key, refuse, prefetch=1)
        server.route(message)
        await eventually(lambda: server.queues[DEAD_QUEUE].ready == waiting + 1)
        await broker.close()

    asyncio.run(burying())


def taken(server: MemoryBrokerServer, queue: str) -> list[Delivery]:
    """All that is ready in a queue."""

    async def taking() -> list[Delivery]:
        broker, found = MemoryBroker(server), asyncio.Queue[Delivery]()
        await broker.connect()
        count = server.queues[queue].ready
        await broker.consume(queue, found.put, prefetch=max(count, 1))
        return [await found.get() for _ in range(count)]

    return asyncio.run(taking())


@pytest.fixture
def listed(
    server: MemoryBrokerServer, capsys: pytest.CaptureFixture[str]
) -> Callable[[], list[dict[str, object]]]:
    """What `mr dead list --json` prints."""

    def listing() -> list[dict[str, object]]:
        capsys.readouterr()
        assert invoke(["dead", "list", "--json"]) == 0
        found: list[dict[str, object]] = json.loads(capsys.readouterr().out)
        return found

    return listing


def test_letters_are_listed_with_their_reasons_and_stay(
    server: MemoryBrokerServer, capsys: pytest.CaptureFixture[str]
) -> None:
    bury(server, CANCEL, "job_id is no text")
    bury(server, to(TASKS_QUEUE, b"\xff"), "not msgpack")
    for _ in range(2):
        assert invoke(["dead", "list"]) == 0
        head, first, second = capsys.readouterr().out.splitlines()
        assert head.split() == ["ID", "FAILED", "AT", "QUEUE", "KIND", "SIZE", "REASON"]
        assert "mr.jobs" in first and "cancel" in first and "job_id is no text" in first
        assert "mr.tasks" in second and "not msgpack" in second


def test_a_letter_sent_again_is_the_message_that_it_was(
    server: MemoryBrokerServer, listed: Callable[[], list[dict[str, object]]]
) -> None:
    bury(server, CANCEL, "no coordinator of this version")
    bury(server, to(TASKS_QUEUE, b"\xff"), "stays")
    first, second = listed()
    assert invoke(["dead", "retry", str(first["id"])]) == 0
    (again,) = taken(server, JOBS_QUEUE)
    assert (again.body, again.content_type, again.type) == (CANCEL.body, JSON, "cancel")
    assert (again.reply_to, again.correlation_id) == ("answers", "17")
    assert listed() == [second]


def test_all_are_removed(server: MemoryBrokerServer, listed: Callable[[], list[dict[str, object]]]) -> None:
    bury(server, CANCEL, "one")
    bury(server, CANCEL, "two")
    assert invoke(["dead", "purge", "--all"]) == 0
    assert listed() == []
    assert server.queues[JOBS_QUEUE].ready == 0


def test_what_cannot_be_sent_again_stays_and_the_others_go(
    server: MemoryBrokerServer,
    listed: Callable[[], list[dict[str, object]]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    bury(server, to(JOBS_QUEUE, b"x" * (DEAD_BODY_BYTES + 1)), "too long")
    server.route(to(DEAD_QUEUE, b"from somebody else", headers={"queue": "mr.control.gone"}))
    bury(server, CANCEL, "good")
    assert invoke(["dead", "retry", "--all"]) == 1
    told = capsys.readouterr()
    assert "sent again: 1" in told.out
    assert f"of its {DEAD_BODY_BYTES + 1} bytes {DEAD_BODY_BYTES} were kept" in told.err
    assert "its queue 'mr.control.gone' is gone; remove it with: mr dead purge" in told.err
    assert [letter["queue"] for letter in listed()] == [JOBS_QUEUE, "mr.control.gone"]


def test_secrets_in_a_letter_are_not_shown(
    server: MemoryBrokerServer, capsys: pytest.CaptureFixture[str]
) -> None:
    request = {"version": 1, "job": "words", "inputs": 3, "secret_params": {"password": "sesame"}}
    bury(server, to(JOBS_QUEUE, msgspec.json.encode(request), content_type=JSON), "inputs is no list")
    (name,) = [line.split()[0] for line in _listed_lines(capsys)]
    assert invoke(["dead", "show", name[:3]]) == 0
    told = capsys.readouterr().out
    assert "inputs is no list" in told and '"inputs": 3' in told and "sesame" not in told


def _listed_lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    assert invoke(["dead", "list"]) == 0
    return capsys.readouterr().out.splitlines()[1:]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["retry"], "or give --all"),
        (["purge", "abc", "--all"], "or give --all"),
        (["show", "abc"], "no dead letter 'abc'; `mr dead list` shows those there are"),
        (["purge", ""], "no dead letter ''"),
    ],
)
def test_a_wrong_name_is_told(
    server: MemoryBrokerServer, arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bury(server, CANCEL, "reason")
    assert invoke(["dead", *arguments]) == 2
    assert told in capsys.readouterr().err
    assert server.queues[DEAD_QUEUE].ready == 1


def test_a_body_that_json_cannot_show_is_shown_as_text(
    server: MemoryBrokerServer, listed: Callable[[], list[dict[str, object]]]
) -> None:
    server.route(to(DEAD_QUEUE, msgspec.msgpack.encode({b"key": 1})))
    (letter,) = listed()
    assert "key" in str(letter["body"])


@pytest.mark.parametrize("header", ["nan", "1e9", "-1", "9" * 400, "²"])
def test_headers_of_any_kind_are_shown(
    server: MemoryBrokerServer, header: str, listed: Callable[[], list[dict[str, object]]]
) -> None:
    server.route(to(DEAD_QUEUE, b"abc", headers={"at": header, "bytes": header}))
    (letter,) = listed()
    assert (letter["at"], letter["bytes"]) == (0, 3)
    assert invoke(["dead", "list"]) == 0
