-- put_log v1: keep what an attempt printed, as long as the job's record is kept.
-- KEYS: 1 job (hash), 2 logs (hash)
-- ARGV: 1 `task id/attempt`, 2 text
-- Returns 1, or 0 when the job is not known.
if redis.call('EXISTS', KEYS[1]) == 0 then
  return 0
end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
local left_ms = redis.call('PTTL', KEYS[1])
if left_ms > 0 then
  redis.call('PEXPIRE', KEYS[2], left_ms)
end
return 1
