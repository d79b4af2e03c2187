"""Who coordinates, and the code that jobs run: the parts of the store that belong to no job."""

import logging
import uuid

from mr.adapters.redis import keys
from mr.adapters.redis.client import RedisLink
from mr.errors import BadMessage, NotFound
from mr.protocol.codec import pack, unpack
from mr.protocol.ids import CodeId, is_id
from mr.protocol.jobs import CodeManifest

log = logging.getLogger(__name__)

#: Epochs are exact in Lua, whose numbers are doubles.
_EPOCH_DIGITS = 15


def milliseconds(seconds: float) -> int:
    """Cut a duration to whole milliseconds, at least one: no key of Redis expires after none."""
    return max(1, int(seconds * 1000))


class LeadMethods:
    """The coordinator's lease and epoch. They lie in different slots, so each has a script of its own."""

    _link: RedisLink

    async def acquire_lead(self, holder: str, lease_seconds: float, above_epoch: int) -> int | None:
        """Become the coordinator if none is, or if `holder` was already: a new epoch."""
        lease_ms = milliseconds(lease_seconds)
        if not await self._link.script("acquire_lead", [keys.LEADER_KEY], [holder, lease_ms]):
            return None
        await self._link.script("see_leader", [keys.LEADER_SEEN_KEY], [])
        return int(await self._link.script("next_epoch", [keys.EPOCH_KEY], [above_epoch, uuid.uuid4().hex]))

    async def renew_lead(self, holder: str, lease_seconds: float) -> bool:
        """Stay the coordinator; False when the lease was lost."""
        lease_ms = milliseconds(lease_seconds)
        if not await self._link.script("renew_lead", [keys.LEADER_KEY], [holder, lease_ms]):
            return False
        await self._link.script("see_leader", [keys.LEADER_SEEN_KEY], [])
        return True

    async def leader(self) -> str | None:
        """Who coordinates."""
        holder: bytes | None = await self._link.command("GET", keys.LEADER_KEY)
        return None if holder is None else holder.decode(errors="replace")

    async def last_epoch(self) -> int:
        """The highest epoch given so far."""
        stored: bytes = await self._link.command("GET", keys.EPOCH_KEY) or b"0"
        highest = stored.partition(b" ")[0]
        if not highest.isdigit() or len(highest) > _EPOCH_DIGITS:
            raise BadMessage(f"{keys.EPOCH_KEY} in Redis holds {stored[:40]!r}, no epoch; remove that key")
        return int(highest)

    async def release_lead(self, holder: str) -> None:
        """End the lead of `holder`."""
        await self._link.script("release_lead", [keys.LEADER_KEY], [holder])


class CodeMethods:
    """Code bundles by content, which expire, and their names, which keep them."""

    _link: RedisLink

    async def put_code(
        self, code: CodeId, bundle: bytes, manifest: CodeManifest, keep_seconds: float
    ) -> None:
        """Store a bundle and what was found in it."""
        arguments = [bundle, pack(manifest), milliseconds(keep_seconds)]
        await self._link.script("put_code", [keys.code_key(code)], arguments)

    async def keep_code(self, code: CodeId, keep_seconds: float) -> bool:
        """Keep stored code for at least so long."""
        return bool(await self._link.script("keep_code", [keys.code_key(code)], [milliseconds(keep_seconds)]))

    async def get_code(self, code: CodeId) -> bytes | None:
        """Fetch a bundle."""
        found: bytes | None = await self._link.command("HGET", keys.code_key(code), "bundle")
        return found

    async def register(self, name: str, manifest: CodeManifest, keep_seconds: float) -> None:
        """Give stored code a name. Raises NotFound.

        The registry and each code lie in different slots, so each has a step of its own: what a death between
        them leaves behind is code that is kept too long, never a name without its code.
        """
        code = CodeId(manifest.code_id)
        if not await self._link.script("name_code", [keys.code_key(code)], [name]):
            raise NotFound(f"the store has no code {code[:19]}... to be called {name}")
        field = (keys.REGISTRY_KEY, name)
        before, _ = await self._link.commands(
            [("HGET", *field), ("HSET", *field, pack(manifest))], atomic=True
        )
        replaced = None if before is None else _code_of(before)
        if replaced not in (None, code):
            script_keys = [keys.code_key(replaced)]
            await self._link.script("unname_code", script_keys, [name, milliseconds(keep_seconds)])

    async def registered(self, name: str) -> CodeManifest | None:
        """Look up a name or code id."""
        field = (keys.REGISTRY_KEY, name) if is_id(name) else (keys.code_key(CodeId(name)), "manifest")
        data = await self._link.command("HGET", *field)
        return None if data is None else unpack(data, CodeManifest)


def _code_of(manifest: bytes) -> CodeId | None:
    """The code that a name stood for; None where another version wrote that down."""
    try:
        return CodeId(unpack(manifest, CodeManifest).code_id)
    except BadMessage as error:
        log.warning("the code that had this name stays stored: %s", error)
        return None
