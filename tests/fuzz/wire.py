"""Targets that read from a socket: the shuffle server, and the daemon's end of a child's channel."""

import asyncio
import random
import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec

from mr.protocol.codec import MSGPACK, pack, unpack
from mr.protocol.failures import Failure, FailureKind
from mr.protocol.ids import AttemptId, Incarnation, JobId, TaskId, WorkerId
from mr.protocol.records import MapOutput, PartOutput, TaskResult, TaskStats, WorkerBeat
from mr.settings import Settings
from mr.workers.messages import Done, Failed, Progress
from mr.workers.process.channel import frame
from mr.workers.process.executor import Executor, _Running
from mr.workers.shuffle.segment_index import write_index
from mr.workers.shuffle.transfer.served_outputs import ServedOutputs
from mr.workers.shuffle.transfer.server import ShuffleServer
from mr.workers.shuffle.transfer.wire import FetchRequest, fetch_path, length_table
from tests.fuzz.harness import Case
from tests.fuzz.values import ABSURD, damaged, message, plain
from tests.support.job_records import worker_beat

JOB = JobId("job-1")
MAP = TaskId("map-00000")
#: How long an answer to a malformed request is waited for; none need come.
ANSWER_SECONDS = 0.05
#: In which a good request has its answer.
SERVED_SECONDS = 20.0

_HEAD = (
    "{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\nContent-Length: {length}\r\n{more}\r\n"
)


