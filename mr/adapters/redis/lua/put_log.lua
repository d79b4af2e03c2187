-- put_log v2: keep what an attempt printed, as long as the job's record is kept, up to a bound for the job.
-- KEYS: 1 job (hash), 2 logs (hash)
-- ARGV: 1 `task id/attempt`, 2 text, 3 most bytes of all texts of the job,
--       4 what is kept instead of the first text that exceeds them
-- Returns 1, or 0 when it is not kept: the job is not known, or its logs are full.
if redis.call('EXISTS', KEYS[1]) == 0 or redis.call('HEXISTS', KEYS[1], 'logs_full') == 1 then
  return 0
end
local text = ARGV[2]
local more_bytes = #text - redis.call('HSTRLEN', KEYS[2], ARGV[1])
if tonumber(redis.call('HGET', KEYS[1], 'logs_bytes') or '0') + more_bytes > tonumber(ARGV[3]) then
  redis.call('HSET', KEYS[1], 'logs_full', '1')
  text = ARGV[4]
else
  redis.call('HINCRBY', KEYS[1], 'logs_bytes', more_bytes)
end
redis.call('HSET', KEYS[2], ARGV[1], text)
local left_ms = redis.call('PTTL', KEYS[1])
if left_ms > 0 then
  redis.call('PEXPIRE', KEYS[2], left_ms)
end
return text == ARGV[2] and 1 or 0
