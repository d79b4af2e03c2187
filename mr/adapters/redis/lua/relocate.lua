-- relocate v1: record that committed map outputs lie elsewhere; says what mr.protocol.claims.is_placed says.
-- KEYS: 1 claims (hash), 2 results of maps (hash), 3 locations of map outputs (hash)
-- ARGV: for each: task id, attempt, the result as it was read, the result with the new place, the location,
--       field and value of the place
-- Returns the ids of the tasks whose result is the new one now (also when it was already).
local relocated = {}
if redis.call('HEXISTS', KEYS[1], 'open') == 0 then
  return relocated
end
for i = 1, #ARGV, 7 do
  local task = ARGV[i]
  local packed = redis.call('HGET', KEYS[1], task)
  local result = redis.call('HGET', KEYS[2], task)
  local known = result == ARGV[i + 2] or result == ARGV[i + 3]
  if known and packed and cmsgpack.unpack(packed)[3] == tonumber(ARGV[i + 1]) then
    redis.call('HSET', KEYS[2], task, ARGV[i + 3])
    redis.call('HSET', KEYS[3], task, ARGV[i + 4], ARGV[i + 5], ARGV[i + 6])
    relocated[#relocated + 1] = task
  end
end
return relocated