class ShuffleRequests:
    """Whatever a connection brings, the server answers the next good request, and gives no file unasked."""

    name = "shuffle"
    case_seconds = 30.0

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="mr-fuzz-"))
        self._outputs = ServedOutputs()
        self._server: ShuffleServer | None = None
        self._port = 0
        for index, segments in enumerate(((b"aaa", b"SECRET"), (b"b", b""))):
            path = self.directory / f"map-{index}"
            with path.open("wb") as file:
                file.writelines(segments)
                write_index(file, [len(segment) for segment in segments])
            attempt = AttemptId(JOB, TaskId(f"map-{index:05d}"), 1)
            self._outputs.add(
                "secret", MapOutput(attempt, WorkerId("w"), Incarnation("i"), "", "", str(path))
            )

    async def close(self) -> None:
        """Stop serving."""
        if self._server is not None:
            await self._server.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    @staticmethod
    def _request(body: bytes, **changes: Any) -> bytes:
        fields = {
            "method": "POST",
            "path": fetch_path(JOB, 0),
            "token": "Bearer secret",
            "length": len(body),
            "more": "",
        }
        return _HEAD.format(**{**fields, **changes}).encode("utf-8", "surrogateescape") + body

    def draw(self, rng: random.Random) -> Case:
        """A request with something absurd in its body, its head or its bytes."""
        valid = FetchRequest(((MAP, 1), (TaskId("map-00001"), 1)), 0)
        body = msgspec.msgpack.encode(valid)
        texts = [value for value in ABSURD if isinstance(value, str)]
        odd = rng.choice(texts)
        match rng.randrange(7):
            case 0 | 1:
                data = self._request(message(rng, plain(valid), MSGPACK))
            case 2:
                path = rng.choice(
                    (f"/v1/jobs/{odd}/partitions/0", f"/v1/jobs/job-1/partitions/{odd}", odd, "*")
                )
                data = self._request(body, path=path)
            case 3:
                data = self._request(
                    body, token=rng.choice((odd, f"Bearer {odd}", f"bearer\t{odd}", "Basic é"))
                )
            case 4:
                length = rng.choice((-1, 0, 1, 2**31, 2**64, "9" * 400, "1e3", "0x10", "", len(body) + 1))
                data = self._request(body, length=length)
            case 5:
                more = rng.choice(
                    (
                        "Transfer-Encoding: chunked\r\n",
                        "Expect: 100-continue\r\n",
                        "Connection: upgrade\r\nUpgrade: websocket\r\n",
                        "Content-Encoding: gzip\r\n",
                        "Content-Encoding: deflate\r\n",
                        "Range: bytes=0-\r\n",
                        "Content-Type: multipart/form-data\r\n",
                        f"X: {'x' * 20_000}\r\n",
                        "X: y\r\n" * 3000,
                        "\0: \x01\r\n",
                    )
                )
                data = self._request(body, more=more, method=rng.choice(("POST", "GET", "CONNECT", odd)))
            case _:
                data = damaged(rng, self._request(body))
        return [("request", data)]

    async def check(self, case: Case) -> None:
        """Send it, then a good request."""
        if self._server is None:
            self._server = ShuffleServer(self._outputs)
            self._port = await self._server.start("127.0.0.1", 0)
        for _, data in case:
            answer = await self._send(data, ANSWER_SECONDS)
            assert not answer.startswith(b"HTTP/1.1 5"), answer[:500]
            asked = data.count(b"secret") == 1 and b"/partitions/1" in data
            assert b"SECRET" not in answer or asked, "a segment was given that nobody asked for"
            good = self._request(msgspec.msgpack.encode(FetchRequest(((MAP, 1),), 0)))
            served = await self._send(good, SERVED_SECONDS)
            assert served.startswith(b"HTTP/1.1 200") and served.endswith(length_table([3]) + b"aaa"), served

    async def _send(self, data: bytes, seconds: float) -> bytes:
        """What comes back on a connection of its own until it is closed or the time is over."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        received = b""
        try:
            async with asyncio.timeout(seconds):
                writer.write(data)
                while more := await reader.read(1 << 16):
                    received += more
        except (TimeoutError, ConnectionError):
            return received
        finally:
            writer.transport.abort()
        return received


class Channels:
    """Whatever a child writes on its channel, what the worker records of it can be stored and read."""

    name = "channel"
    case_seconds = 10.0

    def __init__(self) -> None:
        self._executor = Executor(slots=1, settings=Settings())

    async def close(self) -> None:
        """Nothing was started."""

    def draw(self, rng: random.Random) -> Case:
        """Some frames, one of them absurd or damaged."""
        attempt = AttemptId(JOB, MAP, 1)
        part = PartOutput(attempt, WorkerId("w"), Incarnation("i"), 3, 30, "0" * 16)
        valid = (
            Progress(0.5, 7, "map"),
            Done(TaskResult(part, TaskStats(records_in=3, cpu_seconds=0.5, counters={"a": 1}))),
            Failed(Failure(FailureKind.USER_ERROR, "no", traceback="t")),
        )
        good = frame(valid[0])
        body = message(rng, plain(rng.choice(valid)))
        data = good + len(body).to_bytes(4, "big") + body
        return [("frames", damaged(rng, data) if rng.random() < 0.3 else data)]

    async def check(self, case: Case) -> None:
        """Listen to it as the executor does."""
        for _, data in case:
            reader = asyncio.StreamReader()
            reader.feed_data(data)
            reader.feed_eof()
            running = _Running(_RUN_TASK, _Child(reader))  # type: ignore[arg-type]
            answer = await self._executor._listen(running, b"")
            beat = worker_beat("w", running.describe(60.0))
            assert unpack(pack(beat), WorkerBeat).running[0].records == running.describe(60.0).records
            if isinstance(answer, Done):
                assert unpack(pack(answer.result), TaskResult) == answer.result
            elif answer is not None:
                unpack(pack(answer.failure), Failure)


_RUN_TASK: Any = SimpleNamespace(attempt=AttemptId(JOB, MAP, 1))


class _Child:
    """A child whose process does not matter."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self.reader = reader
        self.writer = self

    def write(self, data: bytes) -> None:
        """Take what the daemon sends."""

    async def drain(self) -> None:
        """It is taken at once."""

    def memory_bytes(self) -> int:
        return 0

    def cpu_percent(self) -> float:
        return 0.0
