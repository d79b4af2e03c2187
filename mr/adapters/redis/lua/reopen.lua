-- reopen v3: declare committed outputs lost; says what mr.protocol.claims.is_placed and reopen say.
-- KEYS: 1 job (hash), 2 claims (hash), 3 results of maps (hash), 4 locations of map outputs (hash)
-- ARGV: 1 epoch, 2 generation acknowledged before, then task id, lost attempt and the incarnation that held it
--       for each
-- Returns the job's new generation, or 'deposed' when a higher epoch wrote the job, or 'behind' when the
-- store has lost what it had acknowledged: nothing is changed then.
if tonumber(redis.call('HGET', KEYS[1], 'epoch') or '0') > tonumber(ARGV[1]) then
  return 'deposed'
end
if tonumber(redis.call('HGET', KEYS[1], 'generation') or '0') < tonumber(ARGV[2]) then
  return 'behind'
end
redis.call('HSET', KEYS[1], 'epoch', ARGV[1])
local open = redis.call('HEXISTS', KEYS[2], 'open') == 1
for i = 3, #ARGV, 3 do
  local packed = open and redis.call('HGET', KEYS[2], ARGV[i])
  local claim = packed and cmsgpack.unpack(packed)
  if claim and claim[3] > 0 and claim[3] == tonumber(ARGV[i + 1]) then
    local result = redis.call('HGET', KEYS[3], ARGV[i])
    if not result or cmsgpack.unpack(result).output.incarnation == ARGV[i + 2] then
      redis.call('HSET', KEYS[2], ARGV[i], cmsgpack.pack({claim[1], claim[1], 0, false, {}}))
      redis.call('HDEL', KEYS[3], ARGV[i])
      redis.call('HDEL', KEYS[4], ARGV[i])
    end
  end
end
return redis.call('HINCRBY', KEYS[1], 'generation', 1)
