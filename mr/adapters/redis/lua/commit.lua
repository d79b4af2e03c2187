-- commit v3: make an attempt the one that counts; equivalent to mr.protocol.claims.commit.
-- KEYS: 1 claims (hash), 2 results of the task's kind (hash), 3 locations of map outputs (hash)
-- ARGV: 1 task id, 2 attempt, 3 result, 4 how often the job had been resumed when the attempt was
--       granted, then field and value of each location that a map output adds
-- Returns 1 (also when the same result is sent twice), or 0: another attempt counts, the output was lost, or
-- the job is over or was resumed since. A store that came back older may give a number twice: of two such
-- attempts the first counts.
-- uses: claims
local claim = is_open(KEYS[1]) and read_claim(KEYS[1], ARGV[1])
if not claim or times_resumed(KEYS[1]) ~= tonumber(ARGV[4]) then
  return 0
end
local attempt = tonumber(ARGV[2])
if claim[3] == attempt then
  return redis.call('HGET', KEYS[2], ARGV[1]) == ARGV[3] and 1 or 0
end
if claim[3] > 0 or attempt <= claim[2] or attempt > claim[1] then
  return 0
end
write_claim(KEYS[1], ARGV[1], {claim[1], claim[2], attempt, false, {}})
redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
for i = 5, #ARGV, 2 do
  redis.call('HSET', KEYS[3], ARGV[i], ARGV[i + 1])
end
return 1
