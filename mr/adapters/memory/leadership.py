"""Who coordinates: a lease and an epoch."""

from mr.adapters.memory.client import MemoryClient
from mr.ports.leadership import LeadershipStore


class MemoryLeadership(MemoryClient, LeadershipStore):
    """The LeadershipStore port in memory."""

    async def acquire_lead(self, holder: str, lease_seconds: float, above_epoch: int) -> int | None:
        state, now = self._state(), self._now()
        if state.leader not in (None, holder) and state.leader_until > now:
            state.leader_until = min(state.leader_until, now + lease_seconds)
            return None
        state.leader, state.leader_until, state.leader_seen = holder, now + lease_seconds, now
        state.epoch = max(state.epoch, above_epoch) + 1
        return state.epoch

    async def renew_lead(self, holder: str, lease_seconds: float) -> bool:
        state, now = self._state(), self._now()
        if state.leader != holder or state.leader_until <= now:
            return False
        state.leader_until, state.leader_seen = now + lease_seconds, now
        return True

    async def leader(self) -> str | None:
        state = self._state()
        return state.leader if state.leader_until > self._now() else None

    async def last_epoch(self) -> int:
        return self._state().epoch

    async def release_lead(self, holder: str) -> None:
        state = self._state()
        if state.leader == holder:
            state.leader = None

    async def coordinator_silence(self) -> float | None:
        state, now = self._state(), self._now()
        if state.leader is not None and state.leader_until > now:
            return 0.0
        return None if state.leader_seen is None else max(0.0, now - state.leader_seen)
