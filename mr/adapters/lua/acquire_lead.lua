-- acquire_lead v1: take the coordinator's lease if it is free or already the holder's.
-- KEYS: 1 leader (string, expires)
-- ARGV: 1 holder, 2 lease in milliseconds
-- Returns 1 when taken, 0 when another holds it.
local current = redis.call('GET', KEYS[1])
if current and current ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
