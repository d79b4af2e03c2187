-- speculate v2: allow tasks a second holder; says what mr.protocol.claims.speculate says.
-- KEYS: 1 job (hash), 2 claims (hash)
-- ARGV: 1 epoch, 2 generation acknowledged before, then the task ids
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
for i = 3, open and #ARGV or 0 do
  local packed = redis.call('HGET', KEYS[2], ARGV[i])
  local claim = packed and cmsgpack.unpack(packed) or {0, 0, 0, false, {}}
  if claim[3] == 0 then
    claim[4] = true
    redis.call('HSET', KEYS[2], ARGV[i], cmsgpack.pack(claim))
  end
end
return redis.call('HINCRBY', KEYS[1], 'generation', 1)
