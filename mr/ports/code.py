"""Code bundles: kept for a time after each use, and for good while they have a name."""

from typing import Protocol

from mr.protocol.ids import CodeId
from mr.protocol.jobs import CodeManifest


class CodeStore(Protocol):
    """Bundles by content hash, and the names that requests may use for them."""

    async def put_code(
        self, code: CodeId, bundle: bytes, manifest: CodeManifest, keep_seconds: float
    ) -> None:
        """Store a bundle and its manifest for at least `keep_seconds` (idempotent)."""

    async def keep_code(self, code: CodeId, keep_seconds: float) -> bool:
        """Keep stored code for at least so long from now. False: the store does not have it."""

    async def get_code(self, code: CodeId) -> bytes | None:
        """Fetch a bundle; None when the store does not have it."""

    async def register(self, name: str, manifest: CodeManifest, keep_seconds: float) -> None:
        """Give stored code a name. The code that had it is kept for `keep_seconds`, unless it has others.

        Raises NotFound when the store has no such code.
        """

    async def registered(self, name: str) -> CodeManifest | None:
        """Look up a name or a code id."""
