"""Who coordinates: a lease and an epoch."""

from collections.abc import Callable

from mr.adapters.memory.state import MemoryStoreServer


class LeadMethods:
    """The part of the memory store that knows who leads."""

    _now: Callable[[], float]
    _state: Callable[[], MemoryStoreServer]

    async def acquire_lead(self, holder: str, lease_seconds: float, above_epoch: int) -> int | None:
        """Become the coordinator if none is, or if `holder` was already: a new epoch."""
        state, now = self._state(), self._now()
        if state.leader not in (None, holder) and state.leader_until > now:
            state.leader_until = min(state.leader_until, now + lease_seconds)
            return None
        state.leader, state.leader_until, state.leader_seen = holder, now + lease_seconds, now
        state.epoch = max(state.epoch, above_epoch) + 1
        return state.epoch

    async def renew_lead(self, holder: str, lease_seconds: float) -> bool:
        """Stay the coordinator; False when the lease was lost."""
        state, now = self._state(), self._now()
        if state.leader != holder or state.leader_until <= now:
            return False
        state.leader_until, state.leader_seen = now + lease_seconds, now
        return True

    async def leader(self) -> str | None:
        """Who coordinates."""
        state = self._state()
        return state.leader if state.leader_until > self._now() else None

    async def last_epoch(self) -> int:
        """The highest epoch given so far."""
        return self._state().epoch

    async def release_lead(self, holder: str) -> None:
        """End the lead of `holder`."""
        state = self._state()
        if state.leader == holder:
            state.leader = None
