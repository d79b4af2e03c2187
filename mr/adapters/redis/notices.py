"""What is left for onlookers: which database this is, whether a coordinator lives, what was refused."""

import uuid

from mr.adapters.redis import keys
from mr.adapters.redis.client import RedisLink
from mr.adapters.redis.leadership import milliseconds
from mr.protocol.codec import pack, unpack
from mr.protocol.ids import JobId
from mr.protocol.records import MAX_REFUSALS, Refusal


class NoticeMethods:
    """The part of the store that belongs to no job that runs."""

    _link: RedisLink

    async def identity(self) -> str:
        """What tells this database from others."""
        await self._link.command("SET", keys.IDENTITY_KEY, uuid.uuid4().hex, "NX")
        identity: bytes = await self._link.command("GET", keys.IDENTITY_KEY) or b""
        return identity.decode(errors="replace")

    async def coordinator_silence(self) -> float | None:
        """Seconds since a coordinator last took or renewed the lead; 0 while somebody leads."""
        if await self._link.command("EXISTS", keys.LEADER_KEY):
            return 0.0
        age_ms = await self._link.script("leader_age", [keys.LEADER_SEEN_KEY], [])
        return None if age_ms is None else int(age_ms) / 1000

    async def put_refusal(self, refusal: Refusal, keep_seconds: float) -> None:
        """Keep the trace of a refused request, the newest of all."""
        arguments = [refusal.job_id, pack(refusal), milliseconds(keep_seconds), MAX_REFUSALS]
        await self._link.script("put_refusal", [keys.REFUSED_KEY, keys.REFUSED_INDEX_KEY], arguments)

    async def get_refusal(self, job: JobId) -> Refusal | None:
        """The refusal of the request that chose this id."""
        data = await self._link.command("HGET", keys.REFUSED_KEY, job)
        return None if data is None else unpack(data, Refusal)
