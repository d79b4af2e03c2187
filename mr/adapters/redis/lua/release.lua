-- release v2: give an attempt's lease back; says what mr.protocol.claims.release says.
-- KEYS: 1 claims (hash)
-- ARGV: 1 task id, 2 attempt, 3 released leases that are kept
-- Returns 1 when there was a claim, else 0.
local packed = redis.call('HGET', KEYS[1], ARGV[1])
if not packed then
  return 0
end
local claim = cmsgpack.unpack(packed)
local released, running = {}, {}
for _, holder in ipairs(claim[5]) do
  if holder[3] == tonumber(ARGV[2]) then
    holder[4] = 0
  end
  local list = holder[4] == 0 and released or running
  list[#list + 1] = holder
end
local holders = {}
for i = math.max(1, #released - tonumber(ARGV[3]) + 1), #released do
  holders[#holders + 1] = released[i]
end
for _, holder in ipairs(running) do
  holders[#holders + 1] = holder
end
claim[5] = holders
redis.call('HSET', KEYS[1], ARGV[1], cmsgpack.pack(claim))
return 1
