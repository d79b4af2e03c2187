"""Code bundles by content, which expire, and their names, which keep them."""

import logging

from mr.adapters.redis import keys
from mr.adapters.redis.client import RedisClient, milliseconds
from mr.errors import BadMessage, NotFound
from mr.ports.code import CodeStore
from mr.protocol.codec import pack, unpack
from mr.protocol.ids import CodeId, is_id
from mr.protocol.jobs import CodeManifest

log = logging.getLogger(__name__)


class RedisCode(CodeStore):
    """The CodeStore port on Redis."""

    _client: RedisClient

    async def put_code(
        self, code: CodeId, bundle: bytes, manifest: CodeManifest, keep_seconds: float
    ) -> None:
        arguments = [bundle, pack(manifest), milliseconds(keep_seconds)]
        await self._client.script("put_code", [keys.code_key(code)], arguments)

    async def keep_code(self, code: CodeId, keep_seconds: float) -> bool:
        return bool(
            await self._client.script("keep_code", [keys.code_key(code)], [milliseconds(keep_seconds)])
        )

    async def get_code(self, code: CodeId) -> bytes | None:
        found: bytes | None = await self._client.command("HGET", keys.code_key(code), "bundle")
        return found

    async def register(self, name: str, manifest: CodeManifest, keep_seconds: float) -> None:
        """As the port says, in steps: in a cluster the registry and each bundle lie in different slots.

        A crash between the steps leaves code that is kept too long, never a name without its code.
        """
        code = CodeId(manifest.code_id)
        if not await self._client.script("name_code", [keys.code_key(code)], [name]):
            raise NotFound(f"the store has no code {code[:19]}... to be called {name}")
        field = (keys.REGISTRY_KEY, name)
        before, _ = await self._client.commands(
            [("HGET", *field), ("HSET", *field, pack(manifest))], atomic=True
        )
        replaced = None if before is None else _code_of(before)
        if replaced not in (None, code):
            script_keys = [keys.code_key(replaced)]
            await self._client.script("unname_code", script_keys, [name, milliseconds(keep_seconds)])

    async def registered(self, name: str) -> CodeManifest | None:
        field = (keys.REGISTRY_KEY, name) if is_id(name) else (keys.code_key(CodeId(name)), "manifest")
        data = await self._client.command("HGET", *field)
        return None if data is None else unpack(data, CodeManifest)


def _code_of(manifest: bytes) -> CodeId | None:
    """The code that a name stood for; None when another version wrote it and it cannot be read."""
    try:
        return CodeId(unpack(manifest, CodeManifest).code_id)
    except BadMessage as error:
        log.warning("the code that had this name stays stored: %s", error)
        return None
