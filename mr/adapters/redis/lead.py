"""Who coordinates, and the code that jobs run: the parts of the store that belong to no job."""

from mr.adapters.redis.link import RedisLink
from mr.protocol import names
from mr.protocol.codec import pack, unpack
from mr.protocol.ids import CodeId
from mr.protocol.jobs import CodeManifest


def milliseconds(seconds: float) -> int:
    """Cut a duration to whole milliseconds, at least one: no key of Redis expires after none."""
    return max(1, int(seconds * 1000))


class LeadMethods:
    """The coordinator's lease and epoch. They lie in different slots, so each has a script of its own."""

    _link: RedisLink

    async def acquire_lead(self, holder: str, lease_seconds: float, floor: int) -> int | None:
        """Become the coordinator if none is, or if `holder` was already: a new epoch."""
        lease_ms = milliseconds(lease_seconds)
        if not await self._link.script("acquire_lead", [names.LEADER_KEY], [holder, lease_ms]):
            return None
        return int(await self._link.script("next_epoch", [names.EPOCH_KEY], [floor]))

    async def renew_lead(self, holder: str, lease_seconds: float) -> bool:
        """Stay the coordinator; False when the lease was lost."""
        lease_ms = milliseconds(lease_seconds)
        return bool(await self._link.script("renew_lead", [names.LEADER_KEY], [holder, lease_ms]))

    async def last_epoch(self) -> int:
        """The highest epoch given so far."""
        return int(await self._link.command("GET", names.EPOCH_KEY) or 0)

    async def release_lead(self, holder: str) -> None:
        """Step down."""
        await self._link.script("release_lead", [names.LEADER_KEY], [holder])


class CodeMethods:
    """Code bundles by content, and their names."""

    _link: RedisLink

    async def put_code(self, code: CodeId, bundle: bytes) -> None:
        """Store a bundle under its content hash."""
        await self._link.command("SET", names.code_key(code), bundle)

    async def get_code(self, code: CodeId) -> bytes | None:
        """Fetch a bundle."""
        found: bytes | None = await self._link.command("GET", names.code_key(code))
        return found

    async def register(self, name: str, manifest: CodeManifest) -> None:
        """Give stored code a name."""
        await self._link.command("HSET", names.REGISTRY_KEY, name, pack(manifest))

    async def registered(self, name: str) -> CodeManifest | None:
        """Look up a name or code id."""
        data = await self._link.command("HGET", names.REGISTRY_KEY, name)
        return None if data is None else unpack(data, CodeManifest)
