"""A Redis whose time a test moves: what is stored grows older, under the real scripts and their clock."""

from typing import Any

import redis

from mr.adapters.redis import keys
from mr.protocol.claims import Claim
from mr.protocol.codec import unpack
from mr.protocol.ids import JobId, TaskId, TaskKind
from mr.protocol.jobs import JobSpec, Split
from mr.protocol.locations import PackedOutputs
from tests.contract.store_steps import UNIT_SECONDS

#: Makes everything that holds a time of the server, or a time to live, older by so many milliseconds.
_AGE = """
local by = tonumber(ARGV[1])
local function older(key, field)
  local at = redis.call('HGET', key, field)
  if at then redis.call('HSET', key, field, string.format('%d', tonumber(at) - by)) end
end
for _, key in ipairs(redis.call('KEYS', '*')) do
  local left = redis.call('PTTL', key)
  if left >= 0 then
    if left - by > 0 then redis.call('PEXPIRE', key, left - by) else redis.call('DEL', key) end
  end
  if string.find(key, '}:claims$') then
    for _, task in ipairs(redis.call('HKEYS', key)) do
      if task ~= 'open' then
        local claim = cmsgpack.unpack(redis.call('HGET', key, task))
        for _, holder in ipairs(claim[5]) do
          if holder[4] ~= 0 then holder[4] = math.max(1, holder[4] - by) end
        end
        redis.call('HSET', key, task, cmsgpack.pack(claim))
      end
    end
  elseif string.find(key, '^mr:worker:') then
    older(key, 'at_ms')
    older(key, 'former_ms')
  elseif key == 'mr:workers' then
    for _, worker in ipairs(redis.call('ZRANGE', key, 0, -1)) do redis.call('ZINCRBY', key, -by, worker) end
  elseif key == 'mr:leader:seen' then
    redis.call('SET', key, string.format('%d', tonumber(redis.call('GET', key)) - by))
  end
end
"""


class AgedRedis:
    """One database: its time moves, and it can be put back into an earlier state."""

    def __init__(self, url: str) -> None:
        self._redis: Any = redis.Redis.from_url(url)
        #: By how much everything was made older so far.
        self._seconds = 0.0

    def close(self) -> None:
        """Disconnect."""
        self._redis.close()

    def advance(self, seconds: float) -> None:
        """Let time pass; negative: the clock is set back."""
        self._seconds += seconds
        self._redis.eval(_AGE, 0, int(seconds * 1000))

    def empty(self) -> None:
        """Lose everything."""
        self._redis.flushdb()

    def snapshot(self) -> Any:
        """Everything as it is now, for `go_back`."""
        names = self._redis.keys("*")
        return self._seconds, [(name, self._redis.pttl(name), self._redis.dump(name)) for name in names]

    def go_back(self, snapshot: Any) -> None:
        """Return to an earlier state; time goes on."""
        then, stored = snapshot
        self._redis.flushdb()
        for name, left_ms, data in stored:
            self._redis.restore(name, max(left_ms, 0), data)
        self._redis.eval(_AGE, 0, int((self._seconds - then) * 1000))

    def now(self) -> float:
        """The server's clock, in seconds."""
        seconds, microseconds = self._redis.time()
        return float(seconds + microseconds / 1e6)

    def job(self, job: JobId) -> dict[str, Any]:
        """All that is stored of a job; empty for an unknown one."""
        pipeline = self._redis.pipeline(transaction=True)
        hashes = [keys.job_key, keys.claims_key, keys.splits_key, keys.tasks_key, keys.logs_key]
        hashes += [keys.locations_key]
        for key in hashes:
            pipeline.hgetall(key(job))
        for kind in TaskKind:
            pipeline.hgetall(keys.results_key(job, kind))
        pipeline.get(keys.spec_key(job))
        everything = [key(job) for key in (*hashes, keys.spec_key)]
        everything += [keys.results_key(job, kind) for kind in TaskKind]
        for name in everything:
            pipeline.pttl(name)
        facts, claims, splits, tasks, logs, locations, maps, reduces, spec, *left = pipeline.execute()
        lasting = {ms for ms in left if ms != -2}
        if not lasting:
            return {}
        packed = PackedOutputs(
            sum(not field.startswith(b"@") for field in locations),
            b"\xdd" + len(locations).to_bytes(4, "big") + b"".join(locations.values()),
        )
        return {
            "record": facts.get(b"record", b""),
            "epoch": int(facts.get(b"epoch", 0)),
            "generation": int(facts.get(b"generation", 0)),
            "logs_bytes": int(facts.get(b"logs_bytes", 0)),
            "logs_full": b"logs_full" in facts,
            "open": b"open" in claims,
            "claims": {_task(k): unpack(v, Claim) for k, v in claims.items() if k != b"open"},
            "splits": {_task(k): unpack(v, Split) for k, v in splits.items()},
            "tasks": {_task(k): v for k, v in tasks.items()},
            "logs": {k.decode(): v for k, v in logs.items()},
            "results": {_task(k): v for k, v in {**maps, **reduces}.items()},
            "outputs": packed.unpack(job),
            "spec": None if spec is None else unpack(spec, JobSpec),
            "left_seconds": sorted(
                {None if ms < 0 else round(ms / UNIT_SECONDS / 1000) for ms in lasting}, key=str
            ),
        }


def _units(left_ms: int) -> int | None:
    return None if left_ms < 0 else round(left_ms / 1000 / UNIT_SECONDS)


def _task(field: bytes) -> TaskId:
    return TaskId(field.decode())
