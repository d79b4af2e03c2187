"""Who coordinates: a lease and an epoch, each with its own scripts, as they lie in different slots."""

import uuid

from mr.adapters.redis import keys
from mr.adapters.redis.client import RedisClient, milliseconds, text_of
from mr.errors import BadMessage
from mr.ports.leadership import LeadershipStore

#: Up to so many digits, epochs are exact in Lua, whose numbers are doubles.
_EPOCH_DIGITS = 15


class RedisLeadership(LeadershipStore):
    """The LeadershipStore port on Redis."""

    _client: RedisClient

    async def acquire_lead(self, holder: str, lease_seconds: float, above_epoch: int) -> int | None:
        lease_ms = milliseconds(lease_seconds)
        if not await self._client.script("acquire_lead", [keys.LEADER_KEY], [holder, lease_ms]):
            return None
        await self._client.script("see_leader", [keys.LEADER_SEEN_KEY], [])
        return int(await self._client.script("next_epoch", [keys.EPOCH_KEY], [above_epoch, uuid.uuid4().hex]))

    async def renew_lead(self, holder: str, lease_seconds: float) -> bool:
        lease_ms = milliseconds(lease_seconds)
        if not await self._client.script("renew_lead", [keys.LEADER_KEY], [holder, lease_ms]):
            return False
        await self._client.script("see_leader", [keys.LEADER_SEEN_KEY], [])
        return True

    async def leader(self) -> str | None:
        holder: bytes | None = await self._client.command("GET", keys.LEADER_KEY)
        return None if holder is None else text_of(holder)

    async def last_epoch(self) -> int:
        stored: bytes = await self._client.command("GET", keys.EPOCH_KEY) or b"0"
        highest = stored.partition(b" ")[0]
        if not highest.isdigit() or len(highest) > _EPOCH_DIGITS:
            raise BadMessage(
                f"{keys.EPOCH_KEY} in Redis holds {stored[:40]!r}, which is no epoch; remove that key"
            )
        return int(highest)

    async def release_lead(self, holder: str) -> None:
        await self._client.script("release_lead", [keys.LEADER_KEY], [holder])

    async def coordinator_silence(self) -> float | None:
        if await self._client.command("EXISTS", keys.LEADER_KEY):
            return 0.0
        age_ms = await self._client.script("leader_age", [keys.LEADER_SEEN_KEY], [])
        return None if age_ms is None else int(age_ms) / 1000
