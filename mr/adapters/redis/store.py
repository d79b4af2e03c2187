"""The StateStore port on Redis."""

import uuid
from collections.abc import Sequence

from mr.adapters.acknowledged_writes import AcknowledgedWrites
from mr.adapters.lenient_reader import LenientReader
from mr.adapters.redis import keys
from mr.adapters.redis.claims import RedisClaims
from mr.adapters.redis.client import RedisClient, text_of
from mr.adapters.redis.code import RedisCode
from mr.adapters.redis.jobs import RedisJobs
from mr.adapters.redis.leadership import RedisLeadership
from mr.adapters.redis.scheduling import RedisScheduling
from mr.adapters.redis.workers import RedisWorkers
from mr.errors import StoreUnavailable
from mr.ports.store import StateStore
from mr.settings import Settings


class RedisStore(
    RedisLeadership, RedisCode, RedisScheduling, RedisJobs, RedisClaims, RedisWorkers, StateStore
):
    """All parts of the store, over one client. Raises BadSetting for a malformed URL."""

    def __init__(self, settings: Settings) -> None:
        self._reader = LenientReader()
        self._acknowledged = AcknowledgedWrites()
        self._client = RedisClient(
            settings.redis_url,
            connect_seconds=settings.connect_seconds,
            reconnect_seconds=settings.reconnect_seconds,
        )

    async def connect(self) -> None:
        await self._client.open()

    async def close(self) -> None:
        await self._client.close()

    async def server_time(self) -> float:
        seconds, microseconds = await self._client.command("TIME")
        return float(seconds) + float(microseconds) / 1_000_000

    async def identity(self) -> str:
        await self._client.command("SET", keys.IDENTITY_KEY, uuid.uuid4().hex, "NX")
        identity: bytes = await self._client.command("GET", keys.IDENTITY_KEY) or b""
        return text_of(identity)

    async def warnings(self) -> Sequence[str]:
        """As the port says; a single warning where the configuration may not be read."""
        try:
            persistence = await self._client.command("CONFIG GET", "appendonly")
            eviction = await self._client.command("CONFIG GET", "maxmemory-policy")
        except StoreUnavailable as error:
            return (f"the configuration of Redis cannot be checked ({error})",)
        warnings = []
        if persistence.get("appendonly") == "no":
            warnings.append(
                "Redis runs without appendonly: its restart loses the state of jobs (set appendonly yes)"
            )
        if eviction.get("maxmemory-policy", "noeviction") != "noeviction":
            warnings.append(
                f"Redis may evict keys ({eviction['maxmemory-policy']}): set maxmemory-policy noeviction"
            )
        return warnings
