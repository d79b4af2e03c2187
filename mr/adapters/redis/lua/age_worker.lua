-- age_worker v1: count a worker's silence from now on, if its last heartbeat seems to lie in the future.
-- KEYS: 1 worker (hash, expires)
-- Returns 1 when it did, as the clock was set back since that heartbeat; else 0.
-- uses: time
local now = now_ms()
if tonumber(redis.call('HGET', KEYS[1], 'at_ms') or '0') <= now then
  return 0
end
redis.call('HSET', KEYS[1], 'at_ms', string.format('%d', now))
return 1
