-- relocate v2: record that committed map outputs lie elsewhere; equivalent to mr.protocol.claims.is_placed.
-- KEYS: 1 claims (hash), 2 results of maps (hash), 3 locations of map outputs (hash)
-- ARGV: for each: task id, attempt, the result as it was read, the result with the new place, the location,
--       field and value of the place
-- Returns the ids of the tasks that now have the new result (also those that had it already).
-- Outputs of an ended job that are kept may move, too.
-- uses: claims
local relocated = {}
for i = 1, #ARGV, 7 do
  local task = ARGV[i]
  local claim = read_claim(KEYS[1], task)
  local result = redis.call('HGET', KEYS[2], task)
  local known = result == ARGV[i + 2] or result == ARGV[i + 3]
  if known and claim and claim[3] == tonumber(ARGV[i + 1]) then
    redis.call('HSET', KEYS[2], task, ARGV[i + 3])
    redis.call('HSET', KEYS[3], task, ARGV[i + 4], ARGV[i + 5], ARGV[i + 6])
    relocated[#relocated + 1] = task
  end
end
return relocated
