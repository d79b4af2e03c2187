"""The StateStore port on Redis."""

from collections.abc import Sequence

from mr.adapters.acknowledged_writes import AcknowledgedWrites
from mr.adapters.lenient_reader import LenientReader
from mr.adapters.redis.claims import TaskMethods, WorkerMethods
from mr.adapters.redis.client import RedisLink
from mr.adapters.redis.jobs import JobReads, JobWrites
from mr.adapters.redis.leadership import CodeMethods, LeadMethods
from mr.adapters.redis.notices import NoticeMethods
from mr.adapters.redis.orders import OrderMethods
from mr.errors import StoreUnavailable
from mr.settings import Settings


class RedisStore(
    LeadMethods, NoticeMethods, CodeMethods, JobWrites, JobReads, TaskMethods, WorkerMethods, OrderMethods
):
    """All of the state store, over one link. Raises BadSetting for a URL that is none."""

    def __init__(self, settings: Settings) -> None:
        self._reader = LenientReader()
        self._acknowledged = AcknowledgedWrites()
        self._link = RedisLink(
            settings.redis_url,
            connect_seconds=settings.connect_seconds,
            reconnect_seconds=settings.reconnect_seconds,
        )

    async def connect(self) -> None:
        """Connect. Raises StoreUnavailable with the reason."""
        await self._link.open()

    async def close(self) -> None:
        """Disconnect."""
        await self._link.close()

    async def server_time(self) -> float:
        """Seconds since the epoch, by the server's clock."""
        seconds, microseconds = await self._link.command("TIME")
        return float(seconds) + float(microseconds) / 1_000_000

    async def warnings(self) -> Sequence[str]:
        """What about the server's configuration endangers the data; nothing where it may not be asked."""
        try:
            persistence = await self._link.command("CONFIG GET", "appendonly")
            eviction = await self._link.command("CONFIG GET", "maxmemory-policy")
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
