"""Commands and scripts to one Redis server, tried again while it is away."""

import asyncio
import logging
import random
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any, TypeVar

import redis.asyncio
from redis import exceptions
from redis.asyncio.connection import BlockingConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from mr.adapters.redis.errors import explain, first_line, server_name
from mr.errors import BadMessage, BadSetting, StoreUnavailable

T = TypeVar("T")
K = TypeVar("K")

log = logging.getLogger(__name__)

#: Most connections that one process opens; further operations wait for a free one.
MAX_CONNECTIONS = 16
#: An operation without an answer for this long is tried again on a new connection.
ANSWER_SECONDS = 30.0
#: Commands sent in one round trip.
READ_CHUNK = 500
#: Delay before the second try of an operation. It doubles, with jitter, up to the longest delay.
FIRST_DELAY_SECONDS = 0.05
LONGEST_DELAY_SECONDS = 2.0

#: States of a server that may pass: away, loading its data, a replica during a failover, out of memory.
_PASSING = (
    exceptions.ConnectionError,
    exceptions.TimeoutError,
    exceptions.ReadOnlyError,
    exceptions.MasterDownError,
    exceptions.OutOfMemoryError,
    OSError,
)
#: The same, for which redis-py has no class: disk full, replicas away, a long script running.
_PASSING_CODES = ("MISCONF ", "NOREPLICAS ", "BUSY ")
_REFUSED = (exceptions.AuthenticationError, exceptions.AuthorizationError)


#: A script's line that names the files of lua/lib whose functions it calls.
_USES = re.compile(r"^-- uses: (.+)\n", re.MULTILINE)


@cache
def script_text(name: str) -> str:
    """Read a Lua script by its name without suffix; what it uses of lua/lib takes the place of that line."""
    text = _read_lua(f"{name}.lua")
    return _USES.sub(
        lambda found: "".join(_read_lua(f"lib/{used}.lua") for used in found[1].split(", ")), text
    )


def _read_lua(path: str) -> str:
    return resources.files("mr.adapters.redis").joinpath("lua", path).read_text("utf-8")


