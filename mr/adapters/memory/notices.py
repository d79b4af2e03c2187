"""What is left for onlookers: which store this is, whether a coordinator lives, what was refused."""

import uuid
from collections.abc import Callable

from mr.adapters.memory.state import MemoryStoreServer
from mr.protocol.codec import pack, unpack
from mr.protocol.ids import JobId
from mr.protocol.records import MAX_REFUSALS, Refusal


class NoticeMethods:
    """The part of the memory store that belongs to no job that runs."""

    _now: Callable[[], float]
    _state: Callable[[], MemoryStoreServer]

    async def identity(self) -> str:
        """What tells this store from others."""
        state = self._state()
        state.identity = state.identity or uuid.uuid4().hex
        return state.identity

    async def coordinator_silence(self) -> float | None:
        """Seconds since a coordinator last took or renewed the lead; 0 while somebody leads."""
        state, now = self._state(), self._now()
        if state.leader is not None and state.leader_until > now:
            return 0.0
        return None if state.leader_seen is None else max(0.0, now - state.leader_seen)

    async def put_refusal(self, refusal: Refusal, keep_seconds: float) -> None:
        """Keep the trace of a refused request, the newest of all."""
        refusals = self._state().refusals
        refusals.pop(refusal.job_id, None)
        refusals[refusal.job_id] = (pack(refusal), self._now() + keep_seconds)
        for oldest in list(refusals)[:-MAX_REFUSALS]:
            del refusals[oldest]

    async def get_refusal(self, job: JobId) -> Refusal | None:
        """The refusal of the request that chose this id."""
        packed, until = self._state().refusals.get(job, (b"", 0.0))
        return unpack(packed, Refusal) if until > self._now() else None
