"""Code bundles by content, which expire, and their names, which keep them."""

from mr.adapters.memory.client import MemoryClient
from mr.adapters.memory.state import CodeEntry
from mr.errors import NotFound
from mr.ports.code import CodeStore
from mr.protocol.codec import pack, unpack
from mr.protocol.ids import CodeId, is_id
from mr.protocol.jobs import CodeManifest


class MemoryCode(MemoryClient, CodeStore):
    """The CodeStore port in memory."""

    def _find_code(self, code: CodeId) -> CodeEntry | None:
        entry = self._state().code.get(code)
        if entry is not None and not entry.names and entry.expires_at <= self._now():
            del self._state().code[code]
            return None
        return entry

    async def put_code(
        self, code: CodeId, bundle: bytes, manifest: CodeManifest, keep_seconds: float
    ) -> None:
        entry = self._find_code(code)
        if entry is None:
            entry = self._state().code[code] = CodeEntry(b"", b"", self._now() + keep_seconds)
        entry.bundle, entry.manifest = bytes(bundle), pack(manifest)
        await self.keep_code(code, keep_seconds)

    async def keep_code(self, code: CodeId, keep_seconds: float) -> bool:
        entry = self._find_code(code)
        if entry is None:
            return False
        entry.expires_at = max(entry.expires_at, self._now() + keep_seconds)
        return True

    async def get_code(self, code: CodeId) -> bytes | None:
        entry = self._find_code(code)
        return None if entry is None else entry.bundle

    async def register(self, name: str, manifest: CodeManifest, keep_seconds: float) -> None:
        code = CodeId(manifest.code_id)
        entry = self._find_code(code)
        if entry is None:
            raise NotFound(f"the store has no code {code[:19]}... to be called {name}")
        for other in self._state().code.values():
            if other is not entry and name in other.names:
                other.names.remove(name)
                other.expires_at = self._now() + keep_seconds
        entry.names.add(name)
        self._state().registry[name] = pack(manifest)

    async def registered(self, name: str) -> CodeManifest | None:
        if is_id(name):
            data = self._state().registry.get(name)
        else:
            entry = self._find_code(CodeId(name))
            data = None if entry is None else entry.manifest
        return None if data is None else unpack(data, CodeManifest)
