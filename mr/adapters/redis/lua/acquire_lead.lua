-- acquire_lead v2: take the coordinator's lease, if it is free or the holder's already.
-- KEYS: 1 leader (string, expires)
-- ARGV: 1 holder, 2 lease in milliseconds
-- Returns 1 when taken, 0 when another holds it.
local current = redis.call('GET', KEYS[1])
if current and current ~= ARGV[1] then
  -- A lease that would last longer was given before the clock was set back.
  local left_ms = redis.call('PTTL', KEYS[1])
  if left_ms < 0 or left_ms > tonumber(ARGV[2]) then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
  end
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
