-- adopt_job v2: raise the epoch of an unfinished job, so that its earlier coordinator's writes are refused.
-- KEYS: 1 job (hash), 2 claims (hash)
-- ARGV: 1 epoch
-- Returns the job's new generation, 'ended' for a job that is over or unknown, or 'deposed' when a higher
-- epoch wrote it.
if redis.call('HEXISTS', KEYS[2], 'open') == 0 then
  return 'ended'
end
if tonumber(redis.call('HGET', KEYS[1], 'epoch') or '0') > tonumber(ARGV[1]) then
  return 'deposed'
end
redis.call('HSET', KEYS[1], 'epoch', ARGV[1])
return redis.call('HINCRBY', KEYS[1], 'generation', 1)