class RedisClient:
    """A client of one server. It may run an operation twice, so every operation must be safe to repeat."""

    def __init__(self, url: str, *, connect_seconds: float, reconnect_seconds: float) -> None:
        self._server = server_name(url)
        self._connect_seconds = connect_seconds
        self._reconnect_seconds = reconnect_seconds
        try:
            self._pool = BlockingConnectionPool.from_url(
                url,
                max_connections=MAX_CONNECTIONS,
                timeout=None,
                protocol=2,
                retry=Retry(NoBackoff(), 0),
                socket_timeout=ANSWER_SECONDS,
                socket_connect_timeout=connect_seconds,
            )
        except ValueError as error:
            raise BadSetting(
                "MR_REDIS_URL is not of the form redis://[[user]:password@]host:port/database"
            ) from error
        self._redis: Any = redis.asyncio.Redis(connection_pool=self._pool)
        self._scripts: dict[str, Any] = {}
        self._is_open = False
        self._has_answered = False
        #: Whether an outage was logged, but not yet its end.
        self._is_away = False

    async def open(self) -> None:
        """Connect. Raises StoreUnavailable with the reason after `connect_seconds`."""
        self._is_open = True
        try:
            await self._persist(lambda: self._redis.execute_command("PING"), self._connect_seconds)
        except StoreUnavailable:
            await self.close()
            raise
        self._has_answered = True

    async def close(self) -> None:
        """Disconnect."""
        self._is_open = False
        await self._redis.aclose()
        await self._pool.disconnect()

    async def command(self, *words: Any) -> Any:
        """Run one command."""
        return await self._persist(lambda: self._redis.execute_command(*words), self._reconnect_seconds)

    async def commands(self, commands: Sequence[Sequence[Any]], *, atomic: bool = False) -> list[Any]:
        """Run commands in one round trip; `atomic`: as one transaction (keys of one job only).

        Raises BadMessage when one of them meets a key of the wrong type.
        """
        answers = await self._pipeline(commands, atomic=atomic)
        for answer in answers:
            if isinstance(answer, BadMessage):
                raise answer
        return answers

    async def each(self, items: Sequence[K], words: Callable[[K], Sequence[Any]]) -> list[tuple[K, Any]]:
        """Run one command for each item, READ_CHUNK of them in a round trip; pairs of item and answer.

        A command that meets a key of the wrong type is answered by a BadMessage: the others are not affected.
        """
        pairs: list[tuple[K, Any]] = []
        for start in range(0, len(items), READ_CHUNK):
            chunk = items[start : start + READ_CHUNK]
            answers = await self._pipeline([words(item) for item in chunk], atomic=False)
            pairs += zip(chunk, answers, strict=True)
        return pairs

    async def _pipeline(self, commands: Sequence[Sequence[Any]], *, atomic: bool) -> list[Any]:
        async def run() -> list[Any]:
            async with self._redis.pipeline(transaction=atomic) as pipeline:
                for words in commands:
                    pipeline.execute_command(*words)
                found = await pipeline.execute(raise_on_error=False)
            for answer in found:
                if _is_passing(answer):
                    raise answer
            return [_data_error(answer) or answer for answer in found]

        answers = await self._persist(run, self._reconnect_seconds) if commands else []
        for answer in answers:
            if isinstance(answer, exceptions.RedisError):
                raise StoreUnavailable(explain(self._server, answer)) from answer
        return answers

    async def script(self, name: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        """Run a script of `lua/`; it is loaded into the server if the server does not have it."""
        if name not in self._scripts:
            self._scripts[name] = self._redis.register_script(script_text(name))
        return await self._persist(
            lambda: self._scripts[name](keys=list(keys), args=list(arguments)), self._reconnect_seconds
        )

    async def _persist(self, operation: Callable[[], Awaitable[T]], patience_seconds: float) -> T:
        """Try an operation until it succeeds, the server refuses it, or `patience_seconds` are over.

        Raises StoreUnavailable, or BadMessage when the stored data is at fault, not the server.
        """
        if not self._is_open:
            raise StoreUnavailable("the store connection is closed")
        loop = asyncio.get_running_loop()
        deadline = loop.time() + patience_seconds
        delay = FIRST_DELAY_SECONDS
        while True:
            try:
                answer = await _heeding_cancel(operation)
                # A server out of memory goes on to answer reads: only an operation that was refused before
                # shows that the outage is over.
                if self._is_away and delay > FIRST_DELAY_SECONDS:
                    self._is_away = False
                    log.info("Redis at %s answers again", self._server)
                return answer
            except _REFUSED as error:
                raise StoreUnavailable(explain(self._server, error)) from error
            except (exceptions.RedisError, OSError) as error:
                if bad := _data_error(error):
                    raise bad from error
                if not _is_passing(error) or loop.time() + delay > deadline:
                    raise StoreUnavailable(explain(self._server, error)) from error
                self._note_away(error)
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))
            delay = min(delay * 2, LONGEST_DELAY_SECONDS)

    def _note_away(self, error: BaseException) -> None:
        """Log an outage once, and not at all if the first connection fails."""
        if self._has_answered and not self._is_away:
            self._is_away = True
            log.warning("%s; trying again", explain(self._server, error))


def _is_passing(answer: object) -> bool:
    """Whether an error means a state of the server that may pass, by itself or with an operator's help."""
    if isinstance(answer, _PASSING):
        return True
    return type(answer) is exceptions.ResponseError and str(answer).startswith(_PASSING_CODES)


def _data_error(answer: object) -> BadMessage | None:
    """The error of an answer that blames the stored data: a key of the wrong type, a value that is no claim.

    None for other answers and errors. The server works; only operations on that key fail.
    """
    if type(answer) is not exceptions.ResponseError or _is_passing(answer):
        return None
    text = first_line(answer)
    if "WRONGTYPE" not in text and "user_script" not in text:
        return None
    return BadMessage(f"a key in Redis does not hold what it should: {text}")


async def _heeding_cancel(operation: Callable[[], Awaitable[T]]) -> T:
    """Run an operation, and make sure that a cancellation during it is not lost.

    redis-py sends under `asyncio.wait_for`, which in Python 3.11 loses a cancellation that arrives in the
    moment when everything is sent: a loop over the store would then never end.
    """
    task = asyncio.current_task()
    assert task is not None, "operations run in tasks"
    before = task.cancelling()
    answer = await operation()
    if task.cancelling() > before:
        raise asyncio.CancelledError
    return answer


def milliseconds(seconds: float) -> int:
    """Round a duration down to whole milliseconds, at least one: Redis refuses to expire a key after none."""
    return max(1, int(seconds * 1000))


def flatten(pairs: Mapping[Any, Any]) -> list[Any]:
    """Flatten a mapping to field, value, field, value."""
    return [item for pair in pairs.items() for item in pair]


def text_of(data: bytes) -> str:
    """Decode text that another program may have written."""
    return data.decode(errors="replace")
