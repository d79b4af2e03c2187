-- release v1: give an attempt's lease back; says what mr.protocol.claims.release says.
-- KEYS: 1 claims (hash)
-- ARGV: 1 task id, 2 attempt
-- Returns 1 when there was a claim, else 0.
local packed = redis.call('HGET', KEYS[1], ARGV[1])
if not packed then
  return 0
end
local claim = cmsgpack.unpack(packed)
local holders = {}
for _, holder in ipairs(claim[5]) do
  if holder[3] ~= tonumber(ARGV[2]) then
    holders[#holders + 1] = holder
  end
end
claim[5] = holders
redis.call('HSET', KEYS[1], ARGV[1], cmsgpack.pack(claim))
return 1
